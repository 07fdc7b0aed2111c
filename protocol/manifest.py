"""A model's manifest: each tensor's name, dtype, shape and hash, under one root whose hash is the model's id."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eth_hash.auto import keccak

from protocol.trees import row_tree_root
from protocol.units import ModelId

MANIFEST_FILE = "manifest.json"
TOLERANCE_FILE = "tolerance.json"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor. ``sha256`` is over its bytes, row-major and little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: bytes

    def encode(self) -> bytes:
        """Canonical bytes: JSON without spaces, keys in this order."""
        fields = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "sha256": self.sha256.hex()}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True)
class Manifest:
    """All tensors of a model, by name."""

    entries: Mapping[str, TensorEntry]
    layer_count: int

    @classmethod
    def of(cls, entries: Iterable[TensorEntry], layer_count: int) -> "Manifest":
        return cls({entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}, layer_count)

    @cached_property
    def root(self) -> bytes:
        """RFC 6962 SHA-256 root over the entries, sorted by name."""
        return row_tree_root([entry.encode() for entry in self.entries.values()])

    @property
    def model_id(self) -> ModelId:
        """``keccak256(manifestRoot)``."""
        return ModelId(keccak(self.root))

    def write(self, folder: Path) -> None:
        body = {
            "layer_count": self.layer_count,
            "root": self.root.hex(),
            "tensors": [json.loads(e.encode()) for e in self.entries.values()],
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(body, indent=0))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises FileNotFoundError, and ValueError where the entries do not hash to the recorded root."""
        body = json.loads((folder / MANIFEST_FILE).read_text())
        entries = [TensorEntry(t["name"], t["dtype"], tuple(t["shape"]), bytes.fromhex(t["sha256"])) for t in body["tensors"]]
        manifest = cls.of(entries, body["layer_count"])
        if manifest.root.hex() != body["root"]:
            raise ValueError(f"{folder / MANIFEST_FILE} does not hash to its root {body['root']}; make it again with `funcnet model prepare`")
        return manifest


class ModelShelf:
    """A folder whose sub-folders are prepared models; new ones are found while a service runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, bytes] = {}

    def folders(self) -> dict[bytes, Path]:
        """Model ids with their folders, of models that are prepared to the end."""
        for file in self.root.glob(f"*/{MANIFEST_FILE}"):
            if file.parent not in self._known and (file.parent / TOLERANCE_FILE).is_file():
                self._known[file.parent] = Manifest.read(file.parent).model_id
        return {model_id: folder for folder, model_id in self._known.items()}
