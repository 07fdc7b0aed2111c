"""JSON-RPC to nodes: what the indexer asks of a chain, from the first of several nodes that is well.

web3 turns each log into nested dictionaries of its own types, which takes longer than all else that happens to it here; this reads into structs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import urllib3
from eth_hash.auto import keccak

from indexer import NodeFault, Refused
from protocol.messages import Message

Call = tuple[str, list[Any], Any]
"""A method, its parameters, and the type of its result."""

TIMEOUT = urllib3.Timeout(connect=3, read=30)
REST_SECONDS, LONGEST_REST_SECONDS = 0.5, 30.0
LAST_SEQUENCE = "0x" + keccak(b"lastSequence()")[:4].hex()


class Header(Message, frozen=True, rename="camel"):
    """A block as far as it tells a reorg. ``timestamp``: Unix seconds."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int


class _Header(Message, frozen=True, rename="camel"):
    number: str
    hash: str
    parent_hash: str
    timestamp: str

    def read(self) -> Header:
        return Header(int(self.number, 16), self.hash, self.parent_hash, int(self.timestamp, 16))


class Log(Message, frozen=True, rename="camel"):
    """A log as a node gives it, numbers as 0x hex. ``block_timestamp`` is there with newer nodes."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    block_timestamp: str | None = None
    removed: bool = False


class _Fault(Message, frozen=True):
    message: str
    code: int = 0


class _Answer(Message, frozen=True):
    id: int | None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Fault | None = None


@dataclass(frozen=True)
class Tips:
    """The newest blocks of each finality, by one answer. A chain that knows no finality has None there."""

    latest: Header
    safe: Header | None
    finalized: Header | None


class Source(Protocol):
    """What the follower asks. Raises NodeFault."""

    def tips(self) -> Tips: ...
    def headers(self, numbers: Sequence[int]) -> list[Header]: ...
    def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]: ...
    def blocks(self, addresses: Sequence[str], hashes: Sequence[str], numbered: Sequence[str]) -> tuple[list[Log], list[int]]: ...
    def counters(self, numbered: Sequence[str], block: str) -> list[int]: ...
    def disagreement(self, header: Header) -> str | None: ...
    def prefer_another(self) -> None: ...


@dataclass
class Node:
    """One node by its address. Safe to use from several threads."""

    url: str
    rested_until: float = 0.0
    faults: int = 0
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=8, retries=False, timeout=TIMEOUT))

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Results of one batch, in its order. Raises NodeFault."""
        body = [{"jsonrpc": "2.0", "id": i, "method": method, "params": params} for i, (method, params, _) in enumerate(calls)]
        try:
            answer = self.http.request("POST", self.url, body=msgspec.json.encode(body), headers={"content-type": "application/json"})
            if answer.status != 200:
                raise NodeFault(f"{self.url} answered with status {answer.status}")
            told = msgspec.json.decode(answer.data, type=list[_Answer] | _Answer)
            if isinstance(told, _Answer):
                raise Refused(f"{self.url} refuses a batch: {told.error and told.error.message}")
            answers = {part.id: part for part in told}
            return [self._result(answers[i], call) for i, call in enumerate(calls)]
        except urllib3.exceptions.HTTPError as error:
            raise NodeFault(f"{self.url} does not answer: {error}") from error
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise NodeFault(f"{self.url} answered with what cannot be read: {error}") from error

    def _result(self, answer: _Answer, call: Call) -> Any:
        if answer.error is not None:
            raise Refused(f"{self.url} refuses {call[0]}: {answer.error.message}")
        if answer.result is msgspec.UNSET:
            raise NodeFault(f"{self.url} answered {call[0]} with neither result nor error")
        return msgspec.json.decode(answer.result, type=call[2])

    def failed(self) -> None:
        """Leave it alone for a while, longer each time."""
        self.rested_until = time.monotonic() + min(REST_SECONDS * 2**self.faults, LONGEST_REST_SECONDS)
        self.faults += 1

    @property
    def well(self) -> bool:
        return time.monotonic() >= self.rested_until


class Nodes:
    """Several nodes of one chain: the first that is well is asked, the others where it fails. Raises NodeFault where none answers."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.nodes = [Node(url) for url in urls]

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Results of one batch by one node; none for no question, which nodes take for a mistake."""
        if not calls:
            return []
        fault = NodeFault("no node is set")
        for node in sorted(self.nodes, key=lambda node: not node.well):
            try:
                results = node.ask(calls)
            except Refused:
                raise
            except NodeFault as error:
                fault = error
                node.failed()
            else:
                node.faults, node.rested_until = 0, 0.0
                return results
        raise fault

    def prefer_another(self) -> None:
        """What the first node said cannot be: the next question goes to the one after it."""
        self.nodes.append(self.nodes.pop(0))

    def tips(self) -> Tips:
        """The newest blocks. Raises NodeFault."""
        try:
            latest, safe, finalized = self.ask([_header(tag) for tag in ("latest", "safe", "finalized")])
        except Refused:
            # Before its first final block a chain may have no answer to that.
            latest, safe, finalized = *self.ask([_header("latest")]), None, None
        if latest is None:
            raise NodeFault("the node has no block yet")
        return Tips(latest.read(), safe and safe.read(), finalized and finalized.read())

    def headers(self, numbers: Sequence[int]) -> list[Header]:
        """The headers at those heights. Raises NodeFault where one is missing."""
        found = self.ask([_header(hex(number)) for number in numbers])
        if None in found:
            raise NodeFault(f"block {numbers[found.index(None)]} is not there yet")
        return [header.read() for header in found]

    def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        """Logs of the contracts in a range of blocks."""
        (found,) = self.ask([("eth_getLogs", [{"address": list(addresses), "fromBlock": hex(first), "toBlock": hex(last)}], list[Log])])
        return list(found)

    def blocks(self, addresses: Sequence[str], hashes: Sequence[str], numbered: Sequence[str]) -> tuple[list[Log], list[int]]:
        """Logs of the contracts in those blocks, by hash, so that no reorg can slip another block's in; and the counters in the last of them."""
        calls: list[Call] = [("eth_getLogs", [{"address": list(addresses), "blockHash": block}], list[Log]) for block in hashes]
        found = self.ask([*calls, *_counters(numbered, hashes[-1])])
        logs = [log for part in found[: len(hashes)] for log in part]
        return logs, [_number(value) for value in found[len(hashes) :]]

    def counters(self, numbered: Sequence[str], block: str) -> list[int]:
        """Each contract's ``lastSequence()`` in the block of that hash; 0 where it is not deployed there yet."""
        return [_number(value) for value in self.ask(_counters(numbered, block))]

    def disagreement(self, header: Header) -> str | None:
        """Words for another node that has another block at that height; None where all that answer agree."""
        for node in self.nodes:
            try:
                (found,) = node.ask([_header(hex(header.number))])
            except NodeFault:
                continue
            if found is not None and found.hash != header.hash:
                return f"{node.url} has {found.hash} as block {header.number}, another node {header.hash}"
        return None


def _header(at: str) -> Call:
    return "eth_getBlockByNumber", [at, False], _Header | None


def _counters(addresses: Sequence[str], block: str) -> list[Call]:
    return [("eth_call", [{"to": address, "data": LAST_SEQUENCE}, {"blockHash": block}], str) for address in addresses]


def _number(word: str) -> int:
    return int(word, 16) if word != "0x" else 0


def ranges(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """The blocks from ``first`` to ``last`` in parts of ``size``, both ends included."""
    return [(start, min(start + size - 1, last)) for start in range(first, last + 1, size)]
