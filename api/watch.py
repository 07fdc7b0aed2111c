"""Compare every receipt that a stage signed for this gateway with what the stage anchored under its number; prove where they differ.

A stage that gives one number to two jobs would be paid for both and checked for one. Two signatures over one number convict by themselves: the
reporter needs no bond and no judges.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from psycopg import Error as DatabaseError

from api.anchors import fetch_batch
from api.budget import Budget, LegKey
from api.peers import Peers
from api.signing import Signer
from protocol import ProtocolError, Reverted
from protocol.batches import ReceiptBatch
from protocol.chain import Chain, struct_values
from protocol.contradictions import Accusation, prove_receipt
from protocol.receipts import StageReceipt
from protocol.typed import Signed
from protocol.wire import CloseReply, RouteStop

log = structlog.get_logger()

PAUSE_SECONDS = 5.0


@dataclass
class Watch:
    """Looks at closed legs until each was found anchored, or contradicted."""

    chain: Chain
    account: Signer
    budget: Budget
    peers: Peers
    _ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each provider's batches, by id: first and last number."""

    async def run(self) -> None:
        """Until cancelled; what fails is logged and tried again."""
        while True:
            try:
                if self.peers.leads:
                    await self.look()
            except (ProtocolError, DatabaseError) as error:
                log.warning("will try again", reason=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def look(self) -> None:
        """One round over the legs that were not compared yet."""
        legs: dict[str, list[dict[str, Any]]] = {}
        parameters = await asyncio.to_thread(self.chain.call, "Disputes", "parameters")
        window = struct_values("Disputes", "parameters", parameters)["disputeWindow"]
        for leg in await self.budget.not_compared(window):
            legs.setdefault(leg["provider"], []).append(leg)
        for provider, own in legs.items():
            ranges = await asyncio.to_thread(self._read_ranges, provider)
            fetched: dict[int, ReceiptBatch | None] = {}
            for leg in own:
                signed = msgspec.convert(leg["reply"], CloseReply).receipt
                receipt = StageReceipt.from_json(signed.message)
                batch_id = next((i for i, (first, last) in enumerate(ranges) if first <= receipt.number <= last), None)
                if batch_id is None:
                    continue
                if batch_id not in fetched:
                    fetched[batch_id] = await fetch_batch(self.chain, msgspec.convert(leg["stop"], RouteStop), batch_id)
                if (batch := fetched[batch_id]) is not None:
                    await self._compare(LegKey(leg["job_id"], provider, leg["epoch"]), receipt, signed, batch, batch_id)

    def _read_ranges(self, provider: str) -> list[tuple[int, int]]:
        known, count = self._ranges.setdefault(provider, []), int(self.chain.call("CommitmentLog", "batchCount", provider))
        if count < len(known):
            known.clear()  # a reorg took batches away
        for batch_id in range(len(known), count):
            try:
                values = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", provider, batch_id))
                known.append((values["firstNumber"], values["lastNumber"]))
            except Reverted:
                known.append((0, 0))  # so old that the chain has written over it
        return known

    async def _compare(self, key: LegKey, receipt: StageReceipt, signed: Signed, batch: ReceiptBatch, batch_id: int) -> None:
        index = batch.find(receipt.number)
        if index is not None and batch.leaves[index] != receipt.struct_hash():
            tx = await asyncio.to_thread(prove_receipt, self.chain, self.account, Accusation(signed, batch, batch_id, index))
            log.warning("two receipts of one number", provider=receipt.provider, number=receipt.number, tx=tx)
        await self.budget.mark_compared(key)
