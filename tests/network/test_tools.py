"""Tool calls by the bundled model, whose template has no place for them: on the shared network, with the official client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from funcnet.network import Network
from tests.network.asking import MODEL, ask, extra

pytestmark = pytest.mark.slow

CITIES = ["Rome", "Oslo", "Lima"]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": CITIES}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK: dict[str, Any] = {"name": "get_time", "description": "The time now.", "parameters": {"type": "object", "properties": {}}}
TOOLS: list[Any] = [{"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}]
FLAT: list[Any] = [{"type": "function", **WEATHER}]
QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Oslo for the next 3 days?"}]


@pytest.fixture
def client(network: Network) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120) as client:
        yield client


def require_fit(arguments: str) -> None:
    given = json.loads(arguments)
    assert given["city"] in CITIES
    assert 1 <= given["days"] <= 5
    assert set(given) == {"city", "days"}


def test_tools__named_one__is_called_with_arguments_that_fit_and_the_next_turn_takes_its_result(client: openai.OpenAI) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = ask(client, messages=QUESTION, tools=TOOLS, tool_choice=choice, max_tokens=60)
    (call,) = answer.choices[0].message.tool_calls
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content, call.function.name) == ("tool_calls", None, "get_weather")
    require_fit(call.function.arguments)
    assert len(extra(answer)["receipts"]) == 3
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain on all days"}
    turns = [*QUESTION, answer.choices[0].message.model_dump(exclude_none=True), result]
    said = ask(client, messages=turns, tools=TOOLS, tool_choice="none", max_tokens=8).choices[0]
    assert said.message.tool_calls is None
    assert said.message.content


def test_tools__streamed__come_as_the_same_call_that_comes_at_once(client: openai.OpenAI) -> None:
    asked = {"messages": QUESTION, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 60}
    (whole,) = ask(client, **asked).choices[0].message.tool_calls
    calls, text, finish = [], "", None
    for chunk in ask(client, stream=True, **asked):
        for choice in chunk.choices:
            calls += choice.delta.tool_calls or []
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [(0, whole.function.name, whole.function.arguments)]
    assert (text, finish) == ("", "tool_calls")


def test_tools__cut_off_in_a_call__is_text_and_says_so(client: openai.OpenAI) -> None:
    answer = ask(client, messages=QUESTION, tools=TOOLS, tool_choice="required", max_tokens=5).choices[0]
    assert (answer.finish_reason, answer.message.tool_calls) == ("length", None)
    assert answer.message.content.startswith("<tool_call>")


def test_responses__functions__are_items_of_their_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": QUESTION, "tools": FLAT, "tool_choice": "required", "parallel_tool_calls": False}
    told = client.responses.create(**asked, max_output_tokens=60, temperature=0)
    assert [item.type for item in told.output] == ["function_call"]
    call: Any = told.output[0]
    require_fit(call.arguments)
    with client.responses.stream(**asked, max_output_tokens=60, temperature=0) as stream:
        events = list(stream)
        final: Any = stream.get_final_response().output[0]
    assert (final.name, final.arguments) == (call.name, call.arguments)
    kinds = [event.type for event in events]
    assert kinds[2:6] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    made = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    again = client.responses.create(**{**asked, "input": [*QUESTION, made, result], "tool_choice": "none"}, max_output_tokens=8, temperature=0)
    assert again.output_text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_news"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "odd", "parameters": {"type": "nothing"}}}]}, "tools"),
        ({"messages": [*QUESTION, {"role": "tool", "content": "rain"}]}, "messages"),
        ({"messages": [*QUESTION, {"role": "user", "content": None}]}, "messages"),
    ],
)
def test_tools__what_makes_no_sense__is_refused_by_name(client: openai.OpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **{"messages": QUESTION, **change})
    assert param in str(refused.value.body)
