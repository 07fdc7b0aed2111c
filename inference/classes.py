"""Execution classes: the dtype and attention kernel that a stage declares, as in ``float32/sdpa``."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inference import LoadError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class ExecutionClass:
    """``name`` is also the rows' dtype on the wire before the slash."""

    name: str
    dtype: torch.dtype
    attention: str

    @classmethod
    def parse(cls, name: str) -> "ExecutionClass":
        """Raises LoadError, naming the known ones."""
        dtype, _, attention = name.partition("/")
        if dtype not in DTYPES or attention not in ATTENTION:
            known = ", ".join(f"{d}/{a}" for d in DTYPES for a in ATTENTION)
            raise LoadError(f"execution class {name!r} is not known; choose one of {known}")
        return cls(name, DTYPES[dtype], attention)

    @property
    def wire_dtype(self) -> str:
        return self.name.partition("/")[0]


def rows_to_bytes(rows: torch.Tensor) -> list[bytes]:
    """Each row's bytes, little-endian, in the rows' own dtype."""
    raw = rows.contiguous().view(torch.uint8).reshape(rows.shape[0], -1).numpy()
    return [row.tobytes() for row in raw]


def rows_from_bytes(raw: bytes, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The inverse for ``count`` rows laid end to end: [count, hidden]. Raises ValueError where the length does not divide."""
    width = dtype.itemsize
    if count == 0 or len(raw) % (count * width):
        raise ValueError(f"{len(raw)} bytes are not {count} rows of {dtype}")
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(count, -1)


def to_float32(rows: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(rows.float().numpy(), dtype=np.float32)
