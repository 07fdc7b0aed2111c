"""Execution classes: the precision and attention kernel that a stage declares, as in ``bfloat16/sdpa`` or ``bfloat16+int8/sdpa``."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inference import LoadError
from protocol.receipts import EXECUTION_CLASSES, precision_of, wire_dtype_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REFERENCES = {torch.bfloat16: torch.float32, torch.float32: torch.float32}
"""What the error of a dtype is measured against: one that is exact by comparison. float32 is measured against itself: its honest error lies
four orders of magnitude below what any cheat gains from, so that a float64 replay would be spent on nothing."""


@dataclass(frozen=True)
class ExecutionClass:
    """``dtype``: of activations and of rows on the wire. ``int8``: whether linear weights are rounded to int8 for each output channel."""

    name: str
    dtype: torch.dtype
    int8: bool
    attention: str

    @classmethod
    def parse(cls, name: str) -> "ExecutionClass":
        """Raises LoadError, naming the known ones."""
        if name not in EXECUTION_CLASSES.values():
            raise LoadError(f"execution class {name!r} is not known; choose one of {', '.join(EXECUTION_CLASSES.values())}")
        return cls(name, DTYPES[wire_dtype_of(name)], "+int8" in name, name.partition("/")[2])

    @property
    def precision(self) -> str:
        """The class without its kernel: what tolerances are fitted for, since a kernel is not a choice that saves anything."""
        return precision_of(self.name)

    @property
    def wire_dtype(self) -> str:
        return wire_dtype_of(self.name)


def rows_to_bytes(rows: torch.Tensor) -> list[bytes]:
    """Bytes of each of ``rows`` [count, width], little-endian, in their own dtype."""
    raw = rows.contiguous().view(torch.uint8).numpy()
    return [row.tobytes() for row in raw]


def rows_from_bytes(raw: bytes, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The inverse for ``count`` rows laid end to end: [count, hidden]. Raises ValueError where the length does not divide."""
    width = dtype.itemsize
    if count == 0 or len(raw) % (count * width):
        raise ValueError(f"{len(raw)} bytes are not {count} rows of {dtype}")
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(count, -1)


def to_float32(rows: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(rows.float().numpy(), dtype=np.float32)
