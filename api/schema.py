"""The OpenAI wire contract: requests in, chunks and completions out."""

import json
import time
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from eth_utils import is_address, to_checksum_address
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import BadRequest
from api.routing import DEFAULT_WISH, Sort, Wish
from api.text import TextModel
from api.tools import ANYTHING, Tools, ToolsOfModel
from protocol.grammar import require_schema
from protocol.receipts import EXECUTION_CLASSES, precision_of
from protocol.units import FUNC
from protocol.wire import MOST_LOGPROBS, NO_LOGPROBS

DEFAULT_MAX_TOKENS = 512
MOST_CHOICES = 8
MOST_TEXTS = 2048
"""OpenAI's own."""
DEFAULT_TEXT_TOKENS = 16
"""OpenAI's own."""
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "bfloat16+int8"}
"""Names of ``quantizations``, as routers of models call them, beside those of our classes."""


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error, whatever its status."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "an error in OpenAI's shape"}}


class TextPart(BaseModel):
    """One part of a message's content; only text is served."""

    type: Literal["text"]
    text: str


class CalledFunction(BaseModel):
    name: str
    arguments: str


class MadeCall(BaseModel):
    """A tool call of an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(BaseModel):
    """A chat message."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant", "developer", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def require_content(self) -> "Message":
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"a message of role '{self.role}' needs 'content'")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' makes no 'tool_calls'")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of role 'tool' needs 'tool_call_id', the id of the call that it answers")
        return self

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        content = "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""
        told: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content}
        if self.tool_calls:
            told["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        return told | ({"tool_call_id": self.tool_call_id} if self.role == "tool" else {})


class Function(BaseModel):
    """What can be called. ``strict`` is always kept: arguments fit their schema."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description or "", "parameters": self.parameters or ANYTHING}


class Tool(BaseModel):
    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    """A choice of one function."""

    type: Literal["function"]
    function: NamedFunction


ToolWord = Literal["none", "auto", "required"]


class StreamOptions(BaseModel):
    include_usage: bool = False


class JsonSchema(BaseModel):
    """OpenAI's wrapper around a schema; an answer is held to it whatever ``strict`` says."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {"type": "object"}


class ResponseFormat(BaseModel):
    """What the answer has to be: any text, a JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def to_schema(self) -> str:
        """The schema as it is pinned, empty for any text. Raises BadRequest."""
        if self.type == "text":
            return ""
        if self.type == "json_schema" and self.json_schema is None:
            raise BadRequest("'response_format' of type 'json_schema' brings none; give json_schema.name and json_schema.schema", "response_format")
        schema = self.json_schema.schema_ if self.json_schema and self.type == "json_schema" else {"type": "object"}
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        try:
            require_schema(text)
        except ValueError as error:
            raise BadRequest(f"answers cannot be held to this schema: {error}", "response_format", "invalid_json_schema") from error
        return text


class MaxPrice(BaseModel):
    """FUNC per million tokens, all stages together; ``check``: per million rows of one stage, where checks are asked for."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[Decimal, Field(ge=0)] | None = None
    completion: Annotated[Decimal, Field(ge=0)] | None = None
    check: Annotated[Decimal, Field(ge=0)] | None = None


class ProviderWish(BaseModel):
    """Which providers a job may go to. Addresses are the providers' owners, as ``/network`` and receipts show them."""

    model_config = ConfigDict(extra="forbid")
    order: list[str] = []
    only: list[str] | None = None
    ignore: list[str] = []
    sort: Sort = "price"
    max_price: MaxPrice = MaxPrice()
    quantizations: list[str] | None = None
    allow_fallbacks: bool = True
    require_verified: bool = False

    def to_wish(self) -> Wish:
        """Raises BadRequest for what names nothing."""
        named = {name: [_address(entry, name) for entry in getattr(self, name) or []] for name in ("order", "only", "ignore")}
        only = None if self.only is None else frozenset(named["only"])
        if not self.allow_fallbacks and named["order"]:
            only = frozenset(named["order"]) if only is None else only & frozenset(named["order"])
        return Wish(
            DEFAULT_WISH.classes if self.quantizations is None else _classes(self.quantizations),
            only,
            frozenset(named["ignore"]),
            tuple(named["order"]),
            self.sort,
            to_wei(self.max_price.prompt),
            to_wei(self.max_price.completion),
            verified=self.require_verified,
            most_check=to_wei(self.max_price.check),
        )


class SamplingRequest(BaseModel):
    """What chat and text completions share. Fields that would change the answer and are not served are refused by name."""

    model_config = ConfigDict(extra="ignore")
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    logit_bias: dict[int, float] | None = None
    response_format: ResponseFormat | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    provider: ProviderWish = ProviderWish()
    refused: ClassVar[tuple[str, ...]] = ()
    """Names of fields that are not served."""

    @model_validator(mode="before")
    @classmethod
    def refuse_unsupported(cls, data: Any) -> Any:
        for name in cls.refused:
            if isinstance(data, dict) and data.get(name) not in (None, False, [], ""):
                raise BadRequest(f"'{name}' is not supported here; leave it out", name, "unsupported_parameter")
        if isinstance(data, dict) and data.get("best_of") not in (None, data.get("n") or 1):
            raise BadRequest(f"'best_of' is {data['best_of']!r}; only as many as 'n' are made here", "best_of", "unsupported_parameter")
        # Clients send null for what they leave out.
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data

    @property
    def logprobs_asked(self) -> int:
        """How many alternatives to each token; NO_LOGPROBS where not even the token's own is asked for."""
        return NO_LOGPROBS

    @property
    def schema_text(self) -> str:
        """What the answer has to fit, empty for any text. Raises BadRequest."""
        return "" if self.response_format is None else self.response_format.to_schema()

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def token_limit(self, room: int) -> int:
        """The most tokens to generate in ``room``."""
        return min(room, self.max_tokens or DEFAULT_MAX_TOKENS)


class ChatRequest(SamplingRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    tools: list[Tool] = []
    tool_choice: ToolWord | NamedTool = "auto"
    parallel_tool_calls: bool = True
    refused = ("functions", "function_call", "audio", "modalities", "prediction")

    @model_validator(mode="after")
    def require_logprobs(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequest("'top_logprobs' needs 'logprobs' to be true", "top_logprobs")
        return self

    def conversation(self) -> list[dict[str, Any]]:
        """As the chat template takes it."""
        return [message.plain() for message in self.messages]

    def tools_for(self, model: TextModel) -> ToolsOfModel | None:
        """None where nothing may be called. Raises BadRequest."""
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        functions = [] if self.tool_choice == "none" else [tool.function.plain() for tool in self.tools]
        return _tools(model, functions, named, self.tool_choice == "required", self.parallel_tool_calls)

    @property
    def logprobs_asked(self) -> int:
        return (self.top_logprobs or 0) if self.logprobs else NO_LOGPROBS

    def token_limit(self, room: int) -> int:
        return min(room, self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS)


class TextRequest(SamplingRequest):
    """``POST /v1/completions``: one prompt, as text or token ids, that is gone on with."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    refused = ("suffix", "echo")

    @property
    def logprobs_asked(self) -> int:
        return NO_LOGPROBS if self.logprobs is None else self.logprobs

    def token_limit(self, room: int) -> int:
        return min(room, self.max_tokens or DEFAULT_TEXT_TOKENS)

    def one_prompt(self) -> str | list[int]:
        """Raises BadRequest where it is not one."""
        prompt: Any = self.prompt
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            if len(prompt) != 1:
                raise BadRequest(f"'prompt' holds {len(prompt)} prompts; send one in each request", "prompt", "unsupported_parameter")
            prompt = prompt[0]
        if not prompt:
            raise BadRequest("'prompt' is empty; give it some text or token ids", "prompt")
        return prompt  # type: ignore[no-any-return]


class EmbeddingRequest(BaseModel):
    """``POST /v1/embeddings``. ``encoding_format``: base64 is of little-endian float32."""

    model_config = ConfigDict(extra="ignore")
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    provider: ProviderWish = ProviderWish()

    @model_validator(mode="before")
    @classmethod
    def leave_out_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data

    def texts(self) -> list[str]:
        """Raises BadRequest for token ids, or an empty text."""
        given: list[Any] = [self.input] if isinstance(self.input, str) else list(self.input)
        if not all(isinstance(text, str) for text in given):
            words = "'input' holds token ids, which would be those of another tokenizer; send text (LangChain: check_embedding_ctx_length=False)"
            raise BadRequest(words, "input", "unsupported_parameter")
        if not all(given) or not given:
            raise BadRequest("'input' is empty, or holds an empty text", "input")
        return given


class InputPart(BaseModel):
    """One part of an input message; only text is served."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputMessage(BaseModel):
    """An item of ``input``: a message, of whatever turn."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["message"] = "message"
    role: Literal["system", "user", "assistant", "developer"]
    content: str | list[InputPart]


class MadeFunctionCall(BaseModel):
    """An item of ``input``: a call of an earlier turn."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionOutput(BaseModel):
    """An item of ``input``: what a call gave."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputPart]


class FunctionTool(Function):
    """A tool, laid out flat."""

    type: Literal["function"]


class NamedFunctionTool(BaseModel):
    type: Literal["function"]
    name: str


class TextOptions(BaseModel):
    """``text``: the format of the answer, as ``response_format`` has it, but laid out flat."""

    model_config = ConfigDict(extra="ignore")
    format: dict[str, Any] = {"type": "text"}


class ResponsesRequest(SamplingRequest):
    """``POST /v1/responses``: text in, text out. Nothing is stored here, so each request brings the whole conversation."""

    input: str | Annotated[list[MadeFunctionCall | FunctionOutput | InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    text: TextOptions = TextOptions()
    metadata: dict[str, str] = {}
    tools: list[FunctionTool] = []
    tool_choice: ToolWord | NamedFunctionTool = "auto"
    parallel_tool_calls: bool = True
    refused = ("previous_response_id", "conversation", "background", "include", "prompt", "reasoning", "truncation")

    @model_validator(mode="before")
    @classmethod
    def flatten_format(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("truncation") == "disabled":
            data = {name: value for name, value in data.items() if name != "truncation"}
        form = data.get("text", {}).get("format") if isinstance(data, dict) and isinstance(data.get("text"), dict) else None
        if not isinstance(form, dict) or form.get("type", "text") == "text":
            return data
        wrapped = {"type": form["type"], "json_schema": {name: form[name] for name in ("name", "schema") if name in form} or None}
        return {**data, "response_format": wrapped}

    @property
    def text_format(self) -> dict[str, Any]:
        return self.text.format

    def token_limit(self, room: int) -> int:
        return min(room, self.max_output_tokens or DEFAULT_MAX_TOKENS)

    def tools_for(self, model: TextModel) -> ToolsOfModel | None:
        """None where nothing may be called. Raises BadRequest."""
        named = self.tool_choice.name if isinstance(self.tool_choice, NamedFunctionTool) else None
        functions = [] if self.tool_choice == "none" else [tool.plain() for tool in self.tools]
        return _tools(model, functions, named, self.tool_choice == "required", self.parallel_tool_calls)

    def conversation(self) -> list[dict[str, Any]]:
        """The conversation as the chat template takes it."""
        told: list[dict[str, Any]] = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        for item in [InputMessage(role="user", content=self.input)] if isinstance(self.input, str) else self.input:
            if isinstance(item, InputMessage):
                told.append({"role": "system" if item.role == "developer" else item.role, "content": _joined(item.content)})
            elif isinstance(item, FunctionOutput):
                told.append({"role": "tool", "content": _joined(item.output), "tool_call_id": item.call_id})
            else:
                call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
                if not told or told[-1]["role"] != "assistant":
                    told.append({"role": "assistant", "content": ""})
                told[-1].setdefault("tool_calls", []).append(call)
        return told


def _tools(model: TextModel, functions: list[dict[str, Any]], named: str | None, required: bool, parallel: bool) -> ToolsOfModel | None:
    """``named``: the one function that has to be called. Raises BadRequest."""
    names = [function["name"] for function in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadRequest(f"'tools' holds two functions called {twice!r}; give each a name of its own", "tools")
    if named is not None and named not in names:
        raise BadRequest(f"'tool_choice' names {named!r}; 'tools' holds {', '.join(names) or 'nothing'}", "tool_choice")
    if required and not functions:
        raise BadRequest("'tool_choice' is 'required', and 'tools' holds nothing to call", "tool_choice")
    if named is not None:
        functions = [function for function in functions if function["name"] == named]
    return Tools(functions, required or named is not None, parallel and named is None).for_model(model) if functions else None


def _joined(content: str | list[InputPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def usage(prompt: int, cached: int, completion_tokens: int) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion_tokens, "total_tokens": prompt + completion_tokens}
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}}


def usage_of_all(each: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum for several choices: each is a job of its own, and pays for its prompt."""
    prompt, completion_tokens = (sum(one[name] for one in each) for name in ("prompt_tokens", "completion_tokens"))
    return usage(prompt, sum(one["prompt_tokens_details"]["cached_tokens"] for one in each), completion_tokens)


def head(job: str, model: str, kind: str) -> dict[str, Any]:
    """What answers and pieces of one begin with."""
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {"id": f"{prefix}-{job}", "object": kind, "created": int(time.time()), "model": model}


def _address(text: str, name: str) -> str:
    if not is_address(text):
        raise BadRequest(f"'provider.{name}' names {text!r}, which is no address; give 0x and 40 hex digits", f"provider.{name}")
    return to_checksum_address(text)


def _classes(names: list[str]) -> tuple[bytes, ...]:
    """Ids of the execution classes of these precisions. Raises BadRequest for one that is none."""
    known = {precision_of(name) for name in EXECUTION_CLASSES.values()}
    wanted = [PRECISIONS.get(name, name) for name in names]
    if unknown := [name for name in wanted if name not in known]:
        words = f"'provider.quantizations' names {unknown[0]!r}; known are {', '.join([*PRECISIONS, *sorted(known)])}"
        raise BadRequest(words, "provider.quantizations")
    return tuple(digest for digest, name in EXECUTION_CLASSES.items() if precision_of(name) in wanted)


def to_wei(func: Decimal | None) -> int | None:
    return None if func is None else int(func * FUNC)
