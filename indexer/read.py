"""What the API reads: facts as they hold at a block, events, jobs; never the chain."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection, sql

from indexer import epochs, queries
from indexer.facts import KINDS, join_key
from indexer.store import Cursor, read_cursor
from protocol.database import Pool, Row
from protocol.routing import REASONS
from protocol.typed import camel

FIRST, LAST = "\x01", "\U0010ffff"
"""A character before, and one behind, all that keys have."""


class BadRequest(Exception):
    """A question that cannot be answered; the words say why."""


class NotThere(Exception):
    """What was asked for is not there."""


class Halted(Exception):
    """No figure is told until somebody has looked."""


class Page(NamedTuple):
    """Part of a listing. ``next``: what to ask for as ``after``, None at the end."""

    data: list[Row]
    next: str | None
    block: int
    finality: str


@dataclass
class Session:
    """One answer's view: all of it as of one moment, and of one block."""

    connection: Connection[Row]
    cursor: Cursor
    at: int
    latest: bool

    def rows(self, query: str, **values: Any) -> list[Row]:
        """Rows of one of `queries`, each with the finality of the block that it comes from. Raises BadRequest."""
        if any("\0" in value for value in values.values() if isinstance(value, str)):
            raise BadRequest("a parameter holds a NUL, which no figure has")
        found = list(self.connection.execute(queries.facts_at(query, self.latest).encode(), {"at": self.at, **values}).fetchall())
        for row in found:
            if "block_number" in row:
                row["finality"] = self.finality(row["block_number"])
        return found

    def finality(self, block: int) -> str:
        return "finalized" if block <= self.cursor.finalized else "safe" if block <= self.cursor.safe else "latest"

    def page(self, data: list[Row], limit: int, key: str) -> Page:
        """``key``: the row's member that the next part begins after."""
        more = len(data) == limit
        return Page(data, str(data[-1][key]) if more else None, self.at, self.finality(self.at))

    def provider_of(self, operator: str) -> str | None:
        """Whose operator an account is or was."""
        found = self.rows("SELECT o.value ->> 'provider' AS provider FROM {operator} o WHERE o.key = %(operator)s", operator=operator)
        return found[0]["provider"] if found else None

    def has_bond(self, gateway: str) -> bool:
        """Whether a gateway has FUNC at stake."""
        found = self.rows("SELECT 1 AS there FROM {bond} b WHERE b.key = %(gateway)s AND b.value ->> 'balance' <> '0'", gateway=gateway)
        return bool(found)

    # listings

    def providers(self, after: str, limit: int, provider: str | None = None) -> Page:
        return self.page(self.rows(queries.PROVIDERS, after=after, limit=limit, provider=provider), limit, "provider")

    def verifiers(self, after: str, limit: int) -> Page:
        return self.page(self.rows(queries.VERIFIERS, after=after, limit=limit), limit, "verifier")

    def disputes(self, after: str, limit: int, provider: str | None = None) -> Page:
        page = self.page(self.rows(queries.DISPUTES, before=after or None, limit=limit, provider=provider), limit, "dispute_id")
        return page._replace(next=page.next and join_key((page.next,)))

    def rewards(self, after: str, limit: int, filters: Mapping[str, str]) -> Page:
        page = self.facts("reward", after, limit, filters)
        data = [{**row, "newest_tx": row["tx_hash"]} for row in page.data]
        return page._replace(data=data)

    def facts(self, kind: str, after: str, limit: int, filters: Mapping[str, str]) -> Page:
        """Facts of a kind by key. ``filters``: members and what they have to be; those that lead the key are found by it."""
        leading = []
        for member in KINDS[kind]:
            if member not in filters:
                break
            leading.append(filters[member])
        whole = len(leading) == len(KINDS[kind])
        prefix = join_key(tuple(leading)) + ("" if whole or not leading else "/")
        end = prefix + (FIRST if whole and leading else LAST)
        parts, values = _members("f.value", filters)
        query = queries.FACTS.replace("{kind}", "{" + kind + "}").replace("{filters}", _all(parts))
        found = self.rows(query, after=after or None, prefix=prefix, end=end, limit=limit, **values)
        page = self.page(found, limit, "key")
        return page._replace(data=[{**row.pop("value"), **row} for row in found])

    def history(self, kind: str, key: str, before: int | None, limit: int) -> Page:
        """A fact's versions, newest first."""
        found = self.rows(queries.HISTORY, kind=kind, key=key, before=before if before is not None else 2**62, limit=limit)
        if not found and before is None:
            raise NotThere(f"there is no {kind} {key}")
        page = self.page(found, limit, "block_number")
        return page._replace(data=[{**row.pop("value"), **row} for row in found])

    def events(self, after: str, limit: int, args: Mapping[str, str], contract: str | None = None, name: str | None = None) -> Page:
        """Events, newest first. ``args``: members of the event and what they have to be."""
        block, log = _place(after)
        wanted = {"contract": contract, "name": name}
        parts, values = _members("args", args)
        parts += _columns(column for column, value in wanted.items() if value is not None)
        query = queries.EVENTS.replace("{filters}", _all(parts))
        found = self.rows(query, block=block, log=log, limit=limit, **wanted, **values)
        for row in found:
            row["place"] = f"{row['block_number']}-{row['log_index']}"
        return self.page(found, limit, "place")

    def batches(self, after: str, limit: int, args: Mapping[str, str]) -> Page:
        page = self.events(after, limit, args, name="BatchAnchored")
        return page._replace(
            data=[
                {
                    "provider": row["args"]["provider"],
                    "batch_id": row["args"]["batchId"],
                    "epoch": row["args"]["epoch"],
                    "batch": row["args"]["batch"],
                    "tip": row["args"]["tip"],
                    **_origin(row),
                }
                for row in page.data
            ]
        )

    def checks(self, after: str, limit: int, args: Mapping[str, str]) -> Page:
        page = self.events(after, limit, args, name="DutiesPosted")
        members = ("verifier", "epoch", "count", "root")
        return page._replace(data=[{**{name: row["args"][name] for name in members}, **_origin(row)} for row in page.data])

    def work(self, provider: str | None, hours: int, limit: int) -> Row:
        """What work gateways had for providers in the last hours, and what ruled each out of the rest; for one provider, how it stands on chain."""
        reasons = ", ".join(f"sum((body -> 'message' ->> '{camel(name)}')::bigint)::bigint AS {name}" for name in REASONS)
        now = int(time.time())
        rows = self.rows(queries.WORK.replace("{reasons}", reasons), **{"from": now - 3600 * hours}, provider=provider, limit=limit)
        for row in rows:
            row["ruled_out"] = {name: count for name in REASONS if (count := row.pop(name))}
        standing = self.rows(queries.STANDING, provider=provider) if provider else []
        if provider and not standing:
            raise NotThere(f"{provider} is no registered provider; `provider-agent register` makes it one")
        return {"data": rows, "standing": standing[0] if standing else None, "meaning": REASONS}

    def jobs(self, before: str | None, limit: int, filters: Mapping[str, str]) -> Page:
        """Jobs by the receipts that were handed in, newest first."""
        if before is not None:
            before = _moment(before)
        found = self.rows(queries.JOBS.replace("{where}", _all(_columns(filters))), before=before, limit=limit, **filters)
        return self.page(found, limit, "received")

    def usage(self, by: tuple[str, ...], after: str, limit: int, filters: Mapping[str, str]) -> Page:
        """Receipts' sums by some of their columns, and by day."""
        columns = ", ".join(USAGE_BY[name] for name in by)
        place = after.split("/") if after else []
        if place and len(place) != len(by):
            raise BadRequest(f"after {after!r} is not of this listing; take it from the former answer's `next`")
        values = {f"after{i}": part for i, part in enumerate(place)}
        names = ", ".join(f"({USAGE_BY[name]})::text" for name in by)
        later = f"({names}) > ({', '.join(f'%(after{i})s' for i in range(len(place)))})" if place else "true"
        query = queries.USAGE.replace("{where}", _all(_columns(filters))).replace("{after}", later)
        selected = ", ".join(f"{USAGE_BY[name]} AS {name}" for name in by)
        query = query.replace("{by}", selected, 1).replace("{by}", columns)
        found = self.rows(query, limit=limit, **values, **filters)
        page = self.page(found, limit, by[0])
        return page._replace(next=page.next and "/".join(str(found[-1][name]) for name in by))

    # epochs

    def epoch(self, number: int) -> Row:
        """An epoch's rows and root; final once its word is there."""
        rows = epochs.read_rows(self.connection, number, self.at)
        sealed = self.connection.execute("SELECT root, word FROM indexer.epoch WHERE epoch = %s", (number,)).fetchone()
        final = sealed is not None and self.at >= self.cursor.finalized
        return {
            "epoch": number,
            "root": epochs.root(rows),
            "word": sealed["word"] if sealed and final else None,
            "final": final,
            "rows": [{"fact": row.kind, "key": row.key, "text": row.text, **row.value} for row in rows],
        }

    def proof(self, number: int, fact: str, key: str) -> Row:
        """A row of an epoch with its way to the root."""
        rows = epochs.read_rows(self.connection, number, self.at)
        tree = epochs.tree(rows)
        found = [i for i, row in enumerate(rows) if (row.kind, row.key) == (fact, key)]
        if tree is None or not found:
            raise NotThere(f"epoch {number} has no row {key} of {fact}; see /v1/epochs/{number}")
        (index,) = found
        proof = ["0x" + sibling.hex() for sibling in tree.proof(index)]
        return {"epoch": number, "text": rows[index].text, "hash": "0x" + rows[index].hash.hex(), "root": "0x" + tree.root.hex(), "proof": proof}

    def epochs(self, after: str, limit: int) -> Page:
        before = _number(after, "after") if after else 2**62
        found = self.rows("SELECT * FROM indexer.epoch WHERE epoch < %(before)s ORDER BY epoch DESC LIMIT %(limit)s", before=before, limit=limit)
        return self.page(found, limit, "epoch")


USAGE_BY = {
    "payer": "payer",
    "gateway": "gateway",
    "provider": "provider",
    "model_id": "model_id",
    "day": "(received_at AT TIME ZONE 'UTC')::date::text",
}


def _all(parts: list[str]) -> str:
    return " AND ".join(parts) or "true"


def _columns(names: Iterable[str]) -> list[str]:
    """Conditions that columns have the parameters of their names; the names are ours, never a caller's."""
    return [f"{name} = %({name})s" for name in names]


def _members(column: str, wanted: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Conditions on members of a JSON column, with the parameters that hold their names and values."""
    parts = [f"{column} ->> %(name{i})s = %(value{i})s" for i in range(len(wanted))]
    return parts, {f"name{i}": name for i, name in enumerate(wanted)} | {f"value{i}": value for i, value in enumerate(wanted.values())}


def _origin(row: Row) -> Row:
    return {name: row[name] for name in ("block_number", "log_index", "tx_hash", "finality", "place")}


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise BadRequest(f"after {text!r} is no time; take it from the former answer's `next`") from None


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise BadRequest(f"{name} {text!r} is no number")
    return int(text)


def _place(after: str) -> tuple[int, int]:
    if not after:
        return 2**62, 0
    block, dash, log = after.partition("-")
    if not dash:
        raise BadRequest(f"after {after!r} is no place; take it from the former answer's `next`, as in 1234-5")
    return _number(block, "after"), _number(log, "after")


@dataclass
class Reader:
    """Opens views of the tables."""

    pool: Pool

    @contextmanager
    def session(self, at: str = "latest") -> Iterator[Session]:
        """``at``: latest, safe, finalized, or a block's number. Raises BadRequest, NotThere, Halted."""
        with self.pool.connection() as connection, connection.transaction():
            connection.execute(sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            cursor = read_cursor(connection)
            if cursor is None:
                raise NotThere("nothing is indexed yet; see /readyz")
            if cursor.halted:
                raise Halted(cursor.halted)
            tags = {"latest": cursor.number, "safe": cursor.safe, "finalized": cursor.finalized}
            block = tags[at] if at in tags else _number(at, "at, which is latest, safe, finalized or a block:")
            if block > cursor.number:
                raise NotThere(f"block {block} is not indexed yet; the newest is {cursor.number}")
            yield Session(connection, cursor, block, block == cursor.number)
