"""Logs to named events, by layouts compiled from our contracts' ABIs.

A layout is a tree of small readers, one for each member of an event, made once: what eth_abi finds out for each value anew is known beforehand here.
A hostile node can send any bytes, so what lies outside the data is an error and never a default.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from indexer import NodeFault
from indexer.node import Log
from protocol.chain import Deployment, abi, canonical_type

WORD = 32
WIDE_BITS = 64
UNNUMBERED = ("FuncToken", "AccessManager", "TimelockController")
"""Contracts that are not ours to number: no sequence proves their events complete."""

Reader = Callable[[bytes, int, int], Any]
"""Reads a value. Takes the data, where the enclosing tuple begins, and where this value's head is."""


class Event(NamedTuple):
    """One decoded log. ``args``: JSON values; integers wider than 64 bits as decimal strings, bytes as 0x hex, addresses with checksum."""

    block_number: int
    block_hash: str
    timestamp: int | None
    log_index: int
    tx_hash: str
    contract: str
    name: str
    sequence: int | None
    args: dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How a value of an ABI type is read. ``words``: of its head."""

    words: int
    dynamic: bool
    read: Reader


@lru_cache(maxsize=65536)
def checksummed(address: bytes) -> str:
    """20 bytes as people write an address (EIP-55); the hash is kept, as the same few addresses come again and again."""
    return str(to_checksum_address(address))


def _uint(bits: int) -> Reader:
    if bits > WIDE_BITS:
        return lambda data, _, at: str(int.from_bytes(_word(data, at)))
    return lambda data, _, at: int.from_bytes(_word(data, at)[24:])


def _word(data: bytes, at: int) -> bytes:
    word = data[at : at + WORD]
    if len(word) != WORD:
        raise ValueError(f"a word at {at} lies outside data of {len(data)} bytes")
    return word


def _bytes(data: bytes, base: int, at: int) -> bytes:
    start = base + int.from_bytes(_word(data, at))
    length = int.from_bytes(_word(data, start))
    value = data[start + WORD : start + WORD + length]
    if len(value) != length:
        raise ValueError(f"{length} bytes at {start} lie outside data of {len(data)} bytes")
    return value


def _text(data: bytes, base: int, at: int) -> str:
    # Anybody can put bytes that are no text on chain, and PostgreSQL keeps no NUL.
    return _bytes(data, base, at).decode(errors="replace").replace("\0", "\ufffd")


def _members(items: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, Reader, int]], int, bool]:
    """Each member's name, reader and offset; the words of all heads; whether one is dynamic."""
    members, words, dynamic = [], 0, False
    for item in items:
        kind = compile_type(item)
        members.append((str(item["name"]), kind.read, words * WORD))
        words, dynamic = words + kind.words, dynamic or kind.dynamic
    return members, words, dynamic


def _tuple(components: Sequence[Mapping[str, Any]]) -> Kind:
    members, words, dynamic = _members(components)

    def read(data: bytes, base: int, at: int) -> dict[str, Any]:
        start = base + int.from_bytes(_word(data, at)) if dynamic else at
        return {name: member(data, start, start + offset) for name, member, offset in members}

    return Kind(1 if dynamic else words, dynamic, read)


def _array(component: Mapping[str, Any]) -> Kind:
    item = compile_type(component)

    def read(data: bytes, base: int, at: int) -> list[Any]:
        start = base + int.from_bytes(_word(data, at))
        count, first = int.from_bytes(_word(data, start)), start + WORD
        if count * WORD > len(data):
            raise ValueError(f"{count} values lie outside data of {len(data)} bytes")
        return [item.read(data, first, first + i * item.words * WORD) for i in range(count)]

    return Kind(1, True, read)


def compile_type(item: Mapping[str, Any]) -> Kind:
    """The reader of an ABI entry's type. Raises NotImplementedError for one that no event of ours has."""
    kind = str(item["type"])
    if kind.endswith("[]"):
        return _array({**item, "type": kind.removesuffix("[]")})
    if kind == "tuple":
        return _tuple(item["components"])
    if kind == "string":
        return Kind(1, True, _text)
    if kind == "bytes":
        return Kind(1, True, lambda data, base, at: "0x" + _bytes(data, base, at).hex())
    if kind == "address":
        return Kind(1, False, lambda data, _, at: checksummed(_word(data, at)[12:]))
    if kind == "bool":
        return Kind(1, False, lambda data, _, at: _word(data, at)[31] != 0)
    if kind.startswith("uint"):
        return Kind(1, False, _uint(int(kind.removeprefix("uint"))))
    if kind.startswith("bytes") and kind.removeprefix("bytes").isdigit():
        size = int(kind.removeprefix("bytes"))
        return Kind(1, False, lambda data, _, at: "0x" + _word(data, at)[:size].hex())
    raise NotImplementedError(f"no event of ours has a member of type {kind}")


class Layout:
    """How one event is read from topics and data."""

    def __init__(self, contract: str, entry: Mapping[str, Any]) -> None:
        self.contract = contract
        self.name = str(entry["name"])
        indexed = [item for item in entry["inputs"] if item["indexed"]]
        self._topics = [(str(item["name"]), compile_type(item).read) for item in indexed]
        self._data, _, _ = _members([item for item in entry["inputs"] if not item["indexed"]])

    def read(self, topics: list[str], data: bytes) -> dict[str, Any]:
        """The event's members by name. Raises ValueError for bytes that hold no such event."""
        args = {name: read(data, 0, at) for name, read, at in self._data}
        for (name, read), topic in zip(self._topics, topics[1:], strict=True):
            args[name] = read(bytes.fromhex(topic[2:]), 0, 0)
        return args


class Decoder:
    """Knows each of a deployment's contracts by address and each of their events by topic."""

    def __init__(self, deployment: Deployment) -> None:
        self.names = {address.lower(): name for name, address in deployment.addresses.items()}
        self.numbered = {address: name for address, name in self.names.items() if name not in UNNUMBERED}
        self._layouts = {
            (address, "0x" + event_topic(entry).hex()): Layout(name, entry)
            for address, name in self.names.items()
            for entry in abi(name)
            if entry.get("type") == "event"
        }

    @property
    def addresses(self) -> list[str]:
        return list(self.names)

    def decode(self, log: Log) -> Event | None:
        """The event, or None for a topic that the contract's ABI does not know. Raises NodeFault for bytes that hold none."""
        layout = self._layouts.get((log.address.lower(), log.topics[0] if log.topics else ""))
        if layout is None:
            return None
        try:
            args = layout.read(log.topics, bytes.fromhex(log.data[2:]))
            sequence = args.pop("sequence", None)
            number, index = int(log.block_number, 16), int(log.log_index, 16)
            timestamp = int(log.block_timestamp, 16) if log.block_timestamp else None
        except (ValueError, OverflowError) as error:
            raise NodeFault(f"log {log.log_index} of {log.transaction_hash} is no {layout.name}: {error}") from error
        return Event(number, log.block_hash, timestamp, index, log.transaction_hash, layout.contract, layout.name, sequence, args)

    def decode_all(self, logs: Iterable[Log]) -> list[Event]:
        """The events among logs in the chain's order, each once. Raises NodeFault."""
        events = {}
        for log in logs:
            if log.removed:
                raise NodeFault(f"log {log.log_index} of {log.transaction_hash} was removed by a reorg")
            if (event := self.decode(log)) is not None:
                events[event.block_number, event.log_index] = event
        return [events[place] for place in sorted(events)]


def event_topic(entry: Mapping[str, Any]) -> bytes:
    """keccak of the event's canonical signature."""
    return bytes(keccak(f"{entry['name']}({','.join(canonical_type(item) for item in entry['inputs'])})".encode()))
