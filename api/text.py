"""Text to token ids and back, without torch: the model folder's tokenizer and chat template."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from api import BadRequest
from protocol.encoder import Encoder


@dataclass(frozen=True)
class TextModel:
    """A listed model's text side. ``context``: most tokens of prompt and completion together."""

    name: str
    model_id: bytes
    tokenizer: Tokenizer
    template: str
    stop_tokens: tuple[int, ...]
    context: int
    vocabulary: int
    special: dict[str, str]
    folder: Path
    encoder: Encoder | None = None
    """How it makes vectors, where it does and writes no text."""

    @classmethod
    def load(cls, name: str, model_id: bytes, folder: Path) -> "TextModel":
        """Read tokenizer, template, end tokens and context from a model folder. Raises FileNotFoundError, or ValueError for an encoder of an
        unknown kind."""
        config = json.loads((folder / "config.json").read_text())
        generation_file = folder / "generation_config.json"
        generation = json.loads(generation_file.read_text()) if generation_file.is_file() else {}
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        stop = generation.get("eos_token_id", config.get("eos_token_id", []))
        template_file = folder / "chat_template.jinja"
        template = template_file.read_text() if template_file.is_file() else settings.get("chat_template", "")
        tokenizer, encoder = Tokenizer.from_file(str(folder / "tokenizer.json")), Encoder.of(folder)
        if encoder is not None:
            # What a user writes is text, also where it looks like a special token; and nothing is cut off unseen.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = True
        special = {key: str(settings[key]) for key in ("bos_token", "eos_token", "pad_token", "unk_token") if settings.get(key)}
        return cls(
            name,
            model_id,
            tokenizer,
            template,
            tuple(stop if isinstance(stop, list) else [stop]),
            int(config.get("max_position_embeddings", 2048)) if encoder is None else encoder.context,
            int(config["vocab_size"]),
            special,
            folder,
            encoder,
        )

    def encode_chat(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The prompt's ids, as the model's chat template lays messages and tools out. Raises BadRequest."""
        given = {"messages": messages, "tools": list(tools) or None, "add_generation_prompt": True, **self.special}
        try:
            text = _compiled(self.template).render(given)
        except TemplateError as error:
            raise BadRequest(f"these messages do not fit the chat template of {self.name}: {error}", "messages") from error
        return list(self.tokenizer.encode(_whole(text, "messages"), add_special_tokens=False).ids)

    def encode(self, prompt: str | list[int]) -> list[int]:
        """A prompt's ids, as they are where it is ids already. Raises BadRequest for one that is none."""
        if isinstance(prompt, str):
            return list(self.tokenizer.encode(_whole(prompt, "prompt")).ids)
        if unknown := [token for token in prompt if not 0 <= token < self.vocabulary]:
            raise BadRequest(f"'prompt' holds token {unknown[0]}, the vocabulary ends at {self.vocabulary - 1}", "prompt")
        return prompt

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def token_text(self, token: int) -> str:
        """A token by itself, special ones included."""
        return str(self.tokenizer.decode([token], skip_special_tokens=False))

    def stream(self) -> "TextStream":
        return TextStream(self.tokenizer)


class TextStream:
    """Tokens to text piece by piece; a character split over tokens comes when it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token: int) -> str:
        return self._stream.step(self.tokenizer, token) or ""


def _whole(text: str, param: str) -> str:
    """The text itself. Raises BadRequest where it holds half a character, as JSON can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{param!r} holds half a character, {text[error.start]!r}, which is no text", param) from error
    return text


@lru_cache(64)
def _compiled(template: str) -> Template:
    """With what templates expect to be there, as transformers gives it to them. Raises TemplateError."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = _json
    return environment.from_string(template)


def held_back(text: str, marks: Sequence[str]) -> int:
    """How many characters at a text's end may be the beginning of a mark, whose rest is still to come."""
    return max((n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n])), default=0)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Jinja's own would escape for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
