"""Is the work paid for? Every voucher and all work in progress stay within what the payer and the gateway's bond can cover. Design section 5."""

import asyncio
import time
from dataclasses import dataclass, field

from protocol import Unavailable, authorisations
from protocol.chain import Chain
from protocol.receipts import SessionOffer, Voucher
from protocol.typed import Domain, Signed
from provider import Refused
from provider.ledger import Ledger, stream_of

FRESH_SECONDS = 3.0
STALE_SECONDS = 120.0
"""How long an old look at the cover serves while the node is away."""


@dataclass
class Backing:
    """Reads cover from the chain, at most every few seconds, and counts what is promised against it."""

    chain: Chain
    ledger: Ledger
    settlement: Domain
    in_progress: dict[bytes, int] = field(default_factory=dict)
    _covers: dict[tuple[str, str, bytes], tuple[float, int, int, int]] = field(default_factory=dict)

    async def require(self, offer: SessionOffer, authorisation: Signed | None = None) -> None:
        """Raise Refused unless the gateway's allocation covers all unredeemed vouchers and work in progress, this job's maximum included.

        What a payer has signed for is kept: the greatest of its authorisations counts where the payer requires such. Raises BadSignature.
        """
        most = offer.most
        from_payer, bond = await asyncio.to_thread(self._cover, offer, authorisation)
        if from_payer < most:
            words = f"payer {offer.payer} has {from_payer} wei within its limit for this gateway, and what it has signed for"
            raise Refused(f"{words}; the job may cost {most}")
        outstanding = sum(rest for voucher, _, rest in self.ledger.unredeemed() if voucher.gateway == offer.gateway)
        promised = outstanding + sum(self.in_progress.values()) + most
        if promised > bond:
            raise Refused(f"gateway {offer.gateway} has {bond} wei of bond here, {promised} would be promised; it must allocate more")
        self.in_progress[offer.job_id] = most

    def done(self, offer: SessionOffer) -> None:
        self.in_progress.pop(offer.job_id, None)

    def check_voucher(self, voucher: Voucher, signed: Signed, offer: SessionOffer, amount: int) -> None:
        """Raise Refused or BadSignature unless this voucher, or a higher one kept before, covers all receipts of its stream and ``amount``.

        Receipts count, not the voucher before: of jobs that end together the later voucher may come first, and covers both.
        """
        voucher.require_signer(self.settlement, signed.signature_bytes, offer.gateway)
        parties = (voucher.payer, voucher.gateway, voucher.provider, voucher.model_id)
        if parties != (offer.payer, offer.gateway, offer.provider, offer.model_id):
            raise Refused("the voucher is for another stream than the offer")
        highest, earned = self.ledger.standing(stream_of(voucher))
        if max(voucher.cumulative, highest) < earned + amount:
            raise Refused(f"vouchers up to {max(voucher.cumulative, highest)} wei do not cover the {earned} of earlier receipts and {amount} due")

    def _cover(self, offer: SessionOffer, authorisation: Signed | None) -> tuple[int, int]:
        if authorisation is not None:
            self.ledger.keep_authorisation(authorisations.read(self.chain, authorisation, offer.payer, offer.gateway), authorisation)
        signed_for = self.ledger.signed_for(offer.payer, offer.gateway)
        key = (offer.payer, offer.gateway, offer.model_id)
        looked, known, from_payer, bond = self._covers.get(key, (-STALE_SECONDS, 0, 0, 0))
        if time.monotonic() - looked > FRESH_SECONDS or signed_for != known:
            try:
                stream = (offer.payer, offer.gateway, offer.provider, offer.model_id)
                from_payer, bond = self.chain.call("PaymentEscrow", "availableWith", *stream, signed_for)
                self._covers[key] = (time.monotonic(), signed_for, from_payer, bond)
            except Unavailable:
                # Serving goes on over a short absence of the node: a payer's limit and a bond cannot be withdrawn faster than they thaw.
                if time.monotonic() - looked > STALE_SECONDS:
                    raise
        return int(from_payer), int(bond)
