"""A provider's batch as it is shown: each receipt with the checkpoint that it names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocol.receipts import Checkpoint, StageReceipt
from protocol.trees import BatchTree
from protocol.wire import BatchReply


@dataclass(frozen=True)
class ReceiptBatch:
    """The receipts of a batch in the order of their numbers; ``checkpoints[i]`` is the one that ``receipts[i]`` names."""

    receipts: Sequence[StageReceipt]
    checkpoints: Sequence[Checkpoint]

    @classmethod
    def of(cls, reply: BatchReply) -> "ReceiptBatch":
        """Raises ValueError for what is no list of receipts, or where a checkpoint is not its receipt's."""
        receipts = [StageReceipt.from_json(signed.message) for signed in reply.receipts]
        checkpoints = [Checkpoint.from_json(message) for message in reply.checkpoints]
        if not receipts or [point.struct_hash() for point in checkpoints] != [receipt.checkpoint for receipt in receipts]:
            raise ValueError(f"{len(checkpoints)} checkpoints for {len(receipts)} receipts, which have to name one each")
        return cls(receipts, checkpoints)

    @classmethod
    def from_json(cls, body: Sequence[Sequence[dict[str, Any]]]) -> "ReceiptBatch":
        """The inverse of ``to_json``."""
        receipts, checkpoints = body
        return cls([StageReceipt.from_json(message) for message in receipts], [Checkpoint.from_json(message) for message in checkpoints])

    def to_json(self) -> list[list[dict[str, Any]]]:
        return [[entry.to_json() for entry in entries] for entries in (self.receipts, self.checkpoints)]

    @cached_property
    def leaves(self) -> list[bytes]:
        """Struct hashes of the receipts."""
        return [receipt.struct_hash() for receipt in self.receipts]

    @cached_property
    def tree(self) -> BatchTree:
        return BatchTree(self.leaves)

    def find(self, number: int) -> int | None:
        """The place of the receipt of that number; None where there is none."""
        return next((i for i, receipt in enumerate(self.receipts) if receipt.number == number), None)
