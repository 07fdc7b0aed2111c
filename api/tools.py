"""Tool calls: how a model is told of tools, what holds its calls to their schemas, and how they are read from its answer.

A call is text: a mark, then JSON that names the function and its arguments. Which mark depends on what the model was trained on, and its chat
template shows that. All of it is part of the grammar that the job's stages and verifiers sample by, so a call is always whole JSON that fits the
function's parameters, whether calling was required or chosen by the model.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from api import BadRequest
from api.text import TextModel, held_back
from protocol.grammar import LARK, LAYOUT, require_schema

ANYTHING = {"type": "object", "properties": {}}


class ToolFormat(NamedTuple):
    """How calls are written. ``mark``: what a call begins with; ``lead``: what stands between it and the name; ``arguments``: what the member with
    the arguments is called; ``end``: what follows the JSON. A mark that belongs to the JSON makes the call the whole answer."""

    mark: str
    lead: str
    arguments: str
    end: str

    @property
    def alone(self) -> bool:
        return self.mark.startswith("{")

    @property
    def json_begins(self) -> int:
        """Where the JSON begins, in characters from the mark's beginning."""
        return 0 if self.alone else len(self.mark)


HERMES = ToolFormat("<tool_call>", '\n{"name": "', "arguments", "}\n</tool_call>")
"""Qwen, Hermes, SmolLM and others."""
LLAMA = ToolFormat('{"name": "', "", "parameters", "}")


class ToolCall(NamedTuple):
    """A call as it was read. ``arguments``: JSON, as the model wrote it."""

    id: str
    name: str
    arguments: str

    def plain(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Tools:
    """What may be called. ``functions``: name, description and parameters each; ``required``: whether something has to be called; ``parallel``:
    whether more than one may be."""

    functions: Sequence[dict[str, Any]]
    required: bool = False
    parallel: bool = True

    def for_model(self, model: TextModel) -> "ToolsOfModel":
        """Raises BadRequest where the model's template has a way with tools that is not known here."""
        template = model.template
        native = "tools" in template
        form = HERMES if not native or HERMES.mark in template else LLAMA if f'"{LLAMA.arguments}"' in template else None
        if form is None:
            raise BadRequest(f"the chat template of {model.name} writes tool calls in a way that is not known here; leave 'tools' out", "tools")
        return ToolsOfModel(self, form, native, model.tokenizer)


@dataclass(frozen=True)
class ToolsOfModel:
    """Tools as one model knows them. ``native``: its own template lays them out; else they stand in the system message."""

    tools: Tools
    form: ToolFormat
    native: bool
    tokenizer: Tokenizer

    def lay_out(self, messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages, and the tools, as the chat template takes them."""
        told = [{"type": "function", "function": function} for function in self.tools.functions]
        if self.native:
            return [_with_objects(message) for message in messages], told
        lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in told)
        words = (
            f"You can call functions. These are their signatures, one a line:\n<tools>\n{lines}\n</tools>\n"
            'To call one, write its name and arguments as JSON:\n<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
        )
        plain = [_without_calls(message) for message in messages]
        if plain and plain[0]["role"] == "system":
            return [{"role": "system", "content": f"{plain[0]['content']}\n\n{words}"}, *plain[1:]], []
        return [{"role": "system", "content": words}, *plain], []

    def grammar(self, answer: str = "") -> str:
        """What the answer has to fit: calls, or where none is required, text that is anything or JSON of the schema ``answer``, with calls. Raises
        BadRequest for parameters that are no schema, or an answer that nothing tells from a call."""
        if answer and self.form.alone and not self.tools.required:
            words = "'response_format' and 'tools' do not go together in this model, whose calls are JSON like the answer; leave one of them out"
            raise BadRequest(words, "response_format", "unsupported_parameter")
        calls = []
        for function in self.tools.functions:
            schema = function.get("parameters") or ANYTHING
            try:
                require_schema(json.dumps(schema))
            except ValueError as error:
                raise BadRequest(
                    f"calls of {function['name']!r} cannot be held to its parameters: {error}", "tools", "invalid_json_schema"
                ) from error
            lead = f'{self.form.lead}{function["name"]}", "{self.form.arguments}": '
            calls.append(f"{_quoted(lead)} {_json(schema)} {_quoted(self.form.end)}")
        rules = [f"call: {' | '.join(f'call_{i}' for i in range(len(calls)))}", *(f"call_{i}: {call}" for i, call in enumerate(calls))]
        # Where the mark is a token of its own, text can not spell it.
        token = self.tokenizer.token_to_id(self.form.mark) is not None
        mark = self.form.mark if token else _quoted(self.form.mark)
        many = "+" if self.tools.parallel and not self.form.alone else ""
        if self.tools.required or answer:
            one = f"({mark} call{_quoted(chr(10)) + '?' if many else ''}){many}"
            start = one if self.tools.required else f"{one} | {_json(json.loads(answer))}"
        elif self.form.alone:
            start = f"{mark} call | TEXT"
            rules.append(r"TEXT: /([^{](.|\n)*)?/")
        else:
            start = "(head call)* TEXT" if many else "head call | TEXT"
            rules += [f"head: TEXT {mark}" if token else f"head[lazy]: TEXT {mark}", r"TEXT: /(.|\n)*/"]
        return "\n".join([f"{LARK} {{}}", f"start: {start}", *rules]) + "\n"

    def reader(self) -> "ToolReader":
        return ToolReader(self.form)


@dataclass
class ToolReader:
    """Parts an answer's text, as it comes, into what is said and what is called."""

    form: ToolFormat
    calls: list[ToolCall] = field(default_factory=list)
    _held: str = ""

    def push(self, text: str) -> list[str | ToolCall]:
        """What is whole with this piece. Blanks between calls are nothing that is said."""
        self._held += text
        parts: list[str | ToolCall] = []
        while True:
            at = self._held.find(self.form.mark)
            end = len(self._held) - held_back(self._held, [self.form.mark]) if at < 0 else at
            if said := self._held[:end]:
                parts += [said] if not self.calls or said.strip() else []
                self._held = self._held[end:]
            if at < 0:
                return parts
            call = self._take()
            if call is None:
                return parts
            parts.append(call)

    def end(self) -> list[str | ToolCall]:
        """What is left: text, also where it is half a call that broke off."""
        left, self._held = self._held, ""
        return [left] if left and (not self.calls or left.strip()) else []

    def _take(self) -> ToolCall | None:
        """The call that the held text begins with, once it is whole."""
        begin = self.form.json_begins
        body = self._held[begin:]
        try:
            found, size = json.JSONDecoder().raw_decode(body.lstrip())
        except ValueError:
            return None
        size += begin + len(body) - len(body.lstrip())
        tail = self.form.end.lstrip("}")
        if not self._held[size:].startswith(tail):
            return None
        self._held = self._held[size + len(tail) :]
        call = ToolCall(f"call_{secrets.token_hex(12)}", found["name"], json.dumps(found[self.form.arguments], ensure_ascii=False))
        self.calls.append(call)
        return call


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """Templates want arguments as objects, clients send JSON."""
    if not message.get("tool_calls"):
        return message
    calls = [{**call, "function": {**call["function"], "arguments": _arguments(call)}} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _without_calls(message: dict[str, Any]) -> dict[str, Any]:
    """As a template without a place for tools takes it: calls and results as text."""
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    written = [json.dumps({"name": c["function"]["name"], "arguments": _arguments(c)}, ensure_ascii=False) for c in message.get("tool_calls", ())]
    parts = [message["content"], *(f"<tool_call>\n{call}\n</tool_call>" for call in written)]
    return {"role": message["role"], "content": "\n".join(part for part in parts if part)}


def _arguments(call: dict[str, Any]) -> Any:
    text = call["function"]["arguments"]
    try:
        return json.loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"the arguments of tool call {call['id']!r} are no JSON: {text!r:.60}", "messages") from error


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _json(schema: dict[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': LAYOUT}, ensure_ascii=False)}"
