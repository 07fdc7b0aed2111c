"""A stage whose keys and values are at another agent of its operator: that one goes on from them, be it that the first dies or that it hands over."""

import hashlib
from collections.abc import Iterator

import msgspec
import openai
import pytest
import torch

from funcnet.network import Network, ProviderPlan
from inference.portable import BLOCK_ROWS, ROWS_OUT, KvBlocks
from protocol.chain import struct_values
from protocol.keystore import read_account
from protocol.manifest import Manifest
from protocol.receipts import KvShipment
from protocol.stage_rpc import StageClient, StageRefused
from protocol.typed import Signed
from protocol.units import FUNC, LayerRange
from tests.network.asking import ask, extra, job_once, receipts_of

pytestmark = pytest.mark.slow
SHIPS, STANDS_BY = "ships", "stands-by"
LONG = [{"role": "user", "content": "Say in many words what a river is and where it comes from. " * 6}]


@pytest.fixture(scope="module")
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)


@pytest.fixture(scope="module", autouse=True)
def pair(network: Network) -> Iterator[None]:
    """Two agents of one operator; nobody else is given their work, as they are dear."""
    network.add_provider(ProviderPlan(SHIPS, "10-20", 130 * FUNC, 260 * FUNC))
    network.add_provider(ProviderPlan(STANDS_BY, "10-20", 140 * FUNC, 250 * FUNC, cached_price=0))
    network.restart_provider(STANDS_BY, kv_from=network.address(SHIPS))
    network.restart_provider(SHIPS, standby=network.address(STANDS_BY))
    yield
    for name in (SHIPS, STANDS_BY):
        network.supervisor.stop(name)


def tell(network: Network, client: openai.OpenAI, then: object = None) -> dict[str, object]:
    """Stream an answer by the agent that ships, and do something in its middle; what the last chunk says."""
    order = {"provider": {"order": [network.address(name) for name in ("provider-1", SHIPS, "provider-3")]}}
    told: dict[str, object] = {}
    for count, chunk in enumerate(ask(client, messages=LONG, max_tokens=40, stream=True, extra_body=order)):
        if count == 20 and callable(then):
            then()
        told = dict((chunk.model_extra or {}).get("function_network") or told)
    return told


def tell_by_ships(network: Network, client: openai.OpenAI, then: object = None) -> dict[str, object]:
    """The same, once the gateway gives that agent work."""
    found: dict[str, object] = {}

    def served() -> bool:
        found.clear()
        found.update(tell(network, client, then))
        return network.address(SHIPS) in {receipt.provider for receipt in receipts_of(found)} | set(found["replaced"])  # type: ignore[call-overload]

    network.wait(served, 60, "work for the agent that ships")
    return found


@pytest.fixture(scope="module")
def text(client: openai.OpenAI) -> list[int]:
    return list(extra(ask(client, messages=LONG, max_tokens=40))["token_ids"])


def went_on(network: Network) -> list[str]:
    log = (network.root / "logs" / f"{STANDS_BY}.log").read_text()
    return [line for line in log.splitlines() if "goes on from shipped keys and values" in line]


def test_standby__of_a_stage_that_dies__goes_on_from_its_keys_and_values(network: Network, client: openai.OpenAI, text: list[int]) -> None:
    before = len(went_on(network))
    told = tell_by_ships(network, client, lambda: network.supervisor.kill(SHIPS))
    try:
        assert told["token_ids"] == text
        assert told["replaced"] == [network.address(SHIPS)]
        assert network.address(STANDS_BY) in {receipt.provider for receipt in receipts_of(told)}
        (line,) = went_on(network)[before:]
        first, end = (int(part) for part in line.rpartition("rows=")[2].split("-"))
        assert first == 0
        assert end >= len(LONG[0]["content"].split())  # the prompt's rows at least were not run again
        assert end % BLOCK_ROWS == 0
    finally:
        network.heal()
        network.wait_provider(SHIPS)


def test_stage__that_hands_over__leaves_the_job_to_its_standby_after_the_first_token(
    network: Network, client: openai.OpenAI, text: list[int]
) -> None:
    network.restart_provider(SHIPS, standby=network.address(STANDS_BY), hand_over=True)
    before = len(went_on(network))
    told = tell_by_ships(network, client)
    assert told["token_ids"] == text
    assert told["replaced"] == [network.address(SHIPS)]
    by = {receipt.provider: receipt for receipt in receipts_of(job_once(network, str(told["job_id"]), "anchored"))}
    assert by[network.address(STANDS_BY)].completion_tokens == len(text) - 1
    assert by[network.address(SHIPS)].completion_tokens == 1
    # What it did not run costs nothing there, else the gateway would not have agreed.
    rate = 250 * FUNC
    assert by[network.address(STANDS_BY)].amount == (len(text) - 1) * rate // 1_000_000
    assert len(went_on(network)) == before + 1


async def test_standby__what_is_not_its_operators__is_refused_and_changes_nothing(network: Network) -> None:
    wallets = {name: network.wallet(f"{name}-operator") for name in (SHIPS, "provider-2")}
    operators = {name: read_account(wallet.path, wallet.password_file.read_text()) for name, wallet in wallets.items()}
    manifest, domain = Manifest.read(network.model_dir), network.chain.receipts_domain
    states = {f"layers.{i}.{part}": torch.zeros(3, BLOCK_ROWS, 64) for i in range(10, 20) for part in ("keys", "values")}
    good = KvBlocks(manifest.model_id, LayerRange(10, 20), "float32", 0, (bytes(32),), {**states, ROWS_OUT: torch.zeros(BLOCK_ROWS, 576)})

    def packet(file: bytes, signer: str = SHIPS, provider: str = SHIPS, standby: str = STANDS_BY, job: int = 1, sent: bytes | None = None) -> bytes:
        what = KvShipment(bytes([job]) * 32, network.address(provider), network.address(standby), 0, BLOCK_ROWS, hashlib.sha256(file).digest())
        header = msgspec.json.encode(Signed.of(what, what.sign(domain, bytes(operators[signer].key))))
        return len(header).to_bytes(4, "little") + header + (file if sent is None else sent)

    file = good.encode()
    late = KvBlocks(good.model_id, good.layers, good.dtype, BLOCK_ROWS, good.hashes, good.tensors).encode()
    other = KvBlocks(good.model_id, LayerRange(0, 10), good.dtype, 0, good.hashes, good.tensors).encode()
    info = struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", network.address(STANDS_BY)))
    client = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        for raw, words in (
            (packet(file, signer="provider-2", provider="provider-2"), "FUNCNET_KV_FROM"),
            (packet(file, signer="provider-2"), "is no operator of"),
            (packet(file, standby="spare"), "is for another provider"),
            (packet(file, sent=file[:-1] + b"x"), "not the one that is signed for"),
            (packet(late), "those from 0 on are missing"),
            (packet(other), "do not fit layers 10-20"),
            (packet(b"no file"), "are no file of keys and values"),
            (b"", "JSON|truncated|Input"),
            (b"\xff" * 40, "JSON|invalid|Input"),
        ):
            with pytest.raises(StageRefused, match=words):
                await client.ship(raw)
        await client.ship(packet(file))
        with pytest.raises(StageRefused, match="those from 16 on are missing"):
            await client.ship(packet(file))
    finally:
        await client.close()


def test_rebalance__agent_that_follows__serves_the_layers_that_are_needed_more(network: Network, client: openai.OpenAI, text: list[int]) -> None:
    network.restart_provider(STANDS_BY, layers="auto")
    plan, wallet = next(plan for plan in network.plans if plan.name == STANDS_BY), network.wallet(STANDS_BY)
    cold = ("--cold-keystore", str(wallet.path), "--cold-password-file", str(wallet.password_file), "--json")
    would = network.run_agent(plan, "rebalance", *cold, "--dry-run")
    assert (would["layers"], "offered" in would) == ("10-20", False)
    moved = network.run_agent(plan, "rebalance", *cold)
    assert moved["better"] == would["better"] not in ("", "10-20")
    log = network.root / "logs" / f"{STANDS_BY}.log"
    network.wait(lambda: f"layers={moved['better']}" in log.read_text().rpartition("other layers are offered now")[2], 60, "a stage of other layers")

    only = {"provider": {"order": [network.address(STANDS_BY)]}}

    def serves() -> bool:
        told = extra(ask(client, messages=LONG, max_tokens=40, extra_body=only))
        assert told["token_ids"] == text
        return network.address(STANDS_BY) in {receipt.provider for receipt in receipts_of(told)}

    network.wait(serves, 60, "work for the agent that moved")
    assert network.run_agent(plan, "rebalance", *cold)["better"] == ""
