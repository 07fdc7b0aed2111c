"""Draw duties of closed epochs, post their results, claim the pay. Design section 4, "Duties"."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from eth_account.signers.local import LocalAccount

from protocol import Reverted, bls
from protocol.batches import ReceiptBatch
from protocol.chain import Chain
from protocol.duties import duty_payload, is_drawn, may_volunteer
from protocol.members import active_members
from protocol.trees import batch_leaf
from protocol.typed import ZERO32
from verifier import EvidenceBad, EvidenceMissing
from verifier.evidence import EvidenceClient
from verifier.store import Drawn, Store

log = structlog.get_logger()

Batch = tuple[str, int]
"""Provider and the batch's number."""
Served = ReceiptBatch | EvidenceMissing | EvidenceBad
"""A batch, or why it was not to be had."""


@dataclass(frozen=True)
class Anchored:
    """What the chain says of a batch."""

    provider: str
    batch_id: int
    root: bytes
    first_number: int
    audit_rate: int


@dataclass(frozen=True, eq=False)
class Lots:
    """What a verifier draws by in an epoch: its signature, its weight among all, and the batches."""

    epoch: int
    signature: bytes
    weight: int
    total: int
    batches: list[Anchored]


@dataclass
class Duties:
    """One verifier's duties."""

    chain: Chain
    account: LocalAccount
    bls_secret: bytes
    store: Store
    evidence: EvidenceClient
    posting_epochs: int
    keep_seconds: int
    """How long batches are kept: while a dispute over them can be opened."""
    _nothing: set[int] = field(default_factory=set)
    """Closed epochs in which there is nothing to draw or to be paid for: that cannot change, save by a reorg."""
    _drawn: set[int] = field(default_factory=set)
    """Epochs of which all batches were drawn from since this process began; drawing again changes nothing."""
    _seen: dict[int, set[Batch]] = field(default_factory=dict)
    """By epoch that lacks a batch: those that were drawn from."""

    def review(self) -> None:
        """After a reorg: draw again where an epoch's batches are others now, post again what the chain has lost."""
        self._nothing.clear()
        self._drawn.clear()
        self._seen.clear()
        current = int(self.chain.call("VerifierSet", "currentEpoch"))
        for epoch in range(max(0, current - self.posting_epochs), current + 1):
            signature = self.store.epoch_signature(epoch)
            if signature and signature != self._signature(epoch, self.chain.call("CommitmentLog", "tip", epoch)):
                self.store.forget_epoch(epoch)
            elif signature and self.chain.call("VerifierSet", "dutyRoot", epoch, self.account.address) == ZERO32:
                self.store.mark_posted(epoch, False)

    def _signature(self, epoch: int, tip: bytes) -> bytes:
        message = bls.message(bls.DUTY, self.chain.deployment.chain_id, self.chain.address("VerifierSet"), epoch, duty_payload(tip))
        return bls.sign(self.bls_secret, message)

    def draw(self) -> None:
        """Draw from every batch of closed epochs whose duties may still be posted.

        A provider that does not serve its batch's receipts keeps nobody else's from being drawn; it is asked again until ``_may_post``.
        """
        current = int(self.chain.call("VerifierSet", "currentEpoch"))
        epochs = [epoch for epoch in range(max(0, current - self.posting_epochs), current) if epoch not in self._nothing | self._drawn]
        waiting = [lots for epoch in epochs if not self.store.is_posted(epoch) and (lots := self._lots(epoch)) is not None]
        served = asyncio.run(self._ask([batch for lots in waiting for batch in lots.batches]))
        for lots in waiting:
            self._draw_epoch(lots, served)

    async def _ask(self, batches: Sequence[Anchored]) -> dict[Batch, Served]:
        """All at once: one that does not answer is waited for no longer than many."""
        served = await asyncio.gather(*(self._receipts(batch) for batch in batches))
        return {(batch.provider, batch.batch_id): found for batch, found in zip(batches, served, strict=True)}

    async def _receipts(self, batch: Anchored) -> Served:
        kept = self.store.batch(batch.provider, batch.batch_id)
        if kept is not None and kept.tree.root == batch.root:
            return kept
        try:
            return await self.evidence.batch(batch.provider, batch.batch_id)
        except (EvidenceMissing, EvidenceBad) as error:
            return error

    def _lots(self, epoch: int) -> Lots | None:
        """What this verifier draws by in an epoch; None where there is nothing to draw or to be paid for."""
        members = active_members(self.chain, epoch)
        me = members.get(self.account.address)
        tip = self.chain.call("CommitmentLog", "tip", epoch)
        if me is None or (tip == ZERO32 and not self.chain.call("Settlement", "pot", epoch)):
            self._nothing.add(epoch)
            return None
        total = sum(member.weight for member in members.values())
        batches = [batch for batch in self._batches(epoch) if (batch.provider, batch.batch_id) not in self._seen.get(epoch, ())]
        return Lots(epoch, self._signature(epoch, tip), me.weight, total, batches)

    def _draw_epoch(self, lots: Lots, served: Mapping[Batch, Served]) -> None:
        """Note what is drawn of the batches that were served; the epoch is drawn once all were."""
        drawn: list[Drawn] = []
        seen: set[Batch] = set()
        distrusted = self.store.distrusted()
        for anchored in lots.batches:
            provider, batch_id = anchored.provider, anchored.batch_id
            batch = served[provider, batch_id]
            if isinstance(batch, Exception):
                log.warning("batch not served", provider=provider, batch=batch_id, reason=str(batch))
                self.store.add_list_check(provider, batch_id, anchored.first_number, lots.epoch)
                continue
            seen.add((provider, batch_id))
            self.store.keep_batch(provider, batch_id, batch)
            accused = self.store.accused(provider)
            for index, receipt in enumerate(batch.receipts):
                leaf = batch_leaf(batch.leaves[index])
                lot = (lots.signature, provider, batch_id, leaf, anchored.audit_rate, lots.weight, lots.total)
                duty = is_drawn(*lot)
                failed = "0x" + receipt.struct_hash().hex() in accused
                if duty or failed or (provider in distrusted and may_volunteer(*lot)):
                    found = "FAIL" if failed and not duty else None
                    drawn.append(Drawn(provider, batch_id, receipt.number, leaf, batch.tree.proof(index), voluntary=not duty, found=found))
        self.store.add_epoch(lots.epoch, lots.signature, drawn)
        lacking = len(lots.batches) - len(seen)
        if lacking:
            self._seen.setdefault(lots.epoch, set()).update(seen)
        else:
            self._drawn.add(lots.epoch)
            self.store.forget_batches(self.keep_seconds)
            self._seen.pop(lots.epoch, None)
        if drawn or not lacking:
            log.info("drew", epoch=lots.epoch, checks=len(drawn), voluntary=sum(d.voluntary for d in drawn), lacking=lacking)

    def _may_post(self, epoch: int) -> bool:
        """Whether all batches were drawn from, or half of the time is over: then a provider that hides its receipts must not cost the epoch's pay."""
        return epoch in self._drawn or 2 * (int(self.chain.call("VerifierSet", "currentEpoch")) - epoch) > self.posting_epochs

    def _batches(self, epoch: int) -> list[Anchored]:
        event = self.chain["CommitmentLog"].events.BatchAnchored()
        found = event.get_logs(from_block=self.chain.deployment.from_block, argument_filters={"epoch": epoch})
        return [
            Anchored(args["provider"], args["batchId"], args["batch"]["root"], args["batch"]["firstNumber"], args["batch"]["auditRate"])
            for args in (entry["args"] for entry in found)
        ]

    def pin(self) -> None:
        """Pin on chain the drawn receipts whose rows are not to be had. Without a pin in time nobody may be accused of dropping them."""
        for row in self.store.to_pin():
            anchored = (row["provider"], row["batch_id"], bytes(row["leaf"]), [bytes.fromhex(sibling) for sibling in row["proof"]])
            seat = active_members(self.chain, row["epoch"])[self.account.address].index
            in_time = True
            try:
                digest = self.chain.send(self.account, "Pins", "pin", anchored, seat, self.store.epoch_signature(row["epoch"]))
                log.warning("pinned", provider=row["provider"], number=row["number"], tx=digest)
            except Reverted as error:
                if error.error not in ("WindowOver", "AlreadyPinned"):
                    raise
                in_time = error.error == "AlreadyPinned"
            self.store.mark_pinned(row["provider"], row["number"], in_time)

    def post(self) -> None:
        """Post the root of each epoch whose checks are all done."""
        for epoch in filter(self._may_post, self.store.complete_epochs()):
            opening = self.store.opening(epoch)
            seat = active_members(self.chain, epoch)[self.account.address].index
            try:
                digest = self.chain.send(self.account, "VerifierSet", "postDuties", epoch, seat, opening.root(), len(opening.results))
                log.info("posted", epoch=epoch, checks=len(opening.results), tx=digest)
            except Reverted as error:
                if error.error not in ("DutiesClosed", "AlreadyPosted"):
                    raise
                log.warning("not posted", epoch=epoch, reason=str(error))
            self.store.mark_posted(epoch)

    def may_open(self, epoch: int) -> bool:
        """Whether this verifier has posted the epoch and nobody may any more, so that there is nothing left to copy."""
        posted = self.chain.call("VerifierSet", "dutyRoot", epoch, self.account.address) != ZERO32
        return posted and not self.chain.call("VerifierSet", "dutiesOpen", epoch)

    def claim(self) -> None:
        """Take the pay of epochs whose posting is over, and what disputes owe."""
        for epoch in self.store.unclaimed():
            if self.chain.call("VerifierSet", "dutiesOpen", epoch):
                continue
            if self.chain.call("Settlement", "pot", epoch):
                self._share_out(epoch)
            self.store.mark_claimed(epoch)
        if self.chain.call("Disputes", "owed", self.account.address):
            self.chain.send(self.account, "Disputes", "withdraw")

    def _share_out(self, epoch: int) -> None:
        """Take this verifier's share; those of members that missed a vote go to the pot that runs, which all of them share."""
        lapsed = self.chain.call("Attendance", "lastSequence")
        for verifier in active_members(self.chain, epoch) if lapsed else [self.account.address]:
            posted = self.chain.call("VerifierSet", "dutyRoot", epoch, verifier) != ZERO32
            if not posted or self.chain.call("Settlement", "claimed", epoch, verifier):
                continue
            try:
                if self.chain.call("Attendance", "isDocked", epoch, verifier):
                    self.chain.send(self.account, "Settlement", "forfeit", epoch, verifier)
                    log.warning("pay lost for a missed vote", epoch=epoch, verifier=verifier)
                elif verifier == self.account.address:
                    digest = self.chain.send(self.account, "Settlement", "claimVerifierPay", epoch)
                    log.info("paid", epoch=epoch, tx=digest)
            except Reverted as error:
                if error.error != "AlreadyClaimed":  # another member was faster
                    raise
