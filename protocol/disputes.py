"""Disputes, read from the chain: what is claimed stands in the event that opened one, how it goes in the contract."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from protocol import ProtocolError
from protocol.chain import Chain, struct_values


class Status(IntEnum):
    """Disputes.Status."""

    OPEN = 1
    JUDGED = 2
    GUILTY = 3
    INNOCENT = 4
    EXPIRED = 5
    CANCELLED = 6


class Outcome(IntEnum):
    """Disputes.Outcome: what a verdict says."""

    INNOCENT = 1
    GUILTY = 2
    WITHHELD = 3


class Round(IntEnum):
    """Disputes.Round: who judges."""

    COMMITTEE = 0
    APPEAL = 1
    FULL_SET = 2


KIND_OUTPUT, KIND_HIDDEN, KIND_WITHHELD = 1, 2, 3
"""Disputes.Kind. Of a hidden batch's claim only provider and number are set: the batch's first."""


@dataclass(frozen=True)
class Dispute:
    """``claim`` is the contract's Claim tuple, as ``execute`` and ``expire`` take it; ``deadline`` in chain seconds; ``version`` of the parameters
    that were in force when it was opened and are its own for good."""

    dispute_id: int
    evidence_id: bytes
    provider: str
    challenger: str
    batch_id: int
    number: int
    job_id: bytes
    payer: str
    kind: int
    status: int
    round: int
    outcome: int
    deadline: int
    epoch: int
    version: int
    claim: tuple[Any, ...]

    @property
    def is_over(self) -> bool:
        return self.status not in (Status.OPEN, Status.JUDGED)


@dataclass
class DisputeReader:
    """Reads disputes; keeps the events, which do not change unless a reorg puts another dispute under the same number, and those that are over,
    as long as the block they were last read at is still there."""

    chain: Chain
    _opened: dict[tuple[int, str, str, int], dict[str, Any]] = field(default_factory=dict)
    _ended: dict[int, Dispute] = field(default_factory=dict)
    _read_at: tuple[int, bytes | None] = (-1, None)

    def all(self) -> list[Dispute]:
        """Every dispute, the oldest first. Raises Unavailable."""
        if self._ended and self.chain.block_hash(self._read_at[0]) != self._read_at[1]:
            self._ended.clear()
        newest = self.chain.head()
        numbers = range(1, int(self.chain.call("Disputes", "disputeCount")) + 1)
        found = [self._ended.get(number) or self.get(number) for number in numbers]
        if len(ended := {dispute.dispute_id: dispute for dispute in found if dispute.is_over}) > len(self._ended) and self.chain.head() == newest:
            self._ended, self._read_at = ended, (newest, self.chain.block_hash(newest))
        return found

    def get(self, dispute_id: int) -> Dispute:
        """Raises Reverted for a number that does not exist."""
        state = struct_values("Disputes", "dispute", self.chain.call("Disputes", "dispute", dispute_id))
        opened = self._event(dispute_id, state)
        claim, receipt = opened["claim"], opened["claim"]["receipt"]
        return Dispute(
            dispute_id,
            bytes(opened["evidenceId"]),
            state["provider"],
            state["challenger"],
            claim["batchId"],
            receipt["number"],
            bytes(receipt["jobId"]),
            receipt["payer"],
            claim["kind"],
            state["status"],
            state["round"],
            state["outcome"],
            state["deadline"],
            state["epoch"],
            state["version"],
            (tuple(receipt.values()), claim["batchId"], bytes(claim["root"]), claim["kind"]),
        )

    def _event(self, dispute_id: int, state: dict[str, Any]) -> dict[str, Any]:
        key = (dispute_id, state["provider"], state["challenger"], state["epoch"])
        if key not in self._opened:
            event = self.chain["Disputes"].events.DisputeOpened()
            found = event.get_logs(from_block=self.chain.deployment.from_block, argument_filters={"disputeId": dispute_id})
            if not found:
                raise ProtocolError(f"the node knows dispute {dispute_id} but not the event that opened it; try another node")
            self._opened[key] = dict(found[-1]["args"])
        return self._opened[key]
