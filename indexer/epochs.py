"""A Merkle root over each epoch's rewards and usage, and a word over all roots so far: two indexers with the same word have the same figures.

An epoch's rows are what was paid and redeemed in blocks of that epoch, so that nothing is added to it once its last block is final. A row's leaf is
the keccak of its text, hashed once more as `protocol.trees` does. The text is JSON without spaces: kind, key, and the value with its members sorted.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eth_hash.auto import keccak
from psycopg import Connection

from indexer.facts import DIGITS, Constants, Value
from protocol.database import Row
from protocol.trees import BatchTree

KINDS = ("epoch_reward", "epoch_usage")
NO_ROWS = "0x" + "00" * 32


class EpochRow(NamedTuple):
    """One of an epoch's figures."""

    kind: str
    key: str
    value: Value

    @property
    def text(self) -> str:
        return json.dumps([self.kind, self.key, self.value], sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> bytes:
        return bytes(keccak(self.text.encode()))


def tree(rows: Sequence[EpochRow]) -> BatchTree | None:
    """The tree over an epoch's rows by kind and key; None where there are none."""
    return BatchTree([row.hash for row in sorted(rows)]) if rows else None


def root(rows: Sequence[EpochRow]) -> str:
    """The root as 0x hex; zeros for an epoch without rows."""
    built = tree(rows)
    return "0x" + built.root.hex() if built else NO_ROWS


def next_word(word: str, root_: str) -> str:
    """The word of an epoch: keccak of the word before it and its root."""
    return "0x" + bytes(keccak(bytes.fromhex(word[2:] + root_[2:]))).hex()


def read_rows(connection: Connection[Row], epoch: int, at: int) -> list[EpochRow]:
    """An epoch's rows as they stand at a block, in the order of the tree."""
    prefix = str(epoch).zfill(DIGITS)
    found = connection.execute(
        "SELECT kind, key, value FROM indexer.version WHERE kind = ANY(%s) AND key >= %s AND key < %s AND block_number <= %s "
        "AND (until IS NULL OR until > %s) ORDER BY kind, key",
        (list(KINDS), prefix + "/", prefix + "0", at, at),
    )
    return sorted(EpochRow(row["kind"], row["key"], row["value"]) for row in found)


@dataclass
class Seals:
    """Keeps the root of each epoch that has become final."""

    constants: Constants

    def seal(self, connection: Connection[Row], finalized: int) -> None:
        """Add the epochs whose last block is final and that are not kept yet."""
        newest = "SELECT timestamp FROM indexer.block WHERE number <= %s ORDER BY number DESC LIMIT 1"
        row = connection.execute(newest, (finalized,)).fetchone()
        last = connection.execute("SELECT epoch, word FROM indexer.epoch ORDER BY epoch DESC LIMIT 1").fetchone()
        if row is None:
            return
        epoch, word = (last["epoch"] + 1, last["word"]) if last else (0, NO_ROWS)
        with connection.transaction():
            for sealed in self._final(epoch, row["timestamp"]):
                rows = read_rows(connection, sealed, finalized)
                word = next_word(word, root(rows))
                connection.execute(
                    "INSERT INTO indexer.epoch VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", (sealed, root(rows), word, len(rows), finalized)
                )

    def _final(self, first: int, time: int) -> Iterable[int]:
        """Epochs from the first one on that have ended by a time."""
        return range(first, self.constants.epoch(time))
