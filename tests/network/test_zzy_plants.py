"""A planted fault on the shared network: lazy verifiers pass it, decide nothing or have nothing to show and are fined, an honest one finds it and is
paid, and the provider who served it on the treasury's behalf loses nothing.

``FUNCNET_LAZY`` names one or two lazy verifiers at a time, as in ``passes-all,passes-all+skips``, and ``FUNCNET_TEST_BROKER`` the honest one's
broker, ``redis`` or ``rabbitmq``; ``make test-long`` runs more.
"""

import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from funcnet.network import Network
from funcnet.plants import Settlement, note
from protocol.chain import struct_values
from protocol.plants import Answer, Plant
from tests.brokers import broker
from tests.network.asking import ask, extra, payer_of_its_own

pytestmark = pytest.mark.slow

KINDS = [tuple(pair.split("+")) for pair in os.environ.get("FUNCNET_LAZY", "passes-all").split(",")]
SAYS = {"honest": Answer.FOUND, "passes-all": Answer.PASSED, "copies": Answer.PASSED, "skips": Answer.SILENT, "decides-nothing": Answer.UNDECIDED}
BROKER = os.environ.get("FUNCNET_TEST_BROKER", "redis")
SERVED_BY = "spare-last"
"""Hardly any receipts, so that its audit rate is nearly a newcomer's and each verifier nearly sure to be drawn."""
MOST_PLANTS, SETTLE_SECONDS = 4, 300


@pytest.fixture(scope="module", autouse=True)
def spare_at_the_end(network: Network) -> Iterator[None]:
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    provider = network.address("provider-3")
    ask(client, max_tokens=2, extra_body={"provider": {"order": [network.address("provider-1"), network.address("provider-2"), provider]}})
    network.wait(lambda: network.chain.call("CommitmentLog", "batchCount", provider), 60, "a batch of provider-3")
    network.supervisor.stop("provider-3")
    # The honest verifier's worker hears of its work over another broker than elsewhere.
    with broker(BROKER, network.root / BROKER) as url:
        network.restart_verifier(1, broker_url=url)
        yield
        for i in (1, 2, 3):
            network.restart_verifier(i)
    network.start_provider("provider-3")
    network.wait_provider("provider-3")


def shown(network: Network) -> dict[str, Any]:
    """What the indexer tells of each verifier, by address."""
    return {entry["verifier"]: entry for entry in network.indexed("/v1/verifiers")["data"]}


def shown_status(network: Network, i: int, epoch: int) -> int:
    """The status with which a verifier answers for its duties; 0 while it starts."""
    try:
        return requests.get(f"http://127.0.0.1:{network.ports[f'verifier-{i}']}/v1/duties/{epoch}", timeout=10).status_code
    except requests.RequestException:
        return 0


def plant_one(network: Network, name: str) -> dict[str, Answer]:
    """One plant from the note on chain to the last verifier's answer."""
    key, provider = payer_of_its_own(network, name), network.address(SERVED_BY)
    treasury = network.wallet("treasury").account()
    file = network.provider_dir(SERVED_BY) / "plants" / f"{name}.json"
    plant = note(network.chain, treasury, network.wallet(name).account(), provider, file)
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0, timeout=120)

    def served() -> bool:
        try:
            told = extra(ask(client, max_tokens=4))
        except openai.APIError:
            return False
        return provider in {entry["receipt"]["message"]["provider"] for entry in told["receipts"]}

    network.wait(served, 120, "a job of the planted payer")
    # Nobody shows what it found while others may still post.
    epoch = network.chain.call("VerifierSet", "currentEpoch")
    assert {network.wait(lambda i=i: shown_status(network, i, epoch), 60, f"verifier-{i}") for i in (1, 2, 3)} == {404}
    settlement = Settlement(network.chain, treasury, plant)
    network.wait(lambda: not settlement.step(), SETTLE_SECONDS, "the answers of all verifiers")
    return settlement.answers


def test_settling__a_provider_that_does_not_answer__is_waited_for(network: Network) -> None:
    unseen = Plant(network.address("provider-3"), network.address("payer"), b"", b"")  # stopped above, after it anchored batches
    waiting = Settlement(network.chain, network.wallet("treasury").account(), unseen)._challenge(0)
    assert waiting.startswith(f"the receipts of {unseen.provider} (")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_plant__lazy_verifiers__are_fined__and_an_honest_one_finds_it(network: Network, kinds: tuple[str, ...]) -> None:
    chain, provider = network.chain, network.address(SERVED_BY)
    expected = {network.address(f"verifier-{i}"): SAYS[kind] for i, kind in enumerate(["honest", *kinds, "honest"][:3], 1)}
    for i in (2, 3):
        network.restart_verifier(i, *kinds[i - 2 : i - 1])
    before = shown(network)
    stake = {account: chain.call("Staking", "stakeOf", account) for account in (*expected, provider)}
    said: dict[str, list[Answer]] = {account: [] for account in expected}
    for attempt in range(MOST_PLANTS):
        for account, answer in plant_one(network, f"planted-{'-'.join(kinds)}-{attempt}").items():
            said[account] += [] if answer == Answer.NOT_DRAWN else [answer]
        if all(said.values()):
            break
    assert {account: set(answers) for account, answers in said.items()} == {account: {answer} for account, answer in expected.items()}
    fine = struct_values("Plants", "terms", chain.call("Plants", "terms"))["fine"]

    def added(account: str, column: str) -> int:
        return int(shown(network)[account][column]) - int(before[account][column])

    network.wait(lambda: all(added(account, "plants_drawn") == len(said[account]) for account in said), 30, "the answers at the indexer")
    for account, answer in expected.items():
        fines = 0 if answer == Answer.FOUND else fine * len(said[account])
        assert chain.call("Staking", "stakeOf", account) == stake[account] - fines
        assert added(account, "fined") == fines
        assert added(account, "plants_found") == (len(said[account]) if answer == Answer.FOUND else 0)
        entry = shown(network)[account]
        assert entry["detection_rate"] == entry["plants_found"] / entry["plants_drawn"]
    # Who served the fault, as agreed, keeps its stake and its place.
    assert chain.call("Staking", "stakeOf", provider) == stake[provider]
    assert chain.call("ProviderRegistry", "isServing", provider)
