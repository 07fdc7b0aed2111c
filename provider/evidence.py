"""Rows on disk: what a stage received and sent, kept for whoever may check it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from protocol.rows import row_leaf
from protocol.trees import RowTree
from protocol.typed import Signed
from protocol.wire import OpenRequest

CHUNK_BYTES = 1 << 20


@dataclass
class RowLog:
    """One boundary's rows: appended to a file and to a Merkle tree in one go. All rows have the same width."""

    file: BinaryIO
    salt: bytes
    boundary: int
    dtype: str
    tree: RowTree = field(default_factory=RowTree)

    def append(self, position: int, payload: bytes) -> None:
        self.file.write(payload)
        self.tree.append(row_leaf(self.salt, self.boundary, position, self.dtype, payload))


class EvidenceMeta(msgspec.Struct, frozen=True):
    """What goes with the rows of one session."""

    open_request: OpenRequest
    checkpoint: Signed
    countersignature: Signed | None
    rows_in: int
    rows_out: int


class EvidenceStore:
    """A folder for each session under ``root``: ``in.rows``, ``out.rows`` and ``meta.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def folder(self, job_id: bytes, epoch: int, first_layer: int) -> Path:
        return self.root / f"{job_id.hex()}-{epoch}-{first_layer}"

    def create(self, folder: Path) -> tuple[BinaryIO, BinaryIO]:
        """Open both row files. Raises FileExistsError where the session was there before."""
        folder.mkdir(mode=0o700)
        return (folder / "in.rows").open("xb"), (folder / "out.rows").open("xb")

    def finish(self, folder: Path, meta: EvidenceMeta) -> None:
        """Write what goes with the rows; the row files must have been flushed to disk before."""
        partial = folder / "meta.json.part"
        partial.write_bytes(msgspec.json.encode(meta))
        partial.rename(folder / "meta.json")

    def meta(self, folder: Path) -> EvidenceMeta:
        """Raises FileNotFoundError where the evidence was dropped or never finished."""
        return msgspec.json.decode((folder / "meta.json").read_bytes(), type=EvidenceMeta)

    def chunks(self, folder: Path, name: str) -> Iterator[bytes]:
        with (folder / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
