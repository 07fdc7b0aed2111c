"""Anchored batches as their providers serve them, checked against the chain; the way from a receipt to its batch's root, kept once known."""

import asyncio
from dataclasses import dataclass
from typing import Any

from api.budget import Budget, LegKey
from protocol.batches import ReceiptBatch
from protocol.chain import Chain, struct_values
from protocol.receipts import StageReceipt
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.wire import RouteStop


async def fetch_batch(chain: Chain, stop: RouteStop, batch_id: int) -> ReceiptBatch | None:
    """A batch that has the root which the chain holds, from its provider; None while that shows none. Raises Reverted or Unavailable."""
    anchored = await asyncio.to_thread(chain.call, "CommitmentLog", "batch", stop.provider, batch_id)
    try:
        client = await StageClient.to(stop)
        try:
            batch = await client.batch(batch_id, timeout=5)
        finally:
            await client.close()
    except (StageUnavailable, StageRefused):
        return None
    return batch if batch.tree.root == struct_values("CommitmentLog", "batch", anchored)["root"] else None


@dataclass
class Anchors:
    """Asks providers; what they say counts only if it has the root that the chain holds."""

    chain: Chain
    budget: Budget

    async def of(self, key: LegKey, stop: RouteStop, receipt: StageReceipt, batch_id: int, tx: str) -> dict[str, Any] | None:
        """``{batch_id, tx, root, proof}``, or None while the provider does not serve it."""
        batch, leaf = await fetch_batch(self.chain, stop, batch_id), receipt.struct_hash()
        if batch is None or leaf not in batch.leaves:
            return None
        proof = ["0x" + sibling.hex() for sibling in batch.tree.proof(batch.leaves.index(leaf))]
        anchor = {"batch_id": batch_id, "tx": tx, "root": "0x" + batch.tree.root.hex(), "proof": proof}
        await self.budget.set_anchor(key, anchor)
        return anchor
