"""The end of a session: the voucher is taken and the receipt signed, and both are on disk before they are acknowledged."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, Voucher
from protocol.typed import Signed
from protocol.units import Wei
from protocol.wire import CloseReply, CloseRequest
from provider import Refused
from provider.backing import Backing
from provider.evidence import EvidenceMeta, EvidenceStore
from provider.ledger import Ledger
from provider.session import Signer, StageSession

log = structlog.get_logger()

COUNTERSIGN_SECONDS = 3
TOKEN_BYTES = 8


@dataclass
class Closing:
    """Closes open sessions and those that a restart cut off. ``row_bytes``: width of a hidden row."""

    signer: Signer
    evidence: EvidenceStore
    ledger: Ledger
    backing: Backing
    first_layer: int
    row_bytes: int
    _numbering: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self, session: StageSession, request: CloseRequest) -> CloseReply:
        """Close an open session, whose ``stepping`` the caller holds. Raises Refused."""
        rows, out = session.position, session.files.rows_out
        if rows != out.end:
            raise Refused(f"a step broke off here: {rows} rows came in, {out.end} went out; nothing will be signed for this session")
        if not out.count:
            raise Refused("no row of this session was served")
        amount = _due(session.offer, rows, request)
        if request.upstream is not None:
            session.bind(request.upstream)
        session.make_checkpoint()
        if not session.is_last and not session.fault:
            try:
                await asyncio.wait_for(session.countersigned.wait(), COUNTERSIGN_SECONDS)
            except TimeoutError:
                log.warning("no countersignature", job=request.job_id[:16])
        meta = session.meta()
        signed = await self._sign(session.offer, session.files.folder.name, meta, amount, request, partial(session.files.save, meta))
        return CloseReply(signed, meta.checkpoint, meta.countersignature)

    async def close_cut_off(self, request: CloseRequest) -> CloseReply:
        """Close what a restart cut off at its newest checkpoint, or give the receipt that was signed before. Raises Refused."""
        meta = self.cut_off(request.job_id, request.epoch)
        folder = self.evidence.folder(bytes.fromhex(request.job_id), request.epoch, self.first_layer)
        stored = self.ledger.receipt_of(folder.name)
        if stored is not None:
            return CloseReply(stored.signed, meta.checkpoint, meta.countersignature)
        offer = SessionOffer.from_json(meta.open_request.offer.message)
        amount = _due(offer, meta.rows_in, request)
        is_last = meta.open_request.route[-1].provider == offer.provider
        width_in = TOKEN_BYTES if offer.first_layer == 0 else self.row_bytes
        cut = partial(self.evidence.truncate, folder, meta, width_in, self.row_bytes + (TOKEN_BYTES if is_last else 0))
        signed = await self._sign(offer, folder.name, meta, amount, request, cut)
        return CloseReply(signed, meta.checkpoint, meta.countersignature)

    def cut_off(self, job_id: str, epoch: int) -> EvidenceMeta:
        """What is known of a session that is not open here. Raises Refused."""
        try:
            return self.evidence.meta(self.evidence.folder(bytes.fromhex(job_id), epoch, self.first_layer))
        except FileNotFoundError:
            raise Refused(f"no session {job_id[:16]} of epoch {epoch} is here") from None

    async def _sign(
        self, offer: SessionOffer, session: str, meta: EvidenceMeta, amount: Wei, request: CloseRequest, save: Callable[[], None]
    ) -> Signed:
        """Take the voucher and number the receipt; the rows are saved first. Raises Refused."""
        voucher = Voucher.from_json(request.voucher.message)
        async with self._numbering:
            stored = self.ledger.receipt_of(session)
            if stored is not None:
                return stored.signed
            self.backing.check_voucher(voucher, request.voucher, offer, amount)
            receipt = self._receipt(offer, meta, request.completion_tokens, amount)
            signed = Signed.of(receipt, receipt.sign(self.signer.domain, self.signer.key))
            await asyncio.to_thread(save)
            await asyncio.to_thread(self.ledger.add_receipt, receipt, signed, meta.checkpoint, session, voucher, request.voucher)
        return signed

    def _receipt(self, offer: SessionOffer, meta: EvidenceMeta, completion: int, amount: Wei) -> StageReceipt:
        point = Checkpoint.from_json(meta.checkpoint.message)
        return StageReceipt(
            provider=offer.provider,
            number=self.ledger.next_number(),
            job_id=offer.job_id,
            payer=offer.payer,
            gateway=offer.gateway,
            model_id=offer.model_id,
            first_layer=offer.first_layer,
            end_layer=offer.end_layer,
            execution_class=offer.execution_class,
            epoch=offer.epoch,
            first_position=point.first_position,
            position_count=point.count,
            cached_count=offer.cached_count,
            checkpoint=point.struct_hash(),
            prompt_tokens=offer.prompt_tokens,
            completion_tokens=completion,
            input_price=offer.input_price,
            cached_price=offer.cached_price,
            output_price=offer.output_price,
            amount=amount,
        )


def _due(offer: SessionOffer, rows: int, request: CloseRequest) -> Wei:
    """What a session earned. Raises Refused where the order's count does not fit the rows."""
    fed_back = rows - offer.known_tokens
    if not fed_back <= request.completion_tokens <= fed_back + 1 or rows == 0:
        raise Refused(f"{request.completion_tokens} completion tokens do not fit {rows} rows for {offer.known_tokens} tokens before")
    return offer.cost(request.completion_tokens)
