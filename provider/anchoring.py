"""Anchor receipts in batches, redeem vouchers, release what is past its window."""

from dataclasses import dataclass

import structlog
from eth_account.signers.local import LocalAccount

from protocol import Reverted, authorisations
from protocol.chain import Chain
from protocol.trees import BatchTree
from provider.ledger import Ledger

log = structlog.get_logger()

REWARD_EPOCHS_BACK = 64


@dataclass
class Anchoring:
    """What the agent does on chain with its hot key. Each step can be repeated: the chain, not this machine, knows what has happened."""

    chain: Chain
    ledger: Ledger
    account: LocalAccount
    provider: str
    _rewarded: int = 0
    """Reward epochs before this one have been looked at."""

    def anchor(self) -> int | None:
        """Anchor all receipts that are not; the batch's number, or None where there was nothing."""
        waiting = self.ledger.unanchored()
        if not waiting:
            return None
        self._adopt_anchored()
        waiting = self.ledger.unanchored()
        if not waiting:
            return None
        receipts = [entry.receipt for entry in waiting]
        root = BatchTree([receipt.struct_hash() for receipt in receipts]).root
        first, last = receipts[0].number, receipts[-1].number
        amount = sum(receipt.amount for receipt in receipts)
        tokens = sum(receipt.prompt_tokens + receipt.completion_tokens for receipt in receipts)
        batch_id = int(self.chain.call("CommitmentLog", "batchCount", self.provider))
        digest = self.chain.send(self.account, "CommitmentLog", "anchor", root, first, last, amount, tokens)
        self.ledger.record_batch(batch_id, first, last, root)
        log.info("anchored", batch=batch_id, receipts=len(receipts), tx=digest)
        return batch_id

    def claim(self) -> int:
        """Redeem what can be redeemed and release what is past its window; the number of batches released."""
        self._forget_lost()
        newest = self._newest_matured()
        if newest is None:
            return 0
        self._redeem()
        models = sorted({voucher.model_id for voucher in self.ledger.vouchers()})
        try:
            digest = self.chain.send(self.account, "Settlement", "release", self.provider, newest, models)
        except Reverted as error:
            if error.error != "NothingToRelease":
                log.info("release waits", reason=str(error))
                return 0
        else:
            log.info("released", up_to_batch=newest, tx=digest)
        self.ledger.mark_released(newest)
        return newest + 1

    def collect(self) -> None:
        """Everything that is due: fees and emission."""
        self.claim()
        self.claim_rewards()

    def claim_rewards(self) -> int:
        """Take the emission of ended reward epochs, for the owner and the delegators; how much, in wei."""
        current = int(self.chain.call("RewardPool", "currentEpoch"))
        taken = 0
        for epoch in range(max(self._rewarded, current - REWARD_EPOCHS_BACK, 0), current):
            if amount := int(self.chain.call("RewardPool", "claimable", self.provider, epoch)):
                digest = self.chain.send(self.account, "RewardPool", "claim", self.provider, epoch)
                log.info("reward claimed", epoch=epoch, amount=amount, tx=digest)
                taken += amount
        self._rewarded = current
        return taken

    def _redeem(self) -> None:
        self._refresh_redeemed()
        waiting = self.ledger.unredeemed()
        for payer, gateway in {(voucher.payer, voucher.gateway) for voucher, _, _ in waiting}:
            if (signed := self.ledger.authorisation(payer, gateway)) is not None:
                authorisations.show(self.chain, self.account, signed)
        vouchers = [voucher.abi_tuple() for voucher, _, _ in waiting]
        signatures = [signed.signature_bytes for _, signed, _ in waiting]
        # Against an empty escrow a redemption would only burn gas.
        _, deltas = self.chain.call("Settlement", "preview", vouchers, signatures)
        worth = [i for i, delta in enumerate(deltas) if delta]
        if worth:
            digest = self.chain.send(self.account, "Settlement", "redeem", [vouchers[i] for i in worth], [signatures[i] for i in worth])
            log.info("redeemed", vouchers=len(worth), tx=digest)
            self._refresh_redeemed()

    def _refresh_redeemed(self) -> None:
        """The chain, not the ledger, knows what was redeemed."""
        for voucher in self.ledger.vouchers():
            stream = (voucher.payer, voucher.gateway, voucher.provider, voucher.model_id)
            self.ledger.mark_redeemed(voucher, int(self.chain.call("Settlement", "redeemedOf", *stream)))

    def _newest_matured(self) -> int | None:
        newest = None
        for batch_id in self.ledger.unreleased_batches():
            try:
                self.chain.call("CommitmentLog", "maturedAmount", self.provider, batch_id)
            except Reverted:
                break
            newest = batch_id
        return newest

    def _forget_lost(self) -> None:
        """Batches that the chain has lost in a reorg wait to be anchored again, and what was released with them to be released again."""
        kept = int(self.chain.call("CommitmentLog", "batchCount", self.provider))
        if lost := self.ledger.forget_batches(kept):
            log.warning("batches lost in a reorg will be anchored again", batches=lost)

    def _adopt_anchored(self) -> None:
        """Note batches that a run before this one anchored but did not live to record."""
        waiting = self.ledger.unanchored()
        if int(self.chain.call("CommitmentLog", "lastNumber", self.provider)) < waiting[0].number:
            return
        count = int(self.chain.call("CommitmentLog", "batchCount", self.provider))
        for batch_id in range(max(0, count - int(self.chain.call("CommitmentLog", "RING"))), count):
            root, first, last, *_ = self.chain.call("CommitmentLog", "batch", self.provider, batch_id)
            self.ledger.record_batch(batch_id, first, last, root)
