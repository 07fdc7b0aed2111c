"""Units as types, so that a checker tells wei from other integers and one id from another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NewType

Wei = NewType("Wei", int)
JobId = NewType("JobId", bytes)
ModelId = NewType("ModelId", bytes)

FUNC = 10**18
"""Wei in one FUNC."""
TOKENS_PER_PRICE = 1_000_000
"""Offers are priced in wei per this many tokens."""


@dataclass(frozen=True, order=True)
class LayerRange:
    """Layers ``[first, end)`` of a model, as in ``0-10``."""

    first: int
    end: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.end))

    def __contains__(self, layer: int) -> bool:
        return self.first <= layer < self.end

    def __str__(self) -> str:
        return f"{self.first}-{self.end}"

    @classmethod
    def parse(cls, text: str) -> "LayerRange":
        """Read ``"10-20"``. Raises ValueError, naming the text."""
        first, dash, end = text.partition("-")
        if not (dash and first.isdigit() and end.isdigit() and int(first) < int(end)):
            raise ValueError(f"layers {text!r} are not of the form FIRST-END with FIRST below END, as in 10-20")
        return cls(int(first), int(end))


def format_func(amount: int) -> str:
    """Wei as FUNC with six decimals, cut off, for people to read; never parsed back."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), FUNC)
    return f"{sign}{whole:,}.{rest // 10**12:06d} FUNC"
