"""Checks on a machine that holds only some of a model's layers."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inference import LoadError
from inference.compare import Verdict
from protocol.manifest import Manifest, ModelShelf
from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, execution_class_id
from protocol.sampling import SamplingParameters
from protocol.units import LayerRange
from protocol.vectors import counted
from verifier.checks import Replayers, check
from verifier.evidence import Evidence, EvidenceClient


@pytest.fixture(scope="module")
def first_third(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's manifest and table, and of its weights only the embedding and layers 0-10."""
    folder = tmp_path_factory.mktemp("shelf") / "part"
    shutil.copytree(model_dir, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with safe_open(model_dir / "model.safetensors", framework="pt") as tensors:
        kept = [name for name in tensors.keys() if "layers." not in name or int(name.split("layers.")[1].split(".")[0]) < 10]  # noqa: SIM118
        save_file({name: tensors.get_tensor(name) for name in kept}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_replayer__part_of_a_model__loads_the_stages_that_are_there(first_third: Path) -> None:
    replayer = Replayers(ModelShelf(first_third.parent)).of(Manifest.read(first_third).model_id)
    assert replayer is not None
    rows = replayer.stage(LayerRange(0, 10), "float32").replay(torch.tensor([1, 2, 3]))
    assert rows.reference.shape[0] == 3
    with pytest.raises(LoadError, match="10-20"):
        replayer.stage(LayerRange(10, 20), "float32")


class Served(EvidenceClient):
    """Evidence as it comes from a provider, without one: what is looked at here is what becomes of it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    async def rows(self, *_: object) -> Evidence:  # type: ignore[override]
        return self.evidence


def test_check__of_layers_that_are_not_here__accuses_nobody(first_third: Path) -> None:
    model_id = Manifest.read(first_third).model_id
    receipt = replace(counted(StageReceipt, 1), model_id=model_id, first_layer=10, end_layer=20)
    offer = replace(counted(SessionOffer, 1), execution_class=execution_class_id("float32/sdpa"), first_position=0)
    evidence = Evidence(receipt, counted(Checkpoint, 1), offer, SamplingParameters(), [bytes(4 * 576)], [])
    committed: list[bytes] = []
    replayers = Replayers(ModelShelf(first_third.parent))
    found = asyncio.run(check(Served(evidence), replayers, receipt.provider, 1, b"", -1, lambda *said: committed.extend(said)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail is not None
    assert "10-20" in str(found.detail["reason"])
    assert committed == []
