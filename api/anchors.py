"""The way from a receipt to the chain: its Merkle path in the anchored batch, fetched from the provider and checked. Kept once known."""

import asyncio
from dataclasses import dataclass
from typing import Any

from api.budget import Budget, LegKey
from protocol.chain import Chain, struct_values
from protocol.receipts import StageReceipt
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.trees import BatchTree
from protocol.wire import BatchAsk, BatchReply, RouteStop


@dataclass
class Anchors:
    """Asks providers; what they say counts only if it has the root that the chain holds."""

    chain: Chain
    budget: Budget

    async def of(self, key: LegKey, stop: RouteStop, receipt: StageReceipt, batch_id: int, tx: str) -> dict[str, Any] | None:
        """``{batch_id, tx, root, proof}``, or None while the provider does not serve it."""
        batch = await asyncio.to_thread(self.chain.call, "CommitmentLog", "batch", stop.provider, batch_id)
        root = struct_values("CommitmentLog", "batch", batch)["root"]
        try:
            client = await StageClient.to(stop)
            try:
                reply = await client.call("Batch", BatchAsk(batch_id), BatchReply, timeout=5)
            finally:
                await client.close()
        except (StageUnavailable, StageRefused):
            return None
        leaves = [StageReceipt.from_json(signed.message).struct_hash() for signed in reply.receipts]
        tree = BatchTree(leaves) if receipt.struct_hash() in leaves else None
        if tree is None or tree.root != root:
            return None
        proof = ["0x" + sibling.hex() for sibling in tree.proof(leaves.index(receipt.struct_hash()))]
        anchor = {"batch_id": batch_id, "tx": tx, "root": "0x" + root.hex(), "proof": proof}
        await self.budget.set_anchor(key, anchor)
        return anchor
