"""Parts of the network are killed while they work: streams go on, nothing is billed twice, nothing that was acknowledged is lost."""

import signal
from typing import Any

import openai
import pytest
import requests

from funcnet.network import Network
from protocol.receipts import StageReceipt
from tests.network.test_api import ask, extra

STORY = [{"role": "user", "content": "Tell me a very long story."}]


@pytest.fixture(scope="module")
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def story(client: openai.OpenAI) -> list[int]:
    """The tokens of the story when nothing breaks."""
    return list(extra(ask(client, messages=STORY, max_tokens=60))["token_ids"])


def kill(network: Network, name: str) -> None:
    network.supervisor.signal(name, signal.SIGKILL)
    network.supervisor.processes[name].wait()


def job_of(network: Network, job_id: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {network.api_key}"}
    return dict(requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers=headers, timeout=10).json())


def settled(network: Network, job_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            job = job_of(network, job_id)
        except requests.RequestException:
            return None
        return job if job.get("state") in ("done", "failed") and job.get("unsettled") == 0 else None

    return dict(network.wait(look, 60, f"the settlement of {job_id}"))


def receipts_of(job: dict[str, Any]) -> list[StageReceipt]:
    return [StageReceipt.from_json(entry["receipt"]["message"]) for entry in job["receipts"]]


def tell_story(client: openai.OpenAI, at: int, then: Any) -> tuple[str, dict[str, Any]]:
    """Stream the story and do something after ``at`` chunks; (job id, what the last chunk says)."""
    told: dict[str, Any] = {}
    job_id = ""
    for count, chunk in enumerate(ask(client, messages=STORY, max_tokens=60, stream=True)):
        job_id = chunk.id.removeprefix("chatcmpl-")
        if count == at:
            then()
        told = dict((chunk.model_extra or {}).get("function_network") or told)
    return job_id, told


def wait_served_by(network: Network, client: openai.OpenAI, name: str) -> None:
    """The gateway passes a provider over after a failure until it answers again."""

    def serves() -> bool:
        try:
            receipts = receipts_of({"receipts": extra(ask(client, max_tokens=1))["receipts"]})
        except openai.APIError:
            return False
        return network.address(name) in {receipt.provider for receipt in receipts}

    network.wait(serves, 30, f"work for {name}")


@pytest.mark.parametrize("at", [1, 20, 45])
def test_provider__killed_in_mid_stream__a_spare_takes_over_and_the_text_is_the_same(
    network: Network, client: openai.OpenAI, story: list[int], at: int
) -> None:
    try:
        job_id, told = tell_story(client, at, lambda: kill(network, "provider-2"))
        assert told["token_ids"] == story
        assert told["replaced"] == [network.address("provider-2")]
        served = {receipt.provider: receipt for receipt in receipts_of({"receipts": told["receipts"]})}
        spare = served[network.address("spare")]
        assert spare.epoch == 1
        assert spare.first_position > 0
        assert spare.cached_count == spare.prompt_tokens
        assert served[network.address("provider-1")].completion_tokens == len(story)
    finally:
        network.start_provider("provider-2")
        network.wait_provider("provider-2")
        wait_served_by(network, client, "provider-2")
    job = settled(network, job_id)
    mine = [receipt for receipt in receipts_of(job) if receipt.provider == network.address("provider-2")]
    # What it had countersigned before it died is paid once it is back, and no token is paid twice at one range of layers.
    assert len(mine) == 1
    assert mine[0].completion_tokens + spare.completion_tokens <= len(story)
    assert int(job["charged"]) == sum(receipt.amount for receipt in receipts_of(job))
