"""The audit: all is read from the chain again and compared with the tables, and the facts with the contracts' own view functions."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from indexer import Refused
from indexer.decode import Decoder, Event, checksummed
from indexer.facts import Constants, FactKey, Fold, Value, Version, touches
from indexer.follow import read_timestamps
from indexer.node import Call, Log, Nodes, ranges
from indexer.rules import RULES
from indexer.rules.staking import NOBODY
from indexer.views import questions
from protocol.database import Pool

CALLS = 200
SPAN = 2_000
SETTLE_SECONDS = 1.0
SHOWN = 20
"""Differences that are told one by one."""


class Difference(NamedTuple):
    """Something that the tables have otherwise than the chain."""

    what: str
    tables: Any
    chain: Any


@dataclass
class Replay:
    """Everything from the chain, folded in memory."""

    events: dict[tuple[int, int], Event]
    versions: dict[FactKey, list[Version]]

    def at(self, block: int) -> dict[FactKey, Value]:
        """Facts as they hold at a block."""
        return {key: value for key, versions in self.versions.items() if (value := _at(versions, block)) is not None}

    def up_to(self, block: int) -> "Replay":
        """As it was at a block."""
        events = {place: event for place, event in self.events.items() if place[0] <= block}
        versions = {key: held for key, all_ in self.versions.items() if (held := [_open(v, block) for v in all_ if v.block <= block])}
        return Replay(events, versions)


def _open(version: Version, block: int) -> Version:
    return replace(version, until=None) if version.until is not None and version.until > block else version


def _at(versions: list[Version], block: int) -> Value | None:
    held = [version.value for version in versions if version.block <= block]
    return held[-1] if held else None


@dataclass
class Audit:
    """Compares a database with a chain."""

    nodes: Nodes
    decoder: Decoder
    constants: Constants
    from_block: int

    def replay(self, last: int) -> Replay:
        """All events up to a block, and the facts that they make. Raises NodeFault."""
        logs = (log for first, end in ranges(self.from_block, last, SPAN) for log in self._logs(first, end))
        events = self.decoder.decode_all(logs)
        fold = Fold({})
        for touch in touches(events, read_timestamps(self.nodes, events), self.constants, RULES):
            fold.apply(touch)
        return Replay({(event.block_number, event.log_index): event for event in events}, fold.written)

    def _logs(self, first: int, last: int) -> list[Log]:
        try:
            return self.nodes.logs(self.decoder.addresses, first, last)
        except Refused:
            if first == last:
                raise
            middle = (first + last) // 2
            return self._logs(first, middle) + self._logs(middle + 1, last)

    def against_views(self, facts: Mapping[FactKey, Value], block: int) -> list[Difference]:
        """Facts as they hold at a block against the contracts' view functions at that block."""
        if not self._against_views(facts, block):
            return []
        # anvil answers for its newest block from the state that it is just writing the next one to; a little later for that block alone.
        time.sleep(SETTLE_SECONDS)
        return self._against_views(facts, block)

    def _against_views(self, facts: Mapping[FactKey, Value], block: int) -> list[Difference]:
        asked = questions(facts)
        addresses = {name: address for address, name in self.decoder.names.items()}
        found = []
        for i in range(0, len(asked), CALLS):
            part = asked[i : i + CALLS]
            calls: list[Call] = [("eth_call", [{"to": addresses[q.view.contract], "data": q.data}, hex(block)], str) for q in part]
            for question, answer in zip(part, self.nodes.ask(calls), strict=True):
                for member, ours, theirs in question.view.differences(facts[question.key], bytes.fromhex(answer[2:])):
                    what = f"{question.key.kind} {question.key.key} {member} by {question.view.contract}.{question.view.function} at block {block}"
                    found.append(Difference(what, ours, theirs))
        return found


def against_transfers(replay: Replay, addresses: Mapping[str, str]) -> list[Difference]:
    """Rewards against the token's own transfers out of escrow and reward pool: what left there and was nobody's withdrawal was somebody's pay.
    ``addresses``: of the contracts by name."""
    payers = {checksummed(bytes.fromhex(addresses[name][2:])) for name in ("PaymentEscrow", "RewardPool")}
    staking = checksummed(bytes.fromhex(addresses["Staking"][2:]))
    moved: Counter[str] = Counter()
    treasuries = set()
    for event in replay.events.values():
        if event.name == "Transfer" and event.args["from"] in payers:
            moved[event.args["to"]] += int(event.args["value"])
        elif (event.contract, event.name) == ("PaymentEscrow", "Withdrawn"):
            moved[event.args["payer"]] -= int(event.args["amount"])
        elif event.name == "BondWithdrawn":
            moved[event.args["gateway"]] -= int(event.args["amount"])
        elif event.name == "Swept":
            treasuries.add(event.args["treasury"])
    rewarded: Counter[str] = Counter()
    for value in (versions[-1].value for key, versions in replay.versions.items() if key.kind == "reward"):
        to = {"delegators": staking, "burned": NOBODY, "treasury": "treasury"}.get(value["kind"])
        rewarded[to or value["account"]] += int(value["amount"])
    if treasuries:
        # Where the treasury is changed, what both were paid counts together.
        moved["treasury"] = sum(moved.pop(account, 0) for account in treasuries)
        rewarded["treasury"] += sum(rewarded.pop(account, 0) for account in treasuries)
    wrong = sorted(account for account in moved.keys() | rewarded.keys() if moved[account] != rewarded[account])
    return [Difference(f"payments to {account} by the token's transfers", rewarded[account], moved[account]) for account in wrong]


def tables_of(pool: Pool) -> Replay:
    """What a database holds, as a replay."""
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT e.block_number, b.hash, b.timestamp, e.log_index, e.tx_hash, e.contract, e.name, e.sequence, e.args "
            "FROM indexer.event e JOIN indexer.block b ON b.number = e.block_number"
        )
        events = {(row["block_number"], row["log_index"]): Event(*row.values()) for row in rows}
        versions: dict[FactKey, list[Version]] = {}
        kept = connection.execute("SELECT kind, key, block_number, log_index, value, until FROM indexer.version ORDER BY kind, key, block_number")
        for row in kept:
            version = Version(row["block_number"], row["log_index"], row["value"], row["until"])
            versions.setdefault(FactKey(row["kind"], row["key"]), []).append(version)
    return Replay(events, versions)


def compare(tables: Replay, chain: Replay) -> Iterator[Difference]:
    """Where the two differ: events, then versions of facts."""
    for place in sorted(tables.events.keys() | chain.events.keys()):
        ours, theirs = tables.events.get(place), chain.events.get(place)
        if ours is None or theirs is None or ours._replace(timestamp=None) != theirs._replace(timestamp=None):
            yield Difference(f"event {place[0]}-{place[1]}", ours, theirs)
    for key in sorted(tables.versions.keys() | chain.versions.keys()):
        has, should = tables.versions.get(key, []), chain.versions.get(key, [])
        if has != should:
            yield Difference(f"fact {key.kind} {key.key}", has[-3:], should[-3:])
