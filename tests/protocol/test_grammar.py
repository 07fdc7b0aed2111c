"""A schema's mask: every text that it lets through is JSON that fits, whatever the model wants, and nothing else is let through."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from protocol.grammar import MOST_BYTES, Grammar, require_schema
from protocol.sampling import History, SamplingParameters, sample

VOCABULARY, END = 49_152, 2
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "likes": {"type": "array", "items": {"enum": ["tea", "rain"]}, "maxItems": 3},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


def begin(model_dir: Path, schema: Any = PERSON) -> Grammar:
    return Grammar.begin(json.dumps(schema), model_dir, VOCABULARY, [END])


@pytest.mark.parametrize("seed", range(8))
def test_grammar__a_model_of_pure_noise__writes_what_fits_the_schema(model_dir: Path, seed: int) -> None:
    grammar, tokens = begin(model_dir), list[int]()
    logits = np.random.default_rng(seed).normal(size=(200, VOCABULARY)).astype(np.float32)
    parameters = SamplingParameters(temperature=1.0, seed=seed)
    while not tokens or tokens[-1] != END:
        allowed = grammar.allowed()
        token = sample(logits[len(tokens)], parameters, len(tokens), History(tokens, allowed=allowed))
        assert allowed[token]
        assert grammar.allows(token)
        assert grammar.accept(token)
        tokens.append(token)
    found = json.loads(Tokenizer.from_file(str(model_dir / "tokenizer.json")).decode(tokens))
    assert list(found) == ["name", "age", "likes"]
    assert len(found["name"]) <= 12
    assert 0 <= found["age"] <= 150
    assert set(found["likes"]) <= {"tea", "rain"}


def test_accept__what_does_not_fit__changes_nothing(model_dir: Path) -> None:
    ids = Tokenizer.from_file(str(model_dir / "tokenizer.json")).encode('{"name": "Bo", "age": 7, "likes": ["tea"]}').ids
    grammar = begin(model_dir)
    for token in ids:
        for wrong in (END, -1, VOCABULARY, 2**40):
            assert not grammar.allows(wrong)
            assert not grammar.accept(wrong)
        assert grammar.accept(token)
    assert np.flatnonzero(grammar.allowed()).tolist() == [END]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "EOF"),
        ('{"type": "banana"}', "banana"),
        ('{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ('{"$ref": "http://example.org/s"}', "does not fetch"),
        ('{"type": "string", "pattern": "("}', "unclosed group"),
        (json.dumps({"enum": ["x" * MOST_BYTES]}), "characters"),
    ],
)
def test_require_schema__what_is_none__says_why(schema: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        require_schema(schema)


def test_begin__no_end_token_or_no_tokenizer__is_refused(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stop token"):
        Grammar.begin("{}", model_dir, VOCABULARY, [])
    with pytest.raises(FileNotFoundError):
        Grammar.begin("{}", tmp_path, VOCABULARY, [END])
