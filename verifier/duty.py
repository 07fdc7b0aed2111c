"""Draw duties of closed epochs, post their results, claim the pay. Design section 4, "Duties"."""

import asyncio
from dataclasses import dataclass, field

import structlog
from eth_account.signers.local import LocalAccount

from protocol import Reverted, bls
from protocol.chain import Chain
from protocol.duties import duty_payload, is_drawn, may_volunteer
from protocol.members import active_members
from protocol.trees import BatchTree, batch_leaf
from protocol.typed import ZERO32
from verifier import EvidenceBad, EvidenceMissing
from verifier.evidence import EvidenceClient
from verifier.store import Drawn, Store

log = structlog.get_logger()


@dataclass
class Duties:
    """One verifier's duties."""

    chain: Chain
    account: LocalAccount
    bls_secret: bytes
    store: Store
    evidence: EvidenceClient
    posting_epochs: int
    _nothing: set[int] = field(default_factory=set)
    """Closed epochs in which there is nothing to draw or to be paid for: that cannot change, save by a reorg."""

    def review(self) -> None:
        """After a reorg: draw again where an epoch's batches are others now, post again what the chain has lost."""
        self._nothing.clear()
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
        """Draw every closed epoch whose duties may still be posted and that was not drawn yet."""
        current = int(self.chain.call("VerifierSet", "currentEpoch"))
        for epoch in range(max(0, current - self.posting_epochs), current):
            if epoch not in self._nothing and not self.store.has_epoch(epoch):
                self._draw_epoch(epoch)

    def _draw_epoch(self, epoch: int) -> None:
        members = active_members(self.chain, epoch)
        me = members.get(self.account.address)
        tip = self.chain.call("CommitmentLog", "tip", epoch)
        if me is None or (tip == ZERO32 and not self.chain.call("Settlement", "pot", epoch)):
            self._nothing.add(epoch)
            return
        signature = self._signature(epoch, tip)
        total = sum(member.weight for member in members.values())
        drawn: list[Drawn] = []
        distrusted = self.store.distrusted()
        for provider, batch_id, rate in self._batches(epoch):
            try:
                receipts = asyncio.run(self.evidence.batch(provider, batch_id))
            except (EvidenceMissing, EvidenceBad) as error:
                # Without the receipts there is nothing to draw from; the epoch is drawn again until its posting is over.
                log.warning("batch not served", provider=provider, batch=batch_id, reason=str(error))
                return
            tree = BatchTree([receipt.struct_hash() for receipt in receipts])
            for index, receipt in enumerate(receipts):
                leaf = batch_leaf(receipt.struct_hash())
                lot = (signature, provider, batch_id, leaf, rate, me.weight, total)
                duty = is_drawn(*lot)
                if duty or (provider in distrusted and may_volunteer(*lot)):
                    drawn.append(Drawn(provider, batch_id, receipt.number, leaf, tree.proof(index), voluntary=not duty))
        self.store.add_epoch(epoch, signature, drawn)
        log.info("drew", epoch=epoch, checks=len(drawn), voluntary=sum(d.voluntary for d in drawn))

    def _batches(self, epoch: int) -> list[tuple[str, int, int]]:
        """(provider, batch, audit rate) of each batch of the epoch."""
        event = self.chain["CommitmentLog"].events.BatchAnchored()
        found = event.get_logs(from_block=self.chain.deployment.from_block, argument_filters={"epoch": epoch})
        return [(entry["args"]["provider"], entry["args"]["batchId"], entry["args"]["batch"]["auditRate"]) for entry in found]

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
        for epoch in self.store.complete_epochs():
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
