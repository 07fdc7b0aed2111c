"""Shared parts: the model, one network for the whole run, a small chain of its own for what must not disturb it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from funcnet import model
from funcnet.actors import Wallet, give_gas
from funcnet.network import PLANS, Network, ProviderPlan
from protocol.units import FUNC

MORE_SPARES = (
    ProviderPlan("spare-first", "0-10", 110 * FUNC, 220 * FUNC),
    ProviderPlan("spare-last", "20-30", 110 * FUNC, 220 * FUNC),
)
ROOT = Path(".funcnet").resolve()


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The bundled model, prepared."""
    return model.prepare_bundled(ROOT, print).resolve()


@pytest.fixture(scope="session")
def encoder_dir() -> Path:
    """A model that makes vectors, prepared: all-MiniLM-L6-v2 (Apache-2.0)."""
    (name,) = model.ENCODERS
    folder = ROOT / "models" / name
    if not (folder / "tolerance.json").is_file():
        model.run_prepare(model.fetch(name, ROOT), folder)
    return folder


def fresh_network(root: Path, model_dir: Path, plans: tuple[ProviderPlan, ...], keep: bool = False) -> Network:
    shutil.rmtree(root, ignore_errors=True)
    return Network(root, model_dir, print, plans, keep=keep)


@pytest.fixture(scope="session")
def network(model_dir: Path) -> Iterator[Network]:
    """The network that every test shares: three stages with a spare each, three verifiers, a gateway, an indexer."""
    network = fresh_network(ROOT / "test", model_dir, (*PLANS, *MORE_SPARES), keep=True)
    try:
        network.start()
        yield network
    finally:
        network.stop()


@pytest.fixture(scope="session")
def small(model_dir: Path) -> Iterator[Network]:
    """A chain with the contracts and a database, nothing else; tests may reorganise it."""
    network = fresh_network(ROOT / "test-small", model_dir, ())
    try:
        network.start_core()
        give_gas(network.chain, network.address("treasury"))
        yield network
    finally:
        network.stop()


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet.ensure(tmp_path / "wallet.json")
