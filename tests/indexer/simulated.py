"""A chain that the simulator makes up, with real events of our contracts, and a node of it that fails in the ways that nodes do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi import encode
from eth_hash.auto import keccak

from indexer import NodeFault, Refused
from indexer.decode import UNNUMBERED, event_topic
from indexer.facts import Constants
from indexer.node import Header, Log, Tips
from protocol.chain import CONTRACTS, Deployment, abi, canonical_type

CONSTANTS = Constants(genesis=1_000_000, epoch_length=60, thaw_period=300)
SECONDS = 7
ADDRESSES = {name: "0x" + keccak(name.encode())[:20].hex() for name in CONTRACTS}
DEPLOYMENT = Deployment(31337, 1, ADDRESSES)
ACCOUNTS = ["0x" + bytes([n] * 20).hex() for n in range(1, 4)]
MODEL = b"\x07" * 32


@dataclass(frozen=True)
class Block:
    """``counters``: each contract's ``lastSequence`` in it."""

    header: Header
    logs: tuple[Log, ...]
    counters: Mapping[str, int]


def event_of(choice: int) -> tuple[str, str, dict[str, Any]]:
    """One of several events, by a number: contract, name, members but for the sequence."""
    who, other, amount = ACCOUNTS[choice % 3], ACCOUNTS[choice // 3 % 3], choice % 97 + 1
    parts = (amount, 1, 1, 1, 1)
    batch = (bytes(32), choice, choice, 5, 3, amount, 10**20 + choice, 17, 1_000)
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("FuncToken", "Transfer", {"from": who, "to": other, "value": amount}),
        ("Staking", "Staked", {"account": who, "from": other, "amount": amount, "active": 10**24 + choice}),
        ("Staking", "Slashed", {"account": who, "beneficiary": other, "slash": (amount, 1, 0, choice, 0, 10**20)}),
        ("PaymentEscrow", "Deposited", {"payer": who, "from": other, "amount": amount, "balance": 10**21 + choice}),
        ("CommitmentLog", "BatchAnchored", {"provider": who, "batchId": choice % 5, "epoch": 3, "batch": batch, "tip": bytes(32)}),
        ("Settlement", "Released", {"provider": who, "modelId": MODEL, "payout": (amount, other, 3, 0, 7, parts)}),
        ("Settlement", "VerifierPaid", {"verifier": who, "epoch": 3, "amount": amount}),
        ("Settlement", "VoucherSkipped", {"provider": who, "payer": other, "gateway": who, "result": 2}),
    ]
    return kinds[choice % len(kinds)]


def log_of(contract: str, name: str, members: Mapping[str, Any], sequence: int, block: tuple[int, str, int], index: int) -> Log:
    """An event as a node tells it. ``block``: number, hash, timestamp."""
    entry = next(entry for entry in abi(contract) if entry.get("type") == "event" and entry["name"] == name)
    values = {**members, "sequence": sequence}
    indexed = [item for item in entry["inputs"] if item["indexed"]]
    plain = [item for item in entry["inputs"] if not item["indexed"]]
    topics = [event_topic(entry)] + [encode([canonical_type(item)], [values[item["name"]]]) for item in indexed]
    data = encode([canonical_type(item) for item in plain], [values[item["name"]] for item in plain])
    number, hash_, timestamp = block
    transaction = "0x" + keccak(f"{hash_}{index}".encode()).hex()
    return Log(ADDRESSES[contract], ["0x" + t.hex() for t in topics], "0x" + data.hex(), hex(number), hash_, transaction, hex(index), hex(timestamp))


@dataclass
class SimulatedChain:
    """Its present branch; other branches are forgotten, as nodes do."""

    finality: int
    blocks: list[Block] = field(default_factory=list)
    salt: int = 0
    finalized: int = 0
    """What was final stays so, also while a new branch is shorter than the old one."""

    def __post_init__(self) -> None:
        self.blocks.append(Block(Header(0, "0x" + "aa" * 32, "0x" + "00" * 32, CONSTANTS.genesis), (), {}))

    @property
    def head(self) -> int:
        return len(self.blocks) - 1

    def mine(self, choices: Sequence[int]) -> None:
        """A block with an event for each number."""
        parent, number = self.blocks[-1], len(self.blocks)
        self.salt += 1
        hash_ = "0x" + keccak(f"{parent.header.hash}{self.salt}".encode()).hex()
        timestamp = CONSTANTS.genesis + number * SECONDS
        counters, logs = dict(parent.counters), []
        for index, choice in enumerate(choices):
            contract, name, members = event_of(choice)
            if contract not in UNNUMBERED:
                counters[contract] = counters.get(contract, 0) + 1
            logs.append(log_of(contract, name, members, counters.get(contract, 0), (number, hash_, timestamp), index))
        self.blocks.append(Block(Header(number, hash_, parent.header.hash, timestamp), tuple(logs), counters))
        self.finalized = max(self.finalized, self.head - self.finality)

    def drop(self, depth: int) -> None:
        """Forget the newest blocks; what is mined next is another branch."""
        del self.blocks[len(self.blocks) - depth :]


@dataclass
class SimulatedNode:
    """Answers as a node of the chain. ``faults``: what goes wrong with the next questions, one after the other; "" for nothing."""

    chain: SimulatedChain
    faults: list[str] = field(default_factory=list)
    on_kill: Callable[[], None] = lambda: None
    keeps_state: bool = True
    times_logs: bool = True
    other_hash: bool = False

    def _fault(self) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "error":
            raise NodeFault("simulated: no answer")
        if fault == "kill":
            self.on_kill()
        return fault

    def tips(self) -> Tips:
        back = {"stale": 3, "far behind": 3 * self.chain.finality}.get(self._fault(), 0)
        head = max(0, self.chain.head - back)
        final = self.chain.blocks[min(head, self.chain.finalized)].header
        return Tips(self.chain.blocks[head].header, final, final)

    def headers(self, numbers: Sequence[int]) -> list[Header]:
        self._fault()
        if any(number > self.chain.head for number in numbers):
            raise NodeFault("simulated: a block is not there yet")
        return [self.chain.blocks[number].header for number in numbers]

    def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        fault = self._fault()
        if fault == "refuse" and last > first:
            raise Refused("simulated: more than 2 results")
        found = [log for block in self.chain.blocks[first : last + 1] for log in block.logs]
        return self._spoil([log if self.times_logs else _untimed(log) for log in found], fault)

    def blocks(self, addresses: Sequence[str], hashes: Sequence[str], numbered: Sequence[str]) -> tuple[list[Log], list[int]]:
        fault = self._fault()
        by_hash = {block.header.hash: block for block in self.chain.blocks}
        if any(hash_ not in by_hash for hash_ in hashes):
            raise Refused("simulated: unknown block")
        found = [log for hash_ in hashes for log in by_hash[hash_].logs]
        spoiled = self._spoil(found, fault)
        counters = [by_hash[hashes[-1]].counters.get(_names()[address], 0) for address in numbered]
        if fault == "lie":
            # The newest numbered log is left out, and the counter does not know of it either.
            spoiled, counters = self._lie(found, counters, numbered)
        return spoiled, counters

    def counters(self, numbered: Sequence[str], block: str) -> list[int]:
        self._fault()
        if not self.keeps_state:
            raise Refused("simulated: missing trie node")
        kept = next((b for b in self.chain.blocks if b.header.hash == block), None)
        if kept is None:
            raise Refused("simulated: unknown block")
        return [kept.counters.get(_names()[address], 0) for address in numbered]

    def disagreement(self, header: Header) -> str | None:
        return "simulated: another block" if self.other_hash else None

    def prefer_another(self) -> None:
        return None

    def _spoil(self, found: list[Log], fault: str) -> list[Log]:
        numbered = [i for i, log in enumerate(found) if _names()[log.address] not in UNNUMBERED]
        if fault == "drop" and numbered:
            return [log for i, log in enumerate(found) if i != numbered[len(numbered) // 2]]
        if fault == "drop last" and numbered:
            return [log for i, log in enumerate(found) if i != numbered[-1]]
        if fault == "duplicate":
            return [log for log in found for _ in range(2)]
        if fault == "reorder":
            return found[::-1]
        return found

    def _lie(self, found: list[Log], counters: list[int], numbered: Sequence[str]) -> tuple[list[Log], list[int]]:
        last = next((log for log in reversed(found) if _names()[log.address] not in UNNUMBERED), None)
        if last is None:
            return found, counters
        return [log for log in found if log is not last], [n - (a == last.address) for n, a in zip(counters, numbered, strict=True)]


def _untimed(log: Log) -> Log:
    members = (log.address, log.topics, log.data, log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    return Log(*members)


def _names() -> dict[str, str]:
    return {address: name for name, address in ADDRESSES.items()}
