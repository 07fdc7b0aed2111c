"""The shared network's indexer as its operator and a provider's operator use it: audit, comparison, rewind, why no work."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from funcnet.network import Network
from protocol.routing import REASONS, RoutingSummary
from protocol.typed import Signed
from tests.network.asking import ask

BIN = Path(sys.executable).parent


@pytest.fixture
def client(network: Network) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120) as client:
        yield client


def run(network: Network, *command: str, status: int = 0) -> Any:
    """A command's JSON, with the settings of the network's indexer."""
    environment = os.environ | network._environment(database_url=network.database_url, indexer_url=network.indexer_url)
    done = subprocess.run([str(BIN / command[0]), *command[1:]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in command else done.stdout + done.stderr


def work(network: Network, provider: str) -> dict[str, Any]:
    rows = network.indexed(f"/v1/work?provider={network.address(provider)}")["data"]
    return dict(rows[0]) if rows else {"jobs": 0, "chosen": 0, "ruled_out": {}}


def test_work__a_stage_and_its_dearer_spare__are_told_what_they_got_and_why_not(network: Network, client: openai.OpenAI) -> None:
    before = {name: work(network, name) for name in ("provider-2", "spare")}
    wanted = {"provider": {"order": [network.address(f"provider-{i}") for i in (1, 2, 3)]}}
    for _ in range(2):
        ask(client, max_tokens=2, extra_body=wanted)
    network.wait(lambda: work(network, "spare")["jobs"] >= before["spare"]["jobs"] + 2, 40, "the gateway's summary")
    stage, spare = work(network, "provider-2"), work(network, "spare")
    assert stage["chosen"] >= before["provider-2"]["chosen"] + 2
    assert spare["ruled_out"]
    assert spare["chosen"] + sum(spare["ruled_out"].values()) == spare["jobs"]
    words = run(network, "provider-agent", "why", "--owner", network.address("spare"))
    assert f"{spare['chosen']} of {spare['jobs']} jobs" in words
    assert all(REASONS[reason] in words for reason in spare["ruled_out"])
    assert "is no registered provider" in run(network, "provider-agent", "why", "--owner", network.address("payer"), status=1)


@pytest.mark.parametrize(
    ("gateway", "signer", "jobs", "words"),
    [("gateway", "payer", 1, "is signed by"), ("payer", "payer", 1, "has no bond"), ("gateway", "gateway", 3, "does not add up")],
)
def test_routing_summary__that_cannot_count__is_refused(network: Network, gateway: str, signer: str, jobs: int, words: str) -> None:
    counts = [1] + [0] * len(REASONS)
    summary = RoutingSummary(network.address(gateway), network.address("spare"), network.manifest.model_id, 1, 2, jobs, *counts)
    signed = Signed.of(summary, summary.sign(network.chain.receipts_domain, bytes(network.wallet(signer).account().key)))
    body = [{"message": signed.message, "signature": signed.signature}]
    answer = requests.post(f"{network.indexer_url}/v1/routing", json=body, timeout=10)
    assert (answer.status_code, words in answer.text) == (400, True), answer.text


def test_audit__of_a_network_that_works__finds_nothing(network: Network) -> None:
    told = run(network, "funcnet", "indexer", "audit", "--blocks", "5", "--json")
    assert told["count"] == 0
    assert told["blocks_viewed"] == 6
    assert told["events"] > 50


def test_status_and_compare__of_one_with_itself__are_well(network: Network) -> None:
    told = run(network, "funcnet", "indexer", "status", network.indexer_url, "--json")
    assert told["fault"] is None
    network.wait(lambda: network.indexed("/v1/epochs")["data"], 120, "a final epoch")
    compared = run(network, "funcnet", "indexer", "compare", network.indexer_url, network.indexer_url, "--json")
    assert compared["same"] is True
    assert "give two addresses" in run(network, "funcnet", "indexer", "compare", network.indexer_url, status=1)
    assert "no indexer answers" in run(network, "funcnet", "indexer", "status", "http://127.0.0.1:9", status=1)


def test_rewind__under_a_running_indexer__comes_to_the_same_figures(network: Network) -> None:
    last = network.indexed("/v1/status")["block"]["number"]

    def balances() -> list[dict[str, Any]]:
        """Without their finality, which goes on meanwhile."""
        rows = network.indexed(f"/v1/facts/balance?at={last}&limit=1000")["data"]
        return [{name: value for name, value in row.items() if name != "finality"} for row in rows]

    before = balances()
    told = run(network, "funcnet", "indexer", "rewind", "--to", "20", "--json")
    assert told["to"] <= 20
    network.wait(lambda: (network.indexed("/v1/status")["block"] or {"number": 0})["number"] >= last, 40, "the indexer's catching up")
    assert balances() == before
    assert run(network, "funcnet", "indexer", "audit", "--json")["count"] == 0
