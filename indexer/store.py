"""The indexer's tables as its writer sees them: one transaction moves rows and cursor, and only from where the writer knows the cursor to be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import Connection
from psycopg.rows import dict_row

from indexer import IndexerError, Superseded
from indexer.decode import Event
from indexer.facts import FactKey, Fold, Touch, Value, Version
from protocol.database import Row, require_url

LOCK = 0x494E4458
"""The advisory lock that the one writer holds."""
REMEMBERED = 200_000
"""Facts that the writer keeps in memory."""


class Cursor(NamedTuple):
    """How far the tables go. ``head``: the newest block of the chain when it was moved."""

    number: int
    hash: str
    safe: int
    finalized: int
    head: int
    halted: str | None = None

    def back_to(self, number: int, hash_: str) -> "Cursor":
        """After all above that block is undone; what halted it is over with it."""
        return Cursor(number, hash_, min(self.safe, number), min(self.finalized, number), self.head)


class BlockRow(NamedTuple):
    """A block as it is kept."""

    number: int
    hash: str
    timestamp: int


@dataclass
class Batch:
    """What one transaction writes: all of a stretch of blocks."""

    blocks: Sequence[BlockRow]
    events: Sequence[Event]
    touches: Sequence[Touch]


@dataclass
class Store:
    """A connection of the writer's own, which holds the lock: lost with it, so that a standby can take over."""

    url: str
    remembered: dict[FactKey, Value] = field(default_factory=dict)
    leads: bool = False
    _connection: Connection[Row] | None = None

    @property
    def connection(self) -> Connection[Row]:
        if self._connection is None or self._connection.closed:
            self.remembered, self.leads = {}, False
            self._connection = psycopg.connect(require_url(self.url), row_factory=dict_row, autocommit=True)
        return self._connection

    def lead(self) -> bool:
        """Whether this is the one writer: its connection holds the lock already, or takes it now."""
        connection = self.connection
        if not self.leads:
            row = connection.execute("SELECT pg_try_advisory_lock(%s) AS mine", (LOCK,)).fetchone()
            self.leads = bool(row and row["mine"])
        return self.leads

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def cursor(self) -> Cursor | None:
        """Where the tables stand; None before the first block."""
        return read_cursor(self.connection)

    def hashes(self, first: int, last: int) -> dict[int, str]:
        """Hashes of the blocks in that stretch that are kept."""
        rows = self.connection.execute("SELECT number, hash FROM indexer.block WHERE number BETWEEN %s AND %s", (first, last))
        return {row["number"]: row["hash"] for row in rows}

    def kept_before(self, block: int) -> tuple[int, str]:
        """Number and hash of the newest block below ``block`` that is kept. Raises IndexerError where none is."""
        row = self.connection.execute("SELECT number, hash FROM indexer.block WHERE number < %s ORDER BY number DESC LIMIT 1", (block,)).fetchone()
        row = row or self.connection.execute("SELECT number, hash FROM indexer.block ORDER BY number LIMIT 1").fetchone()
        if row is None:
            raise IndexerError("no block is kept")
        return row["number"], row["hash"]

    def newest_event(self, contract: str, by: int | None = None) -> tuple[int, int]:
        """A contract's highest sequence number and the block it stands in, of all or by a block; zeros where it has none."""
        row = self.connection.execute(
            "SELECT sequence, block_number FROM indexer.event WHERE contract = %(contract)s AND sequence IS NOT NULL "
            "AND (%(by)s::bigint IS NULL OR block_number <= %(by)s) ORDER BY sequence DESC LIMIT 1",
            {"contract": contract, "by": by},
        ).fetchone()
        return (row["sequence"], row["block_number"]) if row else (0, 0)

    def write(self, before: Cursor | None, after: Cursor, batch: Batch, keep: int | None = None) -> None:
        """Undo all blocks above ``keep``, where one is given; write the batch; move the cursor. All or nothing. Raises Superseded, or what the
        database raises."""
        try:
            with self.connection.transaction():
                self._lock()
                if keep is not None:
                    self._undo(keep)
                self._insert(batch)
                self._fold(batch.touches)
                self._move(before, after)
        except BaseException:
            self.remembered = {}
            raise

    def _lock(self) -> None:
        """Let nobody else write or rewind until this transaction's end: what they commit in between would be undone in part."""
        self.connection.execute("SELECT FROM indexer.cursor FOR UPDATE")

    def _undo(self, keep: int) -> None:
        self.remembered = {}
        gone = "WITH gone AS (DELETE FROM indexer.version WHERE block_number > %(keep)s RETURNING kind, key)"
        self.connection.execute(
            f"{gone} UPDATE indexer.version v SET until = NULL FROM (SELECT DISTINCT kind, key FROM gone) g "
            "WHERE v.kind = g.kind AND v.key = g.key AND v.block_number <= %(keep)s AND v.until > %(keep)s",
            {"keep": keep},
        )
        self.connection.execute("DELETE FROM indexer.event WHERE block_number > %s", (keep,))
        self.connection.execute("DELETE FROM indexer.block WHERE number > %s", (keep,))
        self.connection.execute("DELETE FROM indexer.epoch WHERE block_number > %s", (keep,))

    def _insert(self, batch: Batch) -> None:
        encode = msgspec.json.encode
        cursor = self.connection.cursor()
        with cursor.copy("COPY indexer.block FROM STDIN") as copy:
            for block in batch.blocks:
                copy.write_row(block)
        if not batch.events:
            return
        with cursor.copy("COPY indexer.event FROM STDIN") as copy:
            for e in batch.events:
                copy.write_row((e.block_number, e.log_index, e.tx_hash, e.contract, e.name, e.sequence, encode(e.args).decode()))

    def _fold(self, touches: Sequence[Touch]) -> None:
        fold = Fold(self._load(touches))
        for touch in touches:
            fold.apply(touch)
        if not fold.written:
            return
        starts = [(key.kind, key.key, versions[0].block) for key, versions in fold.written.items()]
        kinds, keys, blocks = (list(column) for column in zip(*starts, strict=True))
        self.connection.execute(
            "UPDATE indexer.version v SET until = s.block FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS s(kind, key, block) "
            "WHERE v.kind = s.kind AND v.key = s.key AND v.until IS NULL",
            (kinds, keys, blocks),
        )
        with self.connection.cursor().copy("COPY indexer.version FROM STDIN") as copy:
            for key, versions in fold.written.items():
                for v in versions:
                    copy.write_row((key.kind, key.key, v.block, v.until, v.log, msgspec.json.encode(v.value).decode()))
        self._remember(fold.written)

    def _load(self, touches: Iterable[Touch]) -> dict[FactKey, Value]:
        """The value of each fact that is touched, as far as there is one."""
        wanted = {key for touch in touches for key in touch.keys}
        unknown = [key for key in wanted if key not in self.remembered]
        current = {key: self.remembered[key] for key in wanted if key in self.remembered}
        if unknown:
            rows = self.connection.execute(
                "SELECT kind, key, value FROM indexer.version JOIN unnest(%s::text[], %s::text[]) AS w(kind, key) USING (kind, key) "
                "WHERE until IS NULL",
                ([key.kind for key in unknown], [key.key for key in unknown]),
            )
            current |= {FactKey(row["kind"], row["key"]): row["value"] for row in rows}
        return current

    def _remember(self, written: dict[FactKey, list[Version]]) -> None:
        if len(self.remembered) + len(written) > REMEMBERED:
            self.remembered = {}
        self.remembered |= {key: versions[-1].value for key, versions in written.items()}

    def _move(self, before: Cursor | None, after: Cursor) -> None:
        """Compare and swap: another writer's move in between is not overwritten."""
        row: tuple[Any, ...] = (after.number, after.hash, after.safe, after.finalized, after.head, after.halted)
        if before is None:
            moved = self.connection.execute(
                "INSERT INTO indexer.cursor (number, hash, safe, finalized, head, halted) VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", row
            )
        else:
            moved = self.connection.execute(
                "UPDATE indexer.cursor SET number = %s, hash = %s, safe = %s, finalized = %s, head = %s, halted = %s WHERE number = %s AND hash = %s",
                (*row, before.number, before.hash),
            )
        if moved.rowcount != 1:
            raise Superseded("another indexer has moved the cursor; this one reads it again")

    def halt(self, cursor: Cursor, reason: str) -> None:
        """Stop: no reader is told a figure and nothing is written until ``rewind``."""
        with self.connection.transaction():
            self._move(cursor, cursor._replace(halted=reason))
            self.note("finality", cursor.finalized, reason)

    def rewind(self, to: int) -> Cursor:
        """Undo all blocks above the newest that is kept at or below ``to``, and go on from there. Raises IndexerError where none is."""
        with self.connection.transaction():
            self._lock()
            cursor = self.cursor()
            if cursor is None:
                raise IndexerError("nothing is indexed yet; there is nothing to undo")
            keep, hash_ = self.kept_before(to + 1)
            after = cursor.back_to(keep, hash_)
            self._undo(keep)
            self._move(cursor, after)
            self.note("rewind", keep, f"from block {cursor.number}")
        return after

    def note(self, kind: str, block: int, detail: str) -> None:
        """Keep what was noticed."""
        self.connection.execute("INSERT INTO indexer.incident (kind, block_number, detail) VALUES (%s, %s, %s)", (kind, block, detail))


def read_cursor(connection: Connection[Row]) -> Cursor | None:
    """Where the tables stand; None before the first block."""
    row = connection.execute("SELECT number, hash, safe, finalized, head, halted FROM indexer.cursor").fetchone()
    return Cursor(**row) if row else None
