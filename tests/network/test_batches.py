"""Bulk work on the shared network, with the official client."""

import io
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from funcnet.network import Network
from tests.network.asking import MODEL, QUESTION, ask, extra, payer_of_its_own

pytestmark = pytest.mark.slow


@pytest.fixture
def client(network: Network) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=60) as client:
        yield client


def upload(client: openai.OpenAI, *bodies: dict[str, Any]) -> str:
    lines = [{"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body} for i, body in enumerate(bodies)]
    content = io.BytesIO("\n".join(map(json.dumps, lines)).encode())
    return client.files.create(file=("work.jsonl", content), purpose="batch").id


def create(client: openai.OpenAI, file_id: str) -> Any:
    return client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "a test"})


def test_batch__answers_each_line_for_less_than_at_once(network: Network, client: openai.OpenAI) -> None:
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 6, "temperature": 0}
    at_once = ask(openai.OpenAI(base_url=client.base_url, api_key=payer_of_its_own(network, "hurried")), max_tokens=6)
    batch = create(client, upload(client, body, {**body, "messages": [{"role": "user", "content": "Name a city."}]}, {**body, "max_tokens": 10**7}))
    assert batch.request_counts.total == 3
    ended = network.wait(lambda: (found := client.batches.retrieve(batch.id)).status == "completed" and found, 90, "the batch's end")
    assert (ended.request_counts.completed, ended.request_counts.failed, ended.metadata) == (3, 0, {"for": "a test"})
    answers = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["request-0", "request-1", "request-2"]
    first = answers[0]["response"]["body"]
    assert first["choices"][0]["message"]["content"] == at_once.choices[0].message.content
    told = first["function_network"]
    assert len(told["receipts"]) == 3
    # Half of each stage's price, rounded down for each receipt; less still where an earlier answer's rows were used.
    assert int(told["cost"]) <= int(extra(at_once)["cost"]) // 2
    assert batch.id in [one.id for one in client.batches.list(limit=5)]
    assert ended.output_file_id in [one.id for one in client.files.list()]
    client.files.delete(ended.output_file_id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(ended.output_file_id)


def test_batch__with_a_bad_line__fails_before_anything_is_paid_and_names_it(client: openai.OpenAI) -> None:
    body = {"model": MODEL, "messages": QUESTION}
    batch = create(client, upload(client, body, {**body, "temperature": 7}))
    assert batch.status == "failed"
    assert [(fault.line, "temperature" in fault.message) for fault in batch.errors.data] == [(2, True)]
    unknown = create(client, upload(client, {**body, "model": "no-such-model"}))
    assert "no-such-model" in unknown.errors.data[0].message


def test_batch__of_another_payer__is_not_there(network: Network, client: openai.OpenAI) -> None:
    file_id = upload(client, {"model": MODEL, "messages": QUESTION, "max_tokens": 1})
    stranger = openai.OpenAI(base_url=client.base_url, api_key=payer_of_its_own(network, "nosy"), max_retries=0)
    for look in (lambda: stranger.files.content(file_id), lambda: create(stranger, file_id), lambda: stranger.files.delete(file_id)):
        with pytest.raises(openai.NotFoundError):
            look()
    batch = create(client, file_id)
    for look in (lambda: stranger.batches.retrieve(batch.id), lambda: stranger.batches.cancel(batch.id)):
        with pytest.raises(openai.NotFoundError):
            look()
    assert client.batches.cancel(batch.id).status in ("cancelling", "in_progress", "completed", "cancelled")


def test_file__empty_or_for_something_else__is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.files.create(file=("work.jsonl", b""), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="fine-tune"):
        client.files.create(file=("work.jsonl", b"{}"), purpose="fine-tune")
