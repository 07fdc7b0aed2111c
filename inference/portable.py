"""Keys and values as a file, for another device of the same operator to go on from. The format is in docs/runtime.md, "Keys and values elsewhere"."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch

from inference import InferenceError
from protocol.units import LayerRange

FORMAT = "funcnet-kv/1"
BLOCK_ROWS = 16
ROWS_OUT = "rows_out"


class NotPortable(InferenceError):
    """A file of keys and values that is none, or is another stage's."""


class BlockHashes:
    """``SHA-256(hash of the block before, the block's rows in)`` for each whole block of rows; before the first: of what the rows are run through.

    So one hash says all rows up to it, and whoever has the same rows can tell that keys and values are those of these.
    """

    def __init__(self, model_id: bytes, layers: LayerRange, dtype: str) -> None:
        self.found: list[bytes] = []
        self.rows = 0
        what = f"{FORMAT}/{model_id.hex()}/{layers}/{dtype}"
        self._block = hashlib.sha256(hashlib.sha256(what.encode()).digest())

    def add(self, payloads: Sequence[bytes]) -> None:
        """The next rows, as bytes as they came in."""
        for payload in payloads:
            self._block.update(payload)
            self.rows += 1
            if self.rows % BLOCK_ROWS == 0:
                self.found.append(self._block.digest())
                self._block = hashlib.sha256(self.found[-1])


@dataclass(frozen=True)
class KvBlocks:
    """Whole blocks of a job's rows from position ``first`` on: their ``hashes``, and by name each layer's ``layers.N.keys`` and ``layers.N.values``
    [heads, rows, d] and ``rows_out`` [rows, hidden], all on the CPU."""

    model_id: bytes
    layers: LayerRange
    dtype: str
    first: int
    hashes: tuple[bytes, ...]
    tensors: Mapping[str, torch.Tensor]

    @property
    def end(self) -> int:
        return self.first + BLOCK_ROWS * len(self.hashes)

    def encode(self) -> bytes:
        """A safetensors file."""
        metadata = {
            "format": FORMAT,
            "model_id": self.model_id.hex(),
            "layers": str(self.layers),
            "dtype": self.dtype,
            "first": str(self.first),
            "hashes": ",".join(block.hex() for block in self.hashes),
        }
        return safetensors.torch.save({name: tensor.contiguous() for name, tensor in self.tensors.items()}, metadata)

    @classmethod
    def decode(cls, raw: bytes) -> "KvBlocks":
        """Raises NotPortable, saying what is wrong with the file."""
        try:
            tensors = safetensors.torch.load(raw)
            size = int.from_bytes(raw[:8], "little")
            metadata = json.loads(raw[8 : 8 + size]).get("__metadata__", {})
            if metadata.get("format") != FORMAT:
                raise NotPortable(f"a file of format {metadata.get('format')!r} came, {FORMAT!r} is read here")
            found = cls(
                bytes.fromhex(metadata["model_id"]),
                LayerRange.parse(metadata["layers"]),
                metadata["dtype"],
                int(metadata["first"]),
                tuple(bytes.fromhex(block) for block in metadata["hashes"].split(",")),
                tensors,
            )
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise NotPortable(f"these {len(raw)} bytes are no file of keys and values: {error}") from error
        if found.first < 0 or found.first % BLOCK_ROWS:
            raise NotPortable(f"position {found.first} is not the first of a block of {BLOCK_ROWS} rows")
        return found

    def require(self, model_id: bytes, layers: LayerRange, dtype: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compare with the stage that is to take them; ``shapes``: of each tensor without its rows. Raises NotPortable."""
        if (self.model_id, self.layers, self.dtype) != (model_id, layers, dtype):
            mine = f"layers {layers} of {model_id.hex()[:16]} in {dtype}"
            raise NotPortable(f"keys and values of layers {self.layers} of {self.model_id.hex()[:16]} in {self.dtype} do not fit {mine}")
        rows = self.end - self.first
        for name, shape in shapes.items():
            at = rows_at(name)
            wanted = (*shape[:at], rows, *shape[at:])
            tensor = self.tensors.get(name)
            if tensor is None or tuple(tensor.shape) != wanted or str(tensor.dtype) != f"torch.{dtype}":
                came = "nothing" if tensor is None else f"{list(tensor.shape)} of {tensor.dtype}"
                raise NotPortable(f"{name} has to be {list(wanted)} of torch.{dtype}, {came} came")


def rows_at(name: str) -> int:
    """Which of a tensor's dimensions counts rows."""
    return 0 if name == ROWS_OUT else 1
