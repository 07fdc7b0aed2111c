"""The bundled prompts: several languages, code, and lengths from one line to pages. Calibration never sees what figures are measured on.

The two parts share no question, no topic and no passage, and half of the held-out languages do not occur in calibration.
"""

import itertools
import json
import random
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

LONG_EVERY, PASSAGE_EVERY = 25, 8
"""One prompt in so many is several passages long; one in so many has a single passage."""


class Part(StrEnum):
    """``CALIBRATION`` fits limits, ``HELD_OUT`` measures them."""

    CALIBRATION = "calibration"
    HELD_OUT = "held_out"


def prompts(part: Part, count: int, seed: int = 0) -> list[str]:
    """``count`` prompts of a part, in an order that the seed fixes; distinct as long as the part has that many."""
    return list(itertools.islice(_mixed(part, seed), count))


def _mixed(part: Part, seed: int) -> Iterator[str]:
    words = _words()[part]
    source = random.Random(f"{part}/{seed}")
    while True:
        short = [
            ask.format(topic) + manner
            for language, asks in words["asks"].items()
            for ask, topic, manner in itertools.product(asks, words["topics"][language], words["manners"].get(language, [""]))
        ]
        source.shuffle(short)
        for index, question in enumerate(short):
            if index % LONG_EVERY == LONG_EVERY - 1:
                yield _passage(words, source, source.randint(3, 6))
            elif index % PASSAGE_EVERY == PASSAGE_EVERY - 1:
                yield _passage(words, source, 1)
            else:
                yield question


def _passage(words: dict[str, Any], source: random.Random, count: int) -> str:
    asks = [ask for group in words["passage_asks"].values() for ask in group]
    return str(source.choice(asks).format("\n\n".join(source.choices(words["passages"], k=count))))


@cache
def _words() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("prompts.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]
