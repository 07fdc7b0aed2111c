"""Follow the chain: backfill by range, roll back by block hash, and prove by sequence numbers that no log is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
import structlog
from psycopg import Cursor
from psycopg.types.json import Jsonb
from web3.exceptions import Web3Exception

from indexer import MissingLogs
from indexer.decode import Decoder, Event
from protocol.chain import Chain
from protocol.database import Pool

log = structlog.get_logger()

RANGE_BLOCKS = 500


@dataclass(frozen=True)
class Header:
    """A block as far as it tells a reorg."""

    number: int
    hash: str
    timestamp: int


def find_gap(contract: str, newest: int, events: Sequence[Event]) -> str | None:
    """Words for the first missing sequence number of a contract after ``newest``, or None where there is none."""
    for event in events:
        if event.contract != contract or event.sequence is None:
            continue
        if event.sequence != newest + 1:
            return f"{contract} goes from event {newest} to {event.sequence}"
        newest = event.sequence
    return None


@dataclass
class Follower:
    """Moves the database along the chain, one range a step; rows and cursor change in one transaction."""

    chain: Chain
    pool: Pool
    decoder: Decoder

    def step(self) -> bool:
        """Take one range; whether there is more. Raises MissingLogs, or what the node or the database raise."""
        with self.pool.connection() as connection, connection.cursor() as cursor:
            self._roll_back(cursor)
            newest = cursor.execute("SELECT max(number) AS number FROM indexer.block").fetchone()
            start = self.chain.deployment.from_block if newest is None or newest["number"] is None else newest["number"] + 1
            head = self.chain.web3.eth.block_number
            end = min(head, start + RANGE_BLOCKS - 1)
            if end < start:
                return False
            events = self._fetch(start, end)
            self._check_sequences(cursor, events)
            self._write(cursor, events, start, end)
            missing = self._prove_complete(cursor, head) if end == head else None
        if missing:
            raise MissingLogs(missing)
        return end < head

    def _prove_complete(self, cursor: Cursor[Any], head: int) -> str | None:
        """Compare each contract's own counter at the head with what is indexed. A shortfall is named, and what lies from the last event
        that is sure on is dropped, to be fetched again: a log left out at the end of a range leaves no gap to see."""
        for name in self._sequenced:
            row = cursor.execute(
                "SELECT max(sequence) AS newest, max(block_number) AS block FROM indexer.event WHERE contract = %s AND sequence IS NOT NULL",
                (name,),
            ).fetchone()
            assert row is not None
            told = self.chain[name].functions.lastSequence().call(block_identifier=head)
            if told > (row["newest"] or 0):
                cursor.execute("DELETE FROM indexer.block WHERE number >= %s", (row["block"] or 0,))
                return f"{name} has {told} events, {row['newest'] or 0} were given; asking again"
        return None

    @property
    def _sequenced(self) -> list[str]:
        return [name for name in self.decoder.names.values() if name not in ("FuncToken", "AccessManager", "TimelockController")]

    def _fetch(self, start: int, end: int) -> list[Event]:
        logs = self.chain.web3.eth.get_logs({"address": self.decoder.addresses, "fromBlock": start, "toBlock": end})  # type: ignore[typeddict-item]
        events = [event for entry in logs if (event := self.decoder.decode(entry)) is not None]
        return sorted(events, key=lambda event: (event.block_number, event.log_index))

    def _header(self, number: int) -> Header:
        block = self.chain.web3.eth.get_block(number)
        return Header(number, "0x" + bytes(block["hash"]).hex(), block["timestamp"])

    def _roll_back(self, cursor: Cursor[Any]) -> None:
        """Delete blocks from the newest down to the last one that the node still has."""
        head = self.chain.web3.eth.block_number
        while row := cursor.execute("SELECT number, hash FROM indexer.block ORDER BY number DESC LIMIT 1").fetchone():
            if row["number"] <= head and self._header(row["number"]).hash == row["hash"]:
                return
            log.warning("reorg", block=row["number"])
            cursor.execute("DELETE FROM indexer.block WHERE number = %s", (row["number"],))

    def _check_sequences(self, cursor: Cursor[Any], events: list[Event]) -> None:
        for contract in {event.contract for event in events}:
            row = cursor.execute("SELECT COALESCE(max(sequence), 0) AS newest FROM indexer.event WHERE contract = %s", (contract,)).fetchone()
            assert row is not None
            if gap := find_gap(contract, row["newest"], events):
                raise MissingLogs(f"{gap}; the node left logs out, asking again")

    def _write(self, cursor: Cursor[Any], events: list[Event], start: int, end: int) -> None:
        hashes = {event.block_number: event.block_hash for event in events}
        for number in sorted({*hashes, *range(max(start, end - 63), end + 1)}):
            header = self._header(number)
            if hashes.get(number, header.hash) != header.hash:
                raise MissingLogs(f"block {number} changed while it was read, asking again")
            cursor.execute("INSERT INTO indexer.block VALUES (%s, %s, %s)", (number, header.hash, header.timestamp))
        cursor.executemany(
            "INSERT INTO indexer.event VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [(e.block_number, e.log_index, e.tx_hash, e.contract, e.name, e.sequence, Jsonb(e.args)) for e in events],
        )

    def complete(self) -> dict[str, int]:
        """How many events each contract has beyond what is indexed: by its own counter. Empty where nothing is missing."""
        missing = {}
        with self.pool.connection() as connection:
            for name in self._sequenced:
                row = connection.execute("SELECT COALESCE(max(sequence), 0) AS n FROM indexer.event WHERE contract = %s", (name,)).fetchone()
                assert row is not None
                if behind := self.chain.call(name, "lastSequence") - row["n"]:
                    missing[name] = behind
        return missing


RETRYABLE = (MissingLogs, Web3Exception, requests.RequestException)
"""What following again can mend."""
