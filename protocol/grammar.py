"""A grammar as a mask over the vocabulary: which tokens may come next, as every party computes it. Design section 3, step 3.

llguidance reads a JSON schema, or a grammar in its own dialect of Lark, and walks it token by token. Values are laid out on one line, so that no
model loses itself in blanks.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MOST_BYTES = 65_536
"""Of a schema."""
LARK = "%llguidance"
"""What a grammar begins with that is no JSON schema."""
LAYOUT: "JsonCompileOptions" = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
"""Of JSON; a Lark grammar names it as `x-guidance` of each schema in it."""


class Grammar:
    """Where a text stands in its grammar. Once that is complete the end token alone may follow."""

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        self._matcher = LLMatcher(tokenizer, _compiled(schema))
        self._bits = allocate_token_bitmask(1, tokenizer.vocab_size)
        self._vocabulary = tokenizer.vocab_size
        self._mask: NDArray[np.bool_] | None = None
        """``allowed``, until the text goes on: whoever samples by it accepts by it as well."""

    @classmethod
    def begin(cls, schema: str, folder: Path, vocabulary: int, stop_tokens: Sequence[int]) -> "Grammar":
        """At the beginning of a text by the model in ``folder``, with ``vocabulary`` logits; the first of the stop tokens is the one that ends it.

        Raises ValueError for a schema that is none or where nothing could end the text, FileNotFoundError for a model without a tokenizer.
        """
        require_schema(schema)
        if not stop_tokens:
            raise ValueError("no stop token is given that could end the text")
        return cls(_tokenizer(folder, vocabulary, stop_tokens[0]), schema)

    def allowed(self) -> NDArray[np.bool_]:
        """[vocabulary]: the tokens that may come next."""
        if self._mask is None:
            fill_next_token_bitmask(self._matcher, self._bits, 0)
            self._mask = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary].astype(bool)
        return self._mask

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        return 0 <= token < self._vocabulary and bool(self.allowed()[token])

    def accept(self, token: int) -> bool:
        """Go on by a token; False for one that may not come next, and then nothing has changed."""
        if not self.allows(token):
            return False
        self._mask = None
        return bool(self._matcher.consume_token(token))


def require_schema(schema: str) -> None:
    """Raise ValueError for what is neither a JSON schema nor a grammar, or has parts that are not supported, in llguidance's words."""
    if len(schema) > MOST_BYTES:
        raise ValueError(f"a schema of {len(schema)} characters; {MOST_BYTES} are taken")
    if fault := LLMatcher.validate_grammar(_compiled(schema), None):
        raise ValueError(" ".join(fault.split()))


def _compiled(schema: str) -> str:
    return schema if schema.startswith(LARK) else LLMatcher.grammar_from_json_schema(schema, overrides=LAYOUT)


@lru_cache(4)
def _tokenizer(folder: Path, vocabulary: int, end: int) -> LLTokenizer:
    """Half a second's work for a model."""
    return LLTokenizer((folder / "tokenizer.json").read_text(), n_vocab=vocabulary, eos_token=end)
