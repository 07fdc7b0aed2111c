"""A second turn begins with what the first one ran: the same text for less work and a lower bill, and verified like any other."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from funcnet.network import Network
from tests.network.asking import ask, extra, job_once, payer_of_its_own, providers_asked_afresh, receipts_of, reference, replaying, verify

pytestmark = pytest.mark.slow

Messages = list[dict[str, str]]
FOLLOW_UP = {"role": "user", "content": "Now say it shorter."}


@pytest.fixture(scope="module")
def client(network: Network) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120) as client:
        yield client


def first_turn(client: openai.OpenAI) -> tuple[Messages, dict[str, Any]]:
    """A conversation that begins as no other does, after its first answer; what was told beside that."""
    words = "Tell me in a few sentences what the sea is, and why people like to look at it."
    asked = {"role": "user", "content": f"My name is {secrets.token_hex(4)}. {words}"}
    answer = ask(client, messages=[asked], max_tokens=40)
    assert cached(answer) < answer.usage.prompt_tokens // 2
    return [asked, {"role": "assistant", "content": answer.choices[0].message.content}, FOLLOW_UP], extra(answer)


def cached(answer: Any) -> int:
    return int(answer.usage.prompt_tokens_details.cached_tokens)


def middle_rows(network: Network, told: dict[str, Any]) -> Path:
    """The evidence folder of the job's middle stage."""
    provider = receipts_of(told)[1].provider
    name = next(plan.name for plan in network.plans if network.address(plan.name) == provider)
    return network.provider_dir(name) / "evidence" / f"{told['job_id'].removeprefix('0x')}-0-10"


def test_second_turn__uses_the_first_ones_rows__same_text_for_less_and_replays(network: Network, client: openai.OpenAI, tmp_path: Path) -> None:
    messages, first = first_turn(client)
    answer, expected = ask(client, messages=messages, max_tokens=20), reference(network, 20, messages)
    told = extra(answer)
    assert told["token_ids"] == expected["tokens"]
    assert answer.usage.prompt_tokens - cached(answer) < 60
    earlier, receipts = receipts_of(first), receipts_of(told)
    assert [r.provider for r in receipts] == [r.provider for r in earlier]
    for receipt in receipts:
        assert receipt.cached_count == cached(answer)
        assert (receipt.first_position, receipt.position_count) == (0, answer.usage.total_tokens - 1)
        fresh = (receipt.prompt_tokens - receipt.cached_count) * receipt.input_price + receipt.cached_count * receipt.cached_price
        assert receipt.amount == receipt.due == (fresh + receipt.completion_tokens * receipt.output_price) // 1_000_000
        assert receipt.cached_price < receipt.input_price
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job_once(network, told["job_id"], "anchored")))
    done = verify(network, file, *replaying(network))
    assert done.stdout.count(": PASS, prompt ") == 3, done.stdout + done.stderr


def test_second_turn__of_another_payer__begins_from_nothing(network: Network, client: openai.OpenAI) -> None:
    messages, _ = first_turn(client)
    key = payer_of_its_own(network, "stranger")
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0, timeout=120) as stranger:
        answer = ask(stranger, messages=messages, max_tokens=4)
    assert cached(answer) == 0
    assert [receipt.cached_count for receipt in receipts_of(extra(answer))] == [0, 0, 0]


@pytest.mark.slow
def test_second_turn__a_stage_has_dropped_the_rows__they_are_run_again(network: Network, client: openai.OpenAI) -> None:
    messages, first = first_turn(client)
    (middle_rows(network, first) / "meta.json").rename(middle_rows(network, first) / "moved")
    answer = ask(client, messages=messages, max_tokens=8)
    assert cached(answer) == 0
    assert extra(answer)["token_ids"] == reference(network, 8, messages)["tokens"]


@pytest.mark.slow
def test_second_turn__a_stage_has_other_rows_than_its_neighbour__all_begin_anew(network: Network, client: openai.OpenAI) -> None:
    network.restart_provider("provider-2", adversary="other-prefix")
    try:
        network.wait(lambda: network.address("provider-2") in providers_asked_afresh(client), 60, "work for the cheat")
        messages, _ = first_turn(client)
        answer = ask(client, messages=messages, max_tokens=8)
        told = extra(answer)
        assert cached(answer) == 0
        assert told["token_ids"] == reference(network, 8, messages)["tokens"]
        # Nobody can say which of the two it was.
        assert set(told["replaced"]) == {network.address(name) for name in ("provider-1", "provider-2")}
        assert [receipt.position_count for receipt in receipts_of(told)] == [answer.usage.total_tokens - 1] * 3
    finally:
        network.restart_provider("provider-2")
