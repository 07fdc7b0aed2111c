"""Rows on disk: what a stage received and sent, kept for whoever may check it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from protocol.messages import Message
from protocol.rows import CHECKPOINT_EVERY, row_leaf
from protocol.trees import RowTree
from protocol.typed import Signed
from protocol.wire import OpenRequest, RelinkRequest
from provider import Refused

CHUNK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 17
"""Of rows that wait to be written, until the next checkpoint at most: a write of few rows costs more than all else that is done for them."""


@dataclass
class RowHashes:
    """The Merkle tree over one boundary's rows, of which the first is at ``first``.

    Rows are hashed when a root is asked for, or so many wait: after a pass, in which a stage's weights went through the CPU's caches, one row
    by itself takes ten times as long as one among others.
    """

    salt: bytes
    boundary: int
    dtype: str
    first: int = 0
    tree: RowTree = field(default_factory=RowTree)
    waiting: list[bytes] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.tree.count + len(self.waiting)

    @property
    def end(self) -> int:
        """The position after the last row."""
        return self.first + self.count

    def append(self, payload: bytes) -> None:
        self.waiting.append(payload)
        if len(self.waiting) >= CHECKPOINT_EVERY:
            self._hash()

    def root(self) -> bytes:
        """Over all rows so far."""
        self._hash()
        return self.tree.root()

    def _hash(self) -> None:
        first = self.first + self.tree.count
        self.tree.extend(row_leaf(self.salt, self.boundary, at, self.dtype, payload) for at, payload in enumerate(self.waiting, first))
        self.waiting.clear()


@dataclass
class RowLog(RowHashes):
    """One boundary's rows on disk, and hashed. All have the same width."""

    file: BinaryIO = field(kw_only=True)

    def append(self, payload: bytes) -> None:
        self.file.write(payload)
        super().append(payload)


@dataclass(frozen=True)
class Span:
    """``size`` bytes of a file from ``first`` on."""

    file: Path
    first: int
    size: int

    @classmethod
    def of(cls, file: Path) -> "Span":
        """The whole file. Raises FileNotFoundError."""
        return cls(file, 0, file.stat().st_size)

    def chunks(self, offset: int) -> Iterator[bytes]:
        """The span from its byte ``offset`` on."""
        at = max(0, offset)
        with self.file.open("rb") as file:
            file.seek(self.first + at)
            while at < self.size and (chunk := file.read(min(CHUNK_BYTES, self.size - at))):
                at += len(chunk)
                yield chunk


class EvidenceMeta(Message, frozen=True):
    """What goes with the rows of one session, up to a checkpoint; ``upstream`` and ``updates`` as in EvidenceHead."""

    open_request: OpenRequest
    checkpoint: Signed
    countersignature: Signed | None
    rows_in: int
    rows_out: int
    upstream: list[Signed] = msgspec.field(default_factory=list)
    updates: list[RelinkRequest] = msgspec.field(default_factory=list)


@dataclass
class SessionFiles:
    """An open session's rows. ``rebuilt`` keeps rows out that a replacement computed for its KV cache and that are not its to answer for."""

    folder: Path
    rows_in: RowLog
    rows_out: RowLog
    rebuilt: BinaryIO
    rebuilt_count: int = 0

    @property
    def computed(self) -> int:
        """Rows that this stage has run, rebuilt ones included."""
        return self.rebuilt_count + self.rows_out.count

    @property
    def saved(self) -> bool:
        """Whether a checkpoint's rows are on disk, to be claimed even after a restart."""
        return _meta_file(self.folder).is_file()

    def keep_rebuilt(self, payloads: Sequence[bytes]) -> None:
        self.rebuilt.write(b"".join(payloads))
        self.rebuilt_count += len(payloads)

    def replay(self, rows: int) -> Iterator[tuple[int, int, bytes]]:
        """All rows out from position 0, for a replacement of the next stage, as (position, count, bytes) of up to ``rows`` each."""
        for file in (self.rebuilt, self.rows_out.file):
            file.flush()
        data = (self.folder / "rebuilt.rows").read_bytes() + (self.folder / "out.rows").read_bytes()
        width = len(data) // max(1, self.computed)
        for first in range(0, self.computed, rows):
            count = min(rows, self.computed - first)
            yield first, count, data[first * width : (first + count) * width]

    def first_rows(self, count: int) -> tuple[list[bytes], list[bytes]]:
        """The first ``count`` rows in and out of a session that has ended. Raises FileNotFoundError where they were dropped."""
        rows_in = _first_rows(self.folder / "in.rows", self.rows_in.count, count)
        return rows_in, _first_rows(self.folder / "out.rows", self.rows_out.count, count)

    def save(self, meta: EvidenceMeta) -> None:
        """Bring the rows to disk, then what goes with them."""
        for log in (self.rows_in, self.rows_out):
            log.file.flush()
            os.fsync(log.file.fileno())
        partial = self.folder / "meta.json.part"
        partial.write_bytes(msgspec.json.encode(meta))
        partial.rename(_meta_file(self.folder))

    def close(self) -> None:
        for file in (self.rows_in.file, self.rows_out.file, self.rebuilt):
            file.close()
        (self.folder / "rebuilt.rows").unlink(missing_ok=True)

    def discard(self) -> None:
        """Close the files of a session that ends without a receipt and remove what it kept."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class EvidenceStore:
    """A folder for each session under ``root``: ``in.rows``, ``out.rows`` and ``meta.json``."""

    def __init__(self, root: Path, budget: int) -> None:
        self.root, self.budget = root, budget
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.size = self.measure()

    def folder(self, job_id: bytes, epoch: int, first_layer: int) -> Path:
        return self.root / f"{job_id.hex()}-{epoch}-{first_layer}"

    def session_of(self, job_id: bytes, first_layer: int) -> Path:
        """The folder of a job's newest session with rows here. Raises FileNotFoundError."""
        found = [folder for folder in self.root.glob(f"{job_id.hex()}-*-{first_layer}") if _meta_file(folder).is_file()]
        if not found:
            raise FileNotFoundError
        return max(found, key=lambda folder: int(folder.name.split("-")[1]))

    def measure(self) -> int:
        """Bytes on disk, as they are now; kept in ``size``, which rows of open sessions are not in until the next call."""
        self.size = sum(file.stat().st_size for file in self.root.glob("*/*") if file.is_file())
        return self.size

    def require_room(self) -> None:
        """Raises Refused where the budget is used up: rows that somebody may ask for are never dropped for new ones."""
        if self.size >= self.budget:
            raise Refused(
                f"evidence fills {self.size:,} of {self.budget:,} bytes; new sessions wait until windows end, or FUNCNET_EVIDENCE_BYTES is raised"
            )

    def create(self, folder: Path) -> tuple[BinaryIO, BinaryIO, BinaryIO]:
        """Open the files for rows in, rows out and rebuilt rows. Raises FileExistsError where the session was there before."""
        folder.mkdir(mode=0o700)
        rows_in, rows_out, rebuilt = ((folder / f"{name}.rows").open("xb", BUFFER_BYTES) for name in ("in", "out", "rebuilt"))
        return rows_in, rows_out, rebuilt

    def sweep(self) -> int:
        """After a restart: remove sessions that reached no checkpoint; how many."""
        cut_off = [folder for folder in self.root.iterdir() if not _meta_file(folder).is_file()]
        for folder in cut_off:
            shutil.rmtree(folder)
        return len(cut_off)

    def drop(self, folder: Path) -> None:
        """Remove a session's rows; one that is gone is no error."""
        shutil.rmtree(folder, ignore_errors=True)

    def meta(self, folder: Path) -> EvidenceMeta:
        """Raises FileNotFoundError where the evidence was dropped or never finished."""
        return msgspec.json.decode(_meta_file(folder).read_bytes(), type=EvidenceMeta)

    def truncate(self, folder: Path, meta: EvidenceMeta, width_in: int, width_out: int) -> None:
        """Drop the rows past the checkpoint, of a session that was cut off; widths in bytes."""
        for name, size in (("in.rows", meta.rows_in * width_in), ("out.rows", meta.rows_out * width_out)):
            os.truncate(folder / name, size)


def _first_rows(file: Path, rows: int, count: int) -> list[bytes]:
    """The first ``count`` of a file's ``rows``."""
    width = file.stat().st_size // rows
    with file.open("rb") as source:
        return [source.read(width) for _ in range(count)]


def _meta_file(folder: Path) -> Path:
    return folder / "meta.json"
