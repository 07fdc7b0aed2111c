"""Facts: what is so because of the events so far. A pure fold, so that a replay and another indexer come to the same.

A fact has a kind, a key of one or more members, and a value that holds its key's members and whatever the events said. It is kept in versions, one
for each block that changed it; to undo a block is to delete its versions. Sums are members like any other, so they are undone as exactly.

What an event does to which facts is said by the functions of ``indexer.rules``, under ``on``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from indexer.decode import Event

Value = dict[str, Any]
Args = Mapping[str, Any]
Change = Callable[..., None]

DIGITS = 12
"""Numbers in keys have so many at least, so that keys sort by them."""

KINDS: dict[str, tuple[str, ...]] = {
    "network": (),
    "balance": ("account",),
    "provider": ("provider",),
    "operator": ("operator",),
    "gpu": ("provider", "gpuId"),
    "offer": ("provider", "offerId"),
    "model": ("modelId",),
    "stake": ("account",),
    "delegation": ("account", "delegator"),
    "slash": ("account", "block", "log"),
    "deposit": ("payer",),
    "limit": ("payer", "gateway"),
    "authorisation": ("payer", "gateway"),
    "bond": ("gateway",),
    "allocation": ("gateway", "provider"),
    "stream": ("payer", "gateway", "provider", "modelId"),
    "held": ("provider", "modelId"),
    "refund": ("provider", "payer", "modelId"),
    "released": ("provider",),
    "batch": ("provider", "batchId"),
    "work": ("provider",),
    "cut": ("epoch", "provider"),
    "budget": ("epoch",),
    "reward": ("account", "kind"),
    "epoch_reward": ("epoch", "account", "kind"),
    "epoch_usage": ("epoch", "payer", "gateway", "provider", "modelId"),
    "day_usage": ("day", "payer", "gateway", "provider", "modelId"),
    "verifier": ("verifier",),
    "set": ("setId",),
    "committee": ("epoch",),
    "duty": ("epoch", "verifier"),
    "plant": ("hash",),
    "dispute": ("disputeId",),
    "owed": ("account",),
    "contradiction": ("provider", "number"),
}
"""Each kind of fact and the members of its key."""


@dataclass(frozen=True)
class Constants:
    """What the contracts fixed when they were deployed, in seconds."""

    genesis: int
    epoch_length: int
    thaw_period: int

    def epoch(self, timestamp: int) -> int:
        """The epoch of a block, as VerifierSet counts."""
        return max(0, timestamp - self.genesis) // self.epoch_length


class Place(NamedTuple):
    """Where an event stands. ``day``: of its block, in UTC. ``thaw_period``: the escrow's, in seconds."""

    block: int
    log: int
    timestamp: int
    epoch: int
    day: str
    thaw_period: int


class FactKey(NamedTuple):
    """A fact's kind and key, the key's members joined by a slash."""

    kind: str
    key: str


@dataclass
class Version:
    """A fact as one block left it. ``log``: the index of the last log that changed it."""

    block: int
    log: int
    value: Value
    until: int | None = None


class Rule(NamedTuple):
    """``change`` gets the event's members, its place, and then the value of each fact, to be changed in place."""

    facts: tuple[tuple[str, tuple[Callable[[Args, Place], Any], ...]], ...]
    change: Change


RULES: dict[str, list[Rule]] = {}


def on(event: str, **facts: str) -> Callable[[Change], Change]:
    """What follows says what an event does. ``event``: as in ``Staking.Staked``. Each keyword is a kind of fact, its value the paths of the key's
    members: a member of the event, with dots into a struct; ``@epoch``, ``@day``, ``@block``, ``@log``; or a word in quotes."""
    slots = []
    for kind, paths in facts.items():
        assert len(paths.split()) == len(KINDS[kind]), f"{kind} of {event} has a key of {KINDS[kind]}"
        slots.append((kind, tuple(_getter(path) for path in paths.split())))

    def keep(change: Change) -> Change:
        RULES.setdefault(event, []).append(Rule(tuple(slots), change))
        return change

    return keep


def _getter(path: str) -> Callable[[Args, Place], Any]:
    if path.startswith("'"):
        word = path.strip("'")
        return lambda args, place: word
    if path.startswith("@"):
        member = path[1:]
        return lambda args, place: getattr(place, member)
    first, *rest = path.split(".")
    if not rest:
        return lambda args, place: args[first]
    (second,) = rest
    return lambda args, place: args[first][second]


@lru_cache(maxsize=65536)
def join_key(members: tuple[Any, ...]) -> str:
    """A key's members as one text; kept, as the same few keys come again and again."""
    return "/".join(part.zfill(DIGITS) if part.isdigit() else part for part in map(str, members))


def add(value: Value, member: str, amount: int | str) -> None:
    """Add to a sum that may pass 64 bits, and is kept as text therefore."""
    value[member] = str(int(value.get(member, "0")) + int(amount))


def count(value: Value, member: str, by: int = 1) -> None:
    """Add to a number."""
    value[member] = value.get(member, 0) + by


class Touch(NamedTuple):
    """An event's effect, its keys worked out."""

    place: Place
    args: Args
    keys: tuple[FactKey, ...]
    members: tuple[tuple[Any, ...], ...]
    change: Change


def touches(events: Iterable[Event], timestamps: Mapping[int, int], constants: Constants, rules: Mapping[str, list[Rule]]) -> list[Touch]:
    """What the events do and to which facts, in their order. Which facts those are never depends on a fact, so all can be read beforehand."""
    found, place = [], Place(-1, 0, 0, 0, "", 0)
    for event in events:
        if event.block_number != place.block:
            timestamp = timestamps[event.block_number]
            day = datetime.fromtimestamp(timestamp, UTC).date().isoformat()
            place = Place(event.block_number, 0, timestamp, constants.epoch(timestamp), day, constants.thaw_period)
        here = place._replace(log=event.log_index)
        for rule in rules.get(f"{event.contract}.{event.name}", ()):
            members = tuple(tuple(get(event.args, here) for get in getters) for _, getters in rule.facts)
            keys = tuple(FactKey(kind, join_key(parts)) for (kind, _), parts in zip(rule.facts, members, strict=True))
            found.append(Touch(here, event.args, keys, members, rule.change))
    return found


@dataclass
class Fold:
    """Facts as they change. ``current``: the value of each fact that is touched, read beforehand; ``written``: the new versions of each."""

    current: dict[FactKey, Value]
    written: dict[FactKey, list[Version]] = field(default_factory=dict)

    def apply(self, touch: Touch) -> None:
        """Change the facts that an event touches; a fact that it leaves as it was has no new version."""
        values = []
        for key, members in zip(touch.keys, touch.members, strict=True):
            value = self.current.get(key)
            values.append(dict(value) if value is not None else dict(zip(KINDS[key.kind], members, strict=True)))
        touch.change(touch.args, touch.place, *values)
        for key, value in zip(touch.keys, values, strict=True):
            self._write(key, value, touch.place)

    def _write(self, key: FactKey, value: Value, place: Place) -> None:
        if value == self.current.get(key) or (key not in self.current and len(value) == len(KINDS[key.kind])):
            return
        self.current[key] = value
        versions = self.written.setdefault(key, [])
        if versions and versions[-1].block == place.block:
            versions[-1] = Version(place.block, place.log, value)
            return
        if versions:
            versions[-1].until = place.block
        versions.append(Version(place.block, place.log, value))
