"""Cheats on the shared network, after everything else: they serve through the real gateway, real verifiers catch them, the real chain takes its due.

``FUNCNET_ADVERSARIES`` names the pairs to run, as in ``low-rank+wrong-seed,constant-row+wrong-top-p`` (first at layers 0-10, then at 20-30);
``make test-long`` runs many. Both cheat in the same jobs, and the honest stage between them has to come out of it unharmed.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest

from funcnet import FuncnetError, actors
from funcnet.network import Network
from protocol.chain import struct_values
from protocol.disputes import Status
from protocol.receipts import StageReceipt
from protocol.units import FUNC
from tests.network.asking import ask, extra, serve_encoder, wait_for_sellers

pytestmark = pytest.mark.slow

PAIRS = [tuple(pair.split("+")) for pair in os.environ.get("FUNCNET_ADVERSARIES", "other-list+kv-int8-past").split(",")]
FIRST, LAST = "spare-first", "spare-last"
VERDICT_SECONDS, UNJAIL_SECONDS = 240, 20


@pytest.fixture(scope="module", autouse=True)
def only_cheats_at_the_ends(network: Network) -> None:
    for name in ("provider-1", "provider-2", "provider-3"):
        network.supervisor.stop(name)


def passed(network: Network, provider: str, numbers: set[int]) -> bool:
    """Whether a verifier has replayed one of the provider's receipts and found it in order."""
    sql = "SELECT number FROM verifier.check WHERE provider = %s AND verdict = 'PASS' AND commitment IS NOT NULL"
    with psycopg.connect(network.database_url) as connection:
        return bool({int(row[0]) for row in connection.execute(sql, (provider,))} & numbers)


def receipts_given(network: Network, name: str) -> int:
    with closing(sqlite3.connect(network.provider_dir(name) / "provider.db")) as books:
        return int(books.execute("SELECT count(*) FROM receipt").fetchone()[0])


def serve_some(network: Network, provider: str, jobs: int = 3) -> set[int]:
    """Numbers of the receipts that the provider gave for some jobs: one is hardly ever drawn by nobody, all are never."""
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    numbers: set[int] = set()

    def served() -> bool:
        try:
            told = extra(ask(client, max_tokens=2))
        except openai.APIError:
            return False
        messages = [entry["receipt"]["message"] for entry in told["receipts"]]
        numbers.update(message["number"] for message in messages if message["provider"] == provider)
        return len(numbers) >= jobs

    network.wait(served, 90, f"{jobs} jobs that {provider} serves")
    return numbers


def test_refused_evidence__neighbours_have_the_rows__and_the_work_is_checked_all_the_same(network: Network) -> None:
    spare = network.address("spare")
    for name in (FIRST, LAST):
        network.wait_provider(name)
    network.restart_provider("spare", adversary="refuses-evidence")
    numbers = serve_some(network, spare)
    network.wait(lambda: passed(network, spare, numbers), 120, "a check by what the stages before and after have kept")
    network.restart_provider("spare")


def test_refused_evidence__of_the_last_stage__is_pinned_on_chain__and_checked_once_it_is_served(network: Network) -> None:
    last = network.address(LAST)
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    network.restart_provider(LAST, adversary="refuses-evidence")
    # Nobody received the last stage's rows but itself.
    numbers = serve_some(network, last)
    event = network.chain["Pins"].events.Pinned()

    def pinned() -> bool:
        return bool(event.get_logs(from_block=network.chain.deployment.from_block, argument_filters={"provider": last}))

    network.wait(pinned, 120, "a pin on chain")
    # Half of the streams break off from now on, and are resumed.
    network.restart_provider(LAST, adversary="breaks-off-evidence")
    network.wait(lambda: passed(network, last, numbers), 120, "a check after the rows were served")
    # What comes late is no lie either.
    network.restart_provider(LAST, adversary="late-evidence")
    later = serve_some(network, last)
    network.wait(lambda: passed(network, last, later), 120, "a check of rows that come late")
    assert {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]} == before
    network.restart_provider(LAST)


def test_stage_that_names_another_word_of_its_neighbour__gets_no_receipt_accepted(network: Network) -> None:
    """Of two neighbours that collude, one signs two checkpoints: the gateway holds the next stage to the one that it was given."""
    spare = network.address("spare")
    network.restart_provider("spare", adversary="names-other-upstream")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    told = network.wait(lambda: _answered(client), 90, "an answer")
    receipts = [StageReceipt.from_json(entry["receipt"]["message"]) for entry in told["receipts"]]
    assert {receipt.provider for receipt in receipts} == {network.address(FIRST), network.address(LAST)}
    assert int(told["cost"]) == sum(receipt.amount for receipt in receipts)
    network.restart_provider("spare")
    told = network.wait(lambda: _answered(client), 90, "an answer of honest stages")
    assert spare in {entry["receipt"]["message"]["provider"] for entry in told["receipts"]}


def _answered(client: openai.OpenAI) -> dict[str, Any] | None:
    try:
        return extra(ask(client, max_tokens=4))
    except openai.APIError:
        return None


def test_rows_sent_are_not_those_committed_to__the_next_stage_refuses__and_nobody_is_accused(network: Network) -> None:
    cheat = network.address(FIRST)
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    network.restart_provider(FIRST, adversary="commits-to-others")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    given = receipts_given(network, FIRST)
    # It stands alone at its layers here: no token comes, and it signs no receipt that it could anchor.
    with pytest.raises(openai.APIError):
        ask(client, max_tokens=4)
    assert receipts_given(network, FIRST) == given
    assert {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"] if d["provider"] == cheat} <= before
    network.restart_provider(FIRST)


def come_back(network: Network, name: str) -> None:
    """A provider that was convicted makes up for what it lost and offers again once its jail is over."""
    chain, owner = network.chain, network.wallet(name).account()
    if chain.call("ProviderRegistry", "isServing", owner.address):
        return

    def jailed_until() -> int:
        return int(struct_values("ProviderRegistry", "providerInfo", chain.call("ProviderRegistry", "providerInfo", owner.address))["jailedUntil"])

    if chain.now() < jailed_until() - UNJAIL_SECONDS:
        with pytest.raises(FuncnetError, match="is jailed for another"):
            network.unjail(name)

    def released() -> bool:
        """Each verdict on what it did before prolongs its jail, the last one long after the first."""
        accused = any(d["provider"] == owner.address and d["status"] in (Status.OPEN, Status.JUDGED) for d in _disputes(network))
        return not accused and chain.now() >= jailed_until()

    network.wait(released, VERDICT_SECONDS, f"the last verdict on {name} and the end of its jail")
    lost = 20_000 * FUNC - chain.call("Staking", "stakeOf", owner.address)
    actors.give_func(chain, network.wallet("treasury").account(), owner.address, lost // FUNC + 1)
    chain.send(owner, "FuncToken", "approve", chain.address("Staking"), lost)
    chain.send(owner, "Staking", "stake", owner.address, lost)
    network.unjail(name)
    assert chain.call("ProviderRegistry", "isServing", owner.address)


@pytest.mark.timeout(600)
def test_lie__where_checks_are_asked_for__is_told_before_the_answer_is_final__and_loses_on_chain(network: Network) -> None:
    spare = network.address("spare")
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    network.restart_provider("spare", adversary="int4-weights")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    asked = {"extra_body": {"provider": {"require_verified": True}}, "max_tokens": 16}

    def refusal() -> openai.APIStatusError | None:
        try:
            ask(client, **asked)
        except openai.APIStatusError as error:
            return error if error.status_code == 502 else None
        raise AssertionError("a lie was given out as verified")

    error = network.wait(refusal, 90, "a job that the cheat serves")
    assert (error.body["code"], spare in str(error)) == ("verification_failed", True)
    parts: list[Any] = []

    def streamed() -> openai.APIError | None:
        parts.clear()
        try:
            parts.extend(ask(client, stream=True, **asked))
        except openai.APIStatusError:  # before a byte: the cheat is passed over for a while
            return None
        except openai.APIError as error:
            return error
        raise AssertionError("a lie was given out as verified")

    error = network.wait(streamed, 90, "a stream that the cheat serves")
    assert "do not rely on it" in str(error)
    assert parts
    assert not any(choice.finish_reason for part in parts for choice in part.choices)

    def guilty() -> bool:
        return any(d["provider"] == spare and d["status"] == Status.GUILTY and d["dispute_id"] not in before for d in _disputes(network))

    network.wait(guilty, VERDICT_SECONDS, "the slash of the cheat")
    network.restart_provider("spare")
    come_back(network, "spare")


@pytest.mark.timeout(400)
def test_encoder__with_rounded_weights__is_told_before_the_answer_and_loses_on_chain(network: Network, encoder_dir: Path) -> None:
    encoder, cheat = serve_encoder(network, encoder_dir), network.address("embedder")
    network.restart_provider("embedder", adversary="int4-weights")
    wait_for_sellers(network, encoder)
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)

    def refusal() -> openai.APIStatusError | None:
        try:
            client.embeddings.create(model=encoder, input="A cat sits on the mat.", extra_body={"provider": {"require_verified": True}})
        except openai.APIStatusError as error:
            return error if error.status_code == 502 else None
        raise AssertionError("a lie was given out as verified")

    error = network.wait(refusal, 60, "an answer by the cheat")
    assert (error.body["code"], cheat in str(error)) == ("verification_failed", True)
    network.wait(lambda: any(d["provider"] == cheat and d["status"] == Status.GUILTY for d in _disputes(network)), VERDICT_SECONDS, "its slash")
    assert not network.chain.call("ProviderRegistry", "isServing", cheat)


def _disputes(network: Network) -> list[dict[str, Any]]:
    return list(network.indexed("/v1/disputes")["data"])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_adversaries__at_both_ends__lose_and_their_neighbour_does_not(network: Network, pair: tuple[str, str]) -> None:
    cheats = {network.address(name): lie for name, lie in zip((FIRST, LAST), pair, strict=True)}
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    for name in (FIRST, LAST):
        come_back(network, name)
    stake = {account: network.chain.call("Staking", "stakeOf", account) for account in cheats}
    for name, lie in zip((FIRST, LAST), pair, strict=True):
        network.restart_provider(name, adversary=lie)
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)

    def served() -> bool:
        try:
            told = extra(ask(client, max_tokens=64, temperature=1.0, seed=5))
        except openai.APIError:
            return False
        return set(cheats) <= {entry["receipt"]["message"]["provider"] for entry in told["receipts"]}

    network.wait(served, 90, "a job that both cheats serve")

    def guilty() -> list[dict[str, Any]]:
        disputes = [d for d in network.indexed("/v1/disputes")["data"] if d["dispute_id"] not in before]
        assert {d["provider"] for d in disputes} <= set(cheats), "an honest provider was accused"
        return [d for d in disputes if d["status"] == Status.GUILTY]

    network.wait(lambda: {d["provider"] for d in guilty()} == set(cheats), VERDICT_SECONDS, f"the slashes of {pair}")
    for account in cheats:
        assert network.chain.call("Staking", "stakeOf", account) < stake[account]
        assert not network.chain.call("ProviderRegistry", "isServing", account)
