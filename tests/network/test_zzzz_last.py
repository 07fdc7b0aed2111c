"""What no later test could go on from: a verifier that never stops accusing, and then a conviction of the only last stage there is."""

import os
from typing import Any

import openai
import pytest

from funcnet.network import Network
from protocol.disputes import Status
from tests.network.asking import ask, extra

ACCUSER = "verifier-2"


def start_ends(network: Network) -> None:
    for name in ("provider-1", "provider-3"):
        if name not in network.supervisor.processes:
            network.start_provider(name)
            network.wait_provider(name)


@pytest.mark.skipif("FUNCNET_LONG" not in os.environ, reason="takes a minute; make test-long runs it")
def test_accuser__of_honest_work__loses_its_bond_to_the_accused(network: Network) -> None:
    chain = network.chain
    before = {d["dispute_id"] for d in network.indexed("/v1/disputes")["data"]}
    start_ends(network)
    network.restart_verifier(2, "accuses-all")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    accuser, bond = network.address(ACCUSER), chain.call("Disputes", "parameters")[0]
    stakes: dict[str, int] = {}

    def served() -> bool:
        try:
            told = extra(ask(client, max_tokens=2))
        except openai.APIError:
            return False
        stakes.update({(p := entry["receipt"]["message"]["provider"]): chain.call("Staking", "stakeOf", p) for entry in told["receipts"]})
        return True

    network.wait(served, 120, "a job of honest stages")

    def acquitted() -> list[dict[str, object]]:
        found = [d for d in network.indexed("/v1/disputes")["data"] if d["dispute_id"] not in before and d["challenger"] == accuser]
        return [d for d in found if d["status"] == Status.INNOCENT]

    network.wait(acquitted, 240, "an acquittal")
    for account, stake in stakes.items():
        assert chain.call("Staking", "stakeOf", account) >= stake
    provider = str(acquitted()[0]["provider"])
    fee = chain.call("Disputes", "parameters")[5]
    assert chain.call("Disputes", "owed", provider) >= bond - fee
    shown = next(entry for entry in network.indexed("/v1/verifiers")["data"] if entry["verifier"] == accuser)
    assert shown["accusations_acquitted"] >= 1
    assert shown["false_accusation_rate"] > 0


@pytest.mark.slow
def test_two_receipts_of_one_number__convict_by_themselves(network: Network) -> None:
    chain, cheat = network.chain, network.address("provider-3")
    start_ends(network)
    before = chain.call("Staking", "stakeOf", cheat)
    network.restart_provider("provider-3", adversary="two-receipts")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)

    def served() -> bool:
        try:
            return cheat in {entry["receipt"]["message"]["provider"] for entry in extra(ask(client, max_tokens=2))["receipts"]}
        except openai.APIError:
            return False

    network.wait(served, 90, "a job that the cheat serves")
    event = chain["Contradictions"].events.ContradictionProven()

    def proven() -> list[Any]:
        return list(event.get_logs(from_block=chain.deployment.from_block, argument_filters={"provider": cheat}))

    # The gateway compares what it was given with what is anchored; it needs neither a bond nor judges.
    found = network.wait(proven, 120, "the proof of a contradiction")[0]["args"]
    assert found["reporter"] == network.address("gateway")
    assert chain.call("Staking", "stakeOf", cheat) == before - found["slashed"] < before
    assert not chain.call("ProviderRegistry", "isServing", cheat)
