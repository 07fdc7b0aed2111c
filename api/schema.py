"""The OpenAI wire contract: requests in, chunks and completions out."""

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import BadRequest
from protocol.grammar import require_schema
from protocol.wire import MOST_LOGPROBS, NO_LOGPROBS

UNSUPPORTED = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "audio",
    "modalities",
    "prediction",
)
DEFAULT_MAX_TOKENS = 512


class TextPart(BaseModel):
    """One part of a message's content; only text is served."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A chat message."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant", "developer"]
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


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


class ChatRequest(BaseModel):
    """``POST /v1/chat/completions``. Fields that would change the answer and are not served are refused by name."""

    model_config = ConfigDict(extra="ignore")
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
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
    n: int = 1
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def refuse_unsupported(cls, data: Any) -> Any:
        for name in UNSUPPORTED:
            if isinstance(data, dict) and data.get(name) not in (None, False, [], {"type": "text"}):
                raise BadRequest(f"'{name}' is not supported here; leave it out", name, "unsupported_parameter")
        if isinstance(data, dict) and data.get("n") not in (None, 1):
            raise BadRequest(f"'n' is {data['n']!r}; only 1 is supported here", "n", "unsupported_parameter")
        if isinstance(data, dict) and data.get("top_logprobs") is not None and not data.get("logprobs"):
            raise BadRequest("'top_logprobs' needs 'logprobs' to be true", "top_logprobs")
        return data

    @property
    def logprobs_asked(self) -> int:
        """How many alternatives to each token; NO_LOGPROBS where not even the token's own is asked for."""
        return (self.top_logprobs or 0) if self.logprobs else NO_LOGPROBS

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    def token_limit(self, room: int) -> int:
        """The most tokens to generate in ``room``."""
        asked = self.max_completion_tokens or self.max_tokens
        return min(room, asked or DEFAULT_MAX_TOKENS)


class KeyRequest(BaseModel):
    """``POST /v1/keys``. ``budget``: wei as a decimal string, None for no limit of its own."""

    model_config = ConfigDict(extra="forbid")
    name: str = "default"
    payer: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    budget: Annotated[str, Field(pattern=r"^\d+$")] | None = None
    models: list[str] | None = None


class ModelRequest(BaseModel):
    """``POST /v1/models``. ``folder``: a prepared model folder on the gateway's machine."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=96)]
    folder: str


def completion(
    job: str, model: str, text: str, finish: str, usage: dict[str, Any], extra: dict[str, Any], logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish, "logprobs": logprobs}
    return {**_head(job, model, "chat.completion"), "choices": [choice], "usage": usage, "function_network": extra}


def chunk(job: str, model: str, delta: dict[str, str], finish: str | None = None, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {**_head(job, model, "chat.completion.chunk"), "choices": [choice]}


def usage_chunk(job: str, model: str, usage: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The last chunk: no choices, usage, cost and receipts."""
    return {**_head(job, model, "chat.completion.chunk"), "choices": [], "usage": usage, "function_network": extra}


def usage(prompt: int, cached: int, completion_tokens: int) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion_tokens, "total_tokens": prompt + completion_tokens}
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}}


def _head(job: str, model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{job}", "object": kind, "created": int(time.time()), "model": model}
