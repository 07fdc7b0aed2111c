"""The agent's own books in SQLite: receipts, vouchers, batches. Committed to disk before anything is acknowledged."""

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from protocol.receipts import Authorisation, StageReceipt, Voucher
from protocol.typed import Signed

SCHEMA = """
-- Every session ever opened, by its folder's name: one that is opened twice could be made to sign two things about the same rows.
CREATE TABLE IF NOT EXISTS session (
    folder TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipt (
    number INTEGER PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE,
    receipt BLOB NOT NULL,
    checkpoint BLOB NOT NULL,
    amount TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    batch_id INTEGER
);
-- Whether a receipt's rows are pinned (somebody with a duty or a seat was given them) and whether they are gone.
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY,
    pinned INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS voucher (
    stream TEXT PRIMARY KEY,
    cumulative TEXT NOT NULL,
    earned TEXT NOT NULL,
    redeemed TEXT NOT NULL DEFAULT '0',
    voucher BLOB NOT NULL
);
-- The greatest that a payer has signed for, where it signs its requests.
CREATE TABLE IF NOT EXISTS authorisation (
    payer TEXT NOT NULL,
    gateway TEXT NOT NULL,
    cumulative TEXT NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (payer, gateway)
);
CREATE TABLE IF NOT EXISTS batch (
    batch_id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    root BLOB NOT NULL,
    released INTEGER NOT NULL DEFAULT 0
);
"""


@dataclass(frozen=True)
class StoredReceipt:
    """A receipt with the checkpoint that it names and where its rows are; ``batch_id`` once it is anchored."""

    number: int
    folder: str
    signed: Signed
    checkpoint: Signed
    batch_id: int | None

    @property
    def receipt(self) -> StageReceipt:
        return StageReceipt.from_json(self.signed.message)


class Ledger:
    """One connection behind one lock; amounts are stored as decimal text, since wei outgrow SQLite's integers."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._db.close()

    def next_number(self) -> int:
        """The next consecutive receipt number, from 1."""
        return int(self._all("SELECT COALESCE(MAX(number), 0) + 1 FROM receipt")[0][0])

    def begin_session(self, folder: str) -> bool:
        """Note that a session is opened, for good; False for one that was opened before."""
        with self._lock:
            return self._db.execute("INSERT OR IGNORE INTO session VALUES (?)", (folder,)).rowcount == 1

    def add_receipt(self, receipt: StageReceipt, signed: Signed, checkpoint: Signed, folder: str, voucher: Voucher, signed_voucher: Signed) -> None:
        """Store a receipt, its checkpoint and the voucher that pays it, in one transaction. Raises sqlite3.IntegrityError for a number used before.

        Of two vouchers the higher is kept: those of jobs that end together may come in either order.
        """
        tokens, stream = receipt.prompt_tokens + receipt.completion_tokens, stream_of(voucher)
        cumulative, earned = self.standing(stream)
        with self._lock, self._transaction():
            row = (receipt.number, folder, msgspec.json.encode(signed), msgspec.json.encode(checkpoint), str(receipt.amount), tokens)
            self._db.execute("INSERT INTO receipt (number, folder, receipt, checkpoint, amount, tokens) VALUES (?, ?, ?, ?, ?, ?)", row)
            if voucher.cumulative > cumulative:
                self._db.execute(
                    "INSERT INTO voucher (stream, cumulative, earned, voucher) VALUES (?, ?, '0', ?) "
                    "ON CONFLICT (stream) DO UPDATE SET cumulative = excluded.cumulative, voucher = excluded.voucher",
                    (stream, str(voucher.cumulative), msgspec.json.encode(signed_voucher)),
                )
            self._db.execute("UPDATE voucher SET earned = ? WHERE stream = ?", (str(earned + receipt.amount), stream))

    def keep_authorisation(self, given: Authorisation, signed: Signed) -> None:
        """Keep what a payer has signed for, if it is more than before."""
        with self._lock, self._transaction():
            row = self._db.execute("SELECT cumulative FROM authorisation WHERE payer = ? AND gateway = ?", (given.payer, given.gateway)).fetchone()
            if row is None or int(row[0]) < given.cumulative:
                values = (given.payer, given.gateway, str(given.cumulative), msgspec.json.encode(signed))
                self._db.execute("INSERT OR REPLACE INTO authorisation VALUES (?, ?, ?, ?)", values)

    def signed_for(self, payer: str, gateway: str) -> int:
        """The greatest cumulative amount that the payer has signed for this gateway, 0 where it signs nothing."""
        row = self._one("SELECT cumulative FROM authorisation WHERE payer = ? AND gateway = ?", payer, gateway)
        return 0 if row is None else int(row[0])

    def authorisation(self, payer: str, gateway: str) -> Signed | None:
        row = self._one("SELECT signed FROM authorisation WHERE payer = ? AND gateway = ?", payer, gateway)
        return None if row is None else msgspec.json.decode(row[0], type=Signed)

    def receipt(self, number: int) -> StoredReceipt | None:
        row = self._one(f"SELECT {_COLUMNS} FROM receipt WHERE number = ?", number)
        return None if row is None else _stored(row)

    def receipt_of(self, folder: str) -> StoredReceipt | None:
        """The receipt of a session, by its evidence folder."""
        row = self._one(f"SELECT {_COLUMNS} FROM receipt WHERE folder = ?", folder)
        return None if row is None else _stored(row)

    def receipts(self, first: int, last: int) -> list[StoredReceipt]:
        rows = self._all(f"SELECT {_COLUMNS} FROM receipt WHERE number BETWEEN ? AND ? ORDER BY number", first, last)
        return [_stored(row) for row in rows]

    def unanchored(self) -> list[StoredReceipt]:
        return [_stored(row) for row in self._all(f"SELECT {_COLUMNS} FROM receipt WHERE batch_id IS NULL ORDER BY number")]

    def record_batch(self, batch_id: int, first: int, last: int, root: bytes) -> None:
        with self._lock, self._transaction():
            self._db.execute("INSERT OR IGNORE INTO batch (batch_id, first, last, root) VALUES (?, ?, ?, ?)", (batch_id, first, last, root))
            self._db.execute("UPDATE receipt SET batch_id = ? WHERE number BETWEEN ? AND ?", (batch_id, first, last))

    def forget_batches(self, kept: int) -> int:
        """Drop the batches from number ``kept`` on and let their receipts wait again; how many there were."""
        with self._lock, self._transaction():
            self._db.execute("UPDATE receipt SET batch_id = NULL WHERE batch_id >= ?", (kept,))
            return self._db.execute("DELETE FROM batch WHERE batch_id >= ?", (kept,)).rowcount

    def batch_range(self, batch_id: int) -> tuple[int, int] | None:
        """(first, last) receipt number of a batch, None for one that is not anchored."""
        row = self._one("SELECT first, last FROM batch WHERE batch_id = ?", batch_id)
        return None if row is None else (int(row[0]), int(row[1]))

    def unreleased_batches(self) -> list[int]:
        return [int(row[0]) for row in self._all("SELECT batch_id FROM batch WHERE released = 0 ORDER BY batch_id")]

    def mark_released(self, batch_id: int) -> None:
        with self._lock:
            self._db.execute("UPDATE batch SET released = 1 WHERE batch_id <= ?", (batch_id,))

    def pin(self, number: int) -> None:
        """Note that a receipt's rows must be kept until its dispute window ends."""
        with self._lock:
            self._db.execute("INSERT INTO rows (number, pinned) VALUES (?, 1) ON CONFLICT (number) DO UPDATE SET pinned = 1", (number,))

    def is_pinned(self, number: int) -> bool:
        return self._one("SELECT 1 FROM rows WHERE number = ? AND pinned = 1", number) is not None

    def mark_dropped(self, number: int) -> None:
        with self._lock:
            self._db.execute("INSERT INTO rows (number, dropped) VALUES (?, 1) ON CONFLICT (number) DO UPDATE SET dropped = 1", (number,))

    def kept_batches(self) -> list[int]:
        """Batches of which some receipt's rows are still on disk."""
        rows = self._all(f"SELECT DISTINCT batch_id FROM receipt WHERE batch_id IS NOT NULL AND {_KEPT} ORDER BY batch_id")
        return [int(row[0]) for row in rows]

    def kept_receipts(self, batch_id: int) -> list[StoredReceipt]:
        """A batch's receipts whose rows are still on disk."""
        rows = self._all(f"SELECT {_COLUMNS} FROM receipt WHERE batch_id = ? AND {_KEPT} ORDER BY number", batch_id)
        return [_stored(row) for row in rows]

    def standing(self, stream: str) -> tuple[int, int]:
        """(the highest cumulative amount signed for a stream, the sum of the receipts given for it)."""
        row = self._one("SELECT cumulative, earned FROM voucher WHERE stream = ?", stream)
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def vouchers(self) -> list[Voucher]:
        """The newest voucher of each stream."""
        rows = self._all("SELECT voucher FROM voucher")
        return [Voucher.from_json(msgspec.json.decode(raw, type=Signed).message) for (raw,) in rows]

    def unredeemed(self) -> list[tuple[Voucher, Signed, int]]:
        """Vouchers worth more than what was redeemed: (voucher, signed, outstanding wei)."""
        found = []
        for raw, redeemed in self._all("SELECT voucher, redeemed FROM voucher"):
            signed = msgspec.json.decode(raw, type=Signed)
            voucher = Voucher.from_json(signed.message)
            if voucher.cumulative > int(redeemed):
                found.append((voucher, signed, voucher.cumulative - int(redeemed)))
        return found

    def mark_redeemed(self, voucher: Voucher, redeemed: int) -> None:
        with self._lock:
            self._db.execute("UPDATE voucher SET redeemed = ? WHERE stream = ?", (str(redeemed), stream_of(voucher)))

    def _one(self, sql: str, *args: object) -> tuple[Any, ...] | None:
        with self._lock:
            return self._db.execute(sql, args).fetchone()

    def _all(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, args).fetchall()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


_COLUMNS = "number, folder, receipt, checkpoint, batch_id"
_KEPT = "NOT EXISTS (SELECT 1 FROM rows WHERE rows.number = receipt.number AND dropped = 1)"


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.db.execute("ROLLBACK" if kind else "COMMIT")


def stream_of(voucher: Voucher) -> str:
    """The key of a voucher's stream for one provider: payer, gateway, model."""
    return f"{voucher.payer}-{voucher.gateway}-{voucher.model_id.hex()}"


def _stored(row: tuple[Any, ...]) -> StoredReceipt:
    number, folder, receipt, checkpoint, batch_id = row
    signed, point = (msgspec.json.decode(raw, type=Signed) for raw in (receipt, checkpoint))
    return StoredReceipt(int(number), str(folder), signed, point, None if batch_id is None else int(batch_id))
