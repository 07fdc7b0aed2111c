"""Tool calls: what an answer's grammar allows, how calls are read from text, and how templates are told of tools."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from api import BadRequest, schema
from api.text import TextModel
from api.tools import HERMES, LLAMA, ToolCall, ToolFormat, ToolReader, Tools, ToolsOfModel
from protocol.grammar import Grammar

WEATHER = {
    "name": "weather",
    "description": "how it is out there",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
}
CLOCK = {"name": "clock", "description": "", "parameters": None}
NUMBER = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
CALLS = {
    HERMES: '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    LLAMA: '{"name": "weather", "parameters": {"city": "Rome"}}',
}
NATIVE = """{% if tools %}<|im_start|>system
<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>, called as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}[{{ call.function.name }} of {{ call.function.arguments.city }}]{% endfor %}<|im_end|>
{% endfor %}<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def model(model_dir: Path) -> TextModel:
    return TextModel.load("smol", bytes(32), model_dir)


@pytest.fixture(scope="module")
def with_mark(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    """The same with a token of its own for the mark, as Qwen has it."""
    folder = tmp_path_factory.mktemp("marked")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_dir / name, folder)
    tokenizer = json.loads((model_dir / "tokenizer.json").read_text())
    config = json.loads((model_dir / "config.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": config["vocab_size"], "content": HERMES.mark, "special": False})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 1}))
    return TextModel.load("marked", bytes(32), folder)


def fits(model: TextModel, grammar: str, text: str) -> bool:
    """Whether a text fits from its first token to its end."""
    state = Grammar.begin(grammar, model.folder, model.vocabulary, model.stop_tokens)
    tokens = model.tokenizer.encode(text, add_special_tokens=False).ids
    return all(map(state.accept, tokens)) and state.allows(model.stop_tokens[0])


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("form", [HERMES, LLAMA], ids=["hermes", "llama"])
@pytest.mark.parametrize("answer", ["", NUMBER], ids=["text", "json"])
@pytest.mark.parametrize(("required", "parallel"), [(False, False), (False, True), (True, False), (True, True)])
def test_grammar__allows_just_what_was_asked(
    model: TextModel, with_mark: TextModel, marked: bool, form: ToolFormat, required: bool, parallel: bool, answer: str
) -> None:
    used = with_mark if marked else model
    tools = ToolsOfModel(Tools([WEATHER, CLOCK], required, parallel), form, False, used.tokenizer)
    if form is LLAMA and answer and not required:
        with pytest.raises(BadRequest, match="do not go together"):
            tools.grammar(answer)
        return
    grammar = tools.grammar(answer)
    call, text_is_free = CALLS[form], not required and not answer
    assert fits(used, grammar, call)
    assert not fits(used, grammar, call.replace("city", "town"))
    assert not fits(used, grammar, call.replace('"weather"', '"forecast"'))
    assert fits(used, grammar, f"{call}\n{call}") == (parallel and form is HERMES)
    assert fits(used, grammar, "It rains.") == text_is_free
    assert fits(used, grammar, f"I look. {call}") == text_is_free
    assert fits(used, grammar, '{"n": 5}') == (not required and (bool(answer) or form is HERMES))
    assert not fits(used, grammar, call[:-3])


def test_grammar__parameters_that_are_no_schema__are_refused_by_name(model: TextModel) -> None:
    odd = {"name": "odd", "parameters": {"type": "nothing"}}
    with pytest.raises(BadRequest, match="'odd'"):
        ToolsOfModel(Tools([odd]), HERMES, False, model.tokenizer).grammar()


def read(form: ToolFormat, text: str, size: int) -> tuple[list[str | ToolCall], list[ToolCall]]:
    reader = ToolReader(form)
    parts = [part for at in range(0, len(text), size) for part in reader.push(text[at : at + size])]
    return [*parts, *reader.end()], reader.calls


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("form", [HERMES, LLAMA], ids=["hermes", "llama"])
def test_reader__text_and_calls__come_apart_however_they_come_in(form: ToolFormat, size: int) -> None:
    tricky = CALLS[form].replace("Rome", r"</tool_call> \"}{ <tool_call>")
    parts, calls = read(form, f"One <b> moment. {tricky}\n{CALLS[form]}\n", size)
    assert "".join(part for part in parts if isinstance(part, str)) == "One <b> moment. "
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", {"city": '</tool_call> "}{ <tool_call>'}),
        ("weather", {"city": "Rome"}),
    ]
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize("size", [1, 1000])
def test_reader__call_that_broke_off_and_half_a_mark__stay_text(size: int) -> None:
    for text in (CALLS[HERMES][:-5], CALLS[HERMES][:30], "a < b and <tool", ""):
        parts, calls = read(HERMES, text, size)
        assert ("".join(map(str, parts)), calls) == (text, [])


def test_template__of_its_own__gets_tools_and_arguments_as_objects(model: TextModel) -> None:
    native = dataclasses.replace(model, template=NATIVE)
    made = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [{"role": "user", "content": "Rome?"}, {"role": "assistant", "content": "", "tool_calls": [made]}]
    tools = Tools([WEATHER]).for_model(native)
    assert (tools.native, tools.form) == (True, HERMES)
    text = model.tokenizer.decode(native.encode_chat(*tools.lay_out(messages)), skip_special_tokens=False)
    assert '"description": "how it is out there"' in text
    assert "[weather of Rome]" in text


def test_template__without_a_place__gets_them_in_its_system_message(model: TextModel) -> None:
    made = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [made]},
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
    ]
    tools = Tools([WEATHER]).for_model(model)
    text = model.tokenizer.decode(model.encode_chat(*tools.lay_out(messages)), skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou can call functions.")
    assert CALLS[HERMES] in text
    assert "<tool_response>\nrain\n</tool_response>" in text
    made["function"] = {"name": "weather", "arguments": "Rome"}
    with pytest.raises(BadRequest, match="no JSON"):
        tools.lay_out(messages)


def test_template__formats__are_told_apart_and_unknown_ones_refused(model: TextModel) -> None:
    llama = dataclasses.replace(model, template='{{ tools }} {"name": function name, "parameters": dictionary}')
    assert Tools([WEATHER]).for_model(llama).form is LLAMA
    with pytest.raises(BadRequest, match="not known here"):
        Tools([WEATHER]).for_model(dataclasses.replace(model, template="{{ tools }} [TOOL_CALLS]"))


BODY: dict[str, Any] = {"model": "smol", "messages": [{"role": "user", "content": "?"}]}
TOOL = {"type": "function", "function": WEATHER}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tools": [TOOL, TOOL]}, "two functions called 'weather'"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "clock"}}}, "'tools' holds weather"),
        ({"tool_choice": "required"}, "nothing to call"),
    ],
)
def test_request__tools_that_make_no_sense__are_refused(model: TextModel, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        schema.ChatRequest(**BODY, **change).tools_for(model)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", None),
        ("auto", (False, True, 2)),
        ("required", (True, True, 2)),
        ({"type": "function", "function": {"name": "weather"}}, (True, False, 1)),
    ],
)
def test_request__tool_choice__says_what_has_to_be_called(model: TextModel, choice: Any, expected: Any) -> None:
    both = [TOOL, {"type": "function", "function": {"name": "clock"}}]
    found = schema.ChatRequest(**BODY, tools=both, tool_choice=choice).tools_for(model)
    assert (found and (found.tools.required, found.tools.parallel, len(found.tools.functions))) == expected
