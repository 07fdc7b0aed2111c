"""Cheats on the shared network, after everything else: they serve through the real gateway, real verifiers catch them, the real chain takes its due.

``FUNCNET_ADVERSARIES`` names the pairs to run, as in ``low-rank+wrong-seed,constant-row+wrong-top-p`` (first at layers 0-10, then at 20-30);
``make test-long`` runs many. Both cheat in the same jobs, and the honest stage between them has to come out of it unharmed.
"""

import os
from typing import Any

import openai
import pytest

from funcnet.network import Network
from protocol.disputes import Status
from tests.network.test_api import ask, extra

PAIRS = [tuple(pair.split("+")) for pair in os.environ.get("FUNCNET_ADVERSARIES", "kv-int8-past+wrong-seed").split(",")]
FIRST, LAST = "spare-first", "spare-last"
VERDICT_SECONDS = 240


@pytest.fixture(scope="module", autouse=True)
def only_cheats_at_the_ends(network: Network) -> None:
    for name in ("provider-1", "provider-2", "provider-3"):
        network.supervisor.stop(name)


def test_refused_evidence__is_pinned_on_chain__and_checked_once_it_is_served(network: Network) -> None:
    spare = network.address("spare")
    for name in (FIRST, LAST):
        network.wait_provider(name)
    network.restart_provider("spare", adversary="refuses-evidence")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)

    def served() -> str | None:
        try:
            told = extra(ask(client, max_tokens=2))
        except openai.APIError:
            return None
        return str(told["job_id"]) if spare in {entry["receipt"]["message"]["provider"] for entry in told["receipts"]} else None

    job_id = network.wait(served, 90, "a job that the withholder serves")
    event = network.chain["Pins"].events.Pinned()

    def pinned() -> bool:
        return bool(event.get_logs(from_block=network.chain.deployment.from_block, argument_filters={"provider": spare}))

    network.wait(pinned, 120, "a pin on chain")
    # Half of the streams break off from now on, and are resumed.
    network.restart_provider("spare", adversary="breaks-off-evidence")

    def verified() -> bool:
        return any(job["job_id"] == job_id and job["status"] == "verified" for job in network.indexed("/v1/jobs")["data"])

    network.wait(verified, 120, "verification after the rows were served")
    network.restart_provider("spare")


def test_rows_sent_are_not_those_committed_to__the_next_stage_refuses__and_nobody_is_accused(network: Network) -> None:
    cheat = network.address(FIRST)
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    network.restart_provider(FIRST, adversary="commits-to-others")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    batches = network.chain.call("CommitmentLog", "batchCount", cheat)
    # It stands alone at its layers here: no token comes, and nothing is anchored for it.
    with pytest.raises(openai.APIError):
        ask(client, max_tokens=4)
    assert network.chain.call("CommitmentLog", "batchCount", cheat) == batches
    assert {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"] if d["provider"] == cheat} <= before
    network.restart_provider(FIRST)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_adversaries__at_both_ends__lose_and_their_neighbour_does_not(network: Network, pair: tuple[str, str]) -> None:
    cheats = {network.address(name): lie for name, lie in zip((FIRST, LAST), pair, strict=True)}
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    stake = {account: network.chain.call("Staking", "stakeOf", account) for account in cheats}
    # A cheat that was jailed for the pair before it offers again once it is out.
    network.wait(lambda: all(network.chain.call("ProviderRegistry", "isServing", account) for account in cheats), 400, "the end of a jail")
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
