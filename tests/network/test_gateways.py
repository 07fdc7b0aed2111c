"""Two gateways on one database, with one account: each serves every key, and what one leaves behind the other brings to its end."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests

from funcnet.network import Network
from funcnet.processes import free_ports
from tests.network.asking import MODEL, QUESTION, ask, extra, payer_of_its_own

pytestmark = pytest.mark.slow

STORY = [{"role": "user", "content": "Tell me a very long story."}]


@pytest.fixture(scope="module")
def second(network: Network) -> Iterator[str]:
    """The address of another gateway."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    network.start_gateway("gateway-2", port)
    try:
        network.wait(lambda: requests.get(f"{url}/readyz", timeout=10).status_code == 200, 30, "the second gateway")
        yield url
    finally:
        if "gateway-2" in network.supervisor.processes:
            network.supervisor.stop("gateway-2")


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)


def credits(url: str, key: str) -> dict[str, Any]:
    return dict(requests.get(f"{url}/v1/credits", headers={"authorization": f"Bearer {key}"}, timeout=10).json())


def test_gateways__many_jobs_of_one_key_at_both__are_billed_once_each(network: Network, second: str) -> None:
    key = payer_of_its_own(network, "two-doors")
    urls = [network.gateway_url, second] * 4
    with ThreadPoolExecutor(len(urls)) as pool:
        answers = list(pool.map(lambda url: ask(client_of(url, key), max_tokens=6), urls))
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    cost = sum(int(extra(answer)["cost"]) for answer in answers)
    for url in (network.gateway_url, second):
        told = credits(url, key)
        assert (int(told["spent"]), int(told["reserved"]), int(told["key"]["spent"])) == (cost, 0, cost)
        job = requests.get(f"{url}/v1/receipts/{extra(answers[0])['job_id']}", headers={"authorization": f"Bearer {key}"}, timeout=10).json()
        assert len(job["receipts"]) == 3


def test_gateways__retry_at_the_other__gets_the_same_answer(network: Network, second: str) -> None:
    headers = {"authorization": f"Bearer {network.api_key}", "idempotency-key": "two-doors"}
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 3}
    first, again = (requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60) for url in (network.gateway_url, second))
    assert first.status_code == 200
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


def test_gateways__one_killed_in_mid_stream__the_other_settles_what_it_left(network: Network, second: str) -> None:
    key = payer_of_its_own(network, "left-behind")
    lines = requests.post(
        f"{second}/v1/chat/completions",
        json={"model": MODEL, "messages": STORY, "max_tokens": 200, "temperature": 0, "stream": True},
        headers={"authorization": f"Bearer {key}"},
        stream=True,
        timeout=60,
    ).iter_lines()
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in (next(lines) for _ in range(16)) if line]
    job_id = chunks[0]["id"].removeprefix("chatcmpl-")
    network.supervisor.kill("gateway-2")
    del network.supervisor.processes["gateway-2"]  # nobody is to start it again

    def settled() -> dict[str, Any] | None:
        headers = {"authorization": f"Bearer {key}"}
        job = requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers=headers, timeout=10).json()
        return job if job["state"] != "open" and not job["unsettled"] else None

    job = network.wait(settled, 60, "the settlement by the other gateway")
    told = credits(network.gateway_url, key)
    assert (told["spent"], told["reserved"]) == (job["charged"], "0")
    assert job["completion_tokens"] >= len(chunks) - 1
    assert len(job["receipts"]) == 3
