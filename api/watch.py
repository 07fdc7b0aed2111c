"""Compare every receipt that a stage signed for this gateway with what the stage anchored under its number; prove where they differ.

A stage that gives one number to two jobs would be paid for both and checked for one. Two signatures over one number convict by themselves: the
reporter needs no bond and no judges.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from eth_abi import encode as abi_encode
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from psycopg import Error as DatabaseError

from api.anchors import AnchoredBatch
from api.budget import Budget, LegKey
from protocol import ProtocolError, Reverted
from protocol.chain import Chain, struct_values
from protocol.receipts import StageReceipt
from protocol.typed import Signed
from protocol.wire import CloseReply, RouteStop

log = structlog.get_logger()

PAUSE_SECONDS = 5.0


@dataclass
class Watch:
    """Looks at closed legs until each was found anchored, or contradicted."""

    chain: Chain
    account: LocalAccount
    budget: Budget
    _ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each provider's batches, by id: first and last number."""

    async def run(self) -> None:
        """Until cancelled; what fails is logged and tried again."""
        while True:
            try:
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
            fetched: dict[int, AnchoredBatch | None] = {}
            for leg in own:
                signed = msgspec.convert(leg["reply"], CloseReply).receipt
                receipt = StageReceipt.from_json(signed.message)
                batch_id = next((i for i, (first, last) in enumerate(ranges) if first <= receipt.number <= last), None)
                if batch_id is None:
                    continue
                if batch_id not in fetched:
                    fetched[batch_id] = await AnchoredBatch.fetch(self.chain, msgspec.convert(leg["stop"], RouteStop), batch_id)
                if (batch := fetched[batch_id]) is not None:
                    await self._compare(LegKey(leg["job_id"], provider, leg["epoch"]), receipt, signed, batch)

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

    async def _compare(self, key: LegKey, receipt: StageReceipt, signed: Signed, batch: AnchoredBatch) -> None:
        anchored = next((entry for entry in batch.receipts if entry.number == receipt.number), None)
        if anchored is not None and anchored.struct_hash() != receipt.struct_hash():
            await asyncio.to_thread(self._prove, receipt, signed, anchored, batch)
        await self.budget.mark_compared(key)

    def _prove(self, receipt: StageReceipt, signed: Signed, anchored: StageReceipt, batch: AnchoredBatch) -> None:
        """Note first, prove a second later: a copied proof would be too late."""
        salt = secrets.token_bytes(32)
        note = keccak(abi_encode(["address", "uint64", "address", "bytes32"], [receipt.provider, receipt.number, self.account.address, salt]))
        place = (anchored.abi_tuple(), batch.batch_id, batch.proof(anchored))
        try:
            self.chain.send(self.account, "Contradictions", "note", note)
            ready = self.chain.now() + int(self.chain.call("Contradictions", "NOTE_DELAY"))
            while self.chain.now() < ready:
                time.sleep(0.5)
            tx = self.chain.send(self.account, "Contradictions", "prove", receipt.abi_tuple(), signed.signature_bytes, place, salt)
            log.warning("two receipts of one number", provider=receipt.provider, number=receipt.number, tx=tx)
        except Reverted as error:
            if error.error not in ("AlreadyProven", "WindowOver"):
                raise
