"""Anchored batches as their providers serve them, checked against the chain; the way from a receipt to its batch's root, kept once known."""

import asyncio
from dataclasses import dataclass
from typing import Any

from api.budget import Budget, LegKey
from protocol.chain import Chain, struct_values
from protocol.receipts import StageReceipt
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.trees import BatchTree
from protocol.wire import RouteStop


@dataclass(frozen=True)
class AnchoredBatch:
    """A batch whose receipts have the root that the chain holds."""

    batch_id: int
    root: bytes
    receipts: list[StageReceipt]
    leaves: list[bytes]

    @classmethod
    async def fetch(cls, chain: Chain, stop: RouteStop, batch_id: int) -> "AnchoredBatch | None":
        """From its provider; None while that does not serve it, or serves what does not have the root. Raises Reverted or Unavailable."""
        batch = await asyncio.to_thread(chain.call, "CommitmentLog", "batch", stop.provider, batch_id)
        root = struct_values("CommitmentLog", "batch", batch)["root"]
        try:
            client = await StageClient.to(stop)
            try:
                receipts = await client.batch(batch_id, timeout=5)
            finally:
                await client.close()
        except (StageUnavailable, StageRefused):
            return None
        leaves = [receipt.struct_hash() for receipt in receipts]
        return cls(batch_id, root, receipts, leaves) if leaves and BatchTree(leaves).root == root else None

    def proof(self, receipt: StageReceipt) -> list[bytes] | None:
        """The receipt's path to the root, None where it is not in the batch."""
        leaf = receipt.struct_hash()
        return BatchTree(self.leaves).proof(self.leaves.index(leaf)) if leaf in self.leaves else None


@dataclass
class Anchors:
    """Asks providers; what they say counts only if it has the root that the chain holds."""

    chain: Chain
    budget: Budget

    async def of(self, key: LegKey, stop: RouteStop, receipt: StageReceipt, batch_id: int, tx: str) -> dict[str, Any] | None:
        """``{batch_id, tx, root, proof}``, or None while the provider does not serve it."""
        batch = await AnchoredBatch.fetch(self.chain, stop, batch_id)
        proof = None if batch is None else batch.proof(receipt)
        if batch is None or proof is None:
            return None
        anchor = {"batch_id": batch_id, "tx": tx, "root": "0x" + batch.root.hex(), "proof": ["0x" + sibling.hex() for sibling in proof]}
        await self.budget.set_anchor(key, anchor)
        return anchor
