"""One stage's part of a job: open it, ask how far it is, close it for its receipt."""

from dataclasses import dataclass

import structlog

from api.budget import Budget, LegKey
from api.signing import Signer
from protocol import BadSignature, Unavailable
from protocol.chain import Chain
from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, Voucher
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.typed import Signed
from protocol.wire import AttachRequest, CloseReply, CloseRequest, RouteStop, SessionProgress

log = structlog.get_logger()

HEARTBEAT_SECONDS = 2.0
HEARTBEATS = 2


@dataclass
class Leg:
    """A session at one stage. ``route``: the one that the stage was last told."""

    key: LegKey
    offer: SessionOffer
    stop: RouteStop
    route: list[RouteStop]
    client: StageClient
    standby: str = ""
    """The provider that has the stage's keys and values, empty where none has."""
    hands_over: bool = False
    """Whether the stage leaves the job to that one after the first token."""

    @property
    def provider(self) -> str:
        return self.stop.provider

    @property
    def attach(self) -> AttachRequest:
        return AttachRequest(self.offer.job_id.hex(), self.offer.epoch)

    async def progress(self) -> SessionProgress | None:
        """How far the stage is; None where it misses its heartbeats or has lost the session."""
        for _ in range(HEARTBEATS):
            try:
                return await self.client.call("Progress", self.attach, SessionProgress, HEARTBEAT_SECONDS)
            except StageRefused:
                return None
            except StageUnavailable:
                continue
        return None


@dataclass(frozen=True)
class Before:
    """What the stage before a leg signed at its end. ``ended``: whether the job came to an end of its own, so that every stage has the same rows."""

    checkpoint: Signed
    ended: bool

    @property
    def point(self) -> Checkpoint:
        return Checkpoint.from_json(self.checkpoint.message)


@dataclass
class LegCloser:
    """Signs vouchers and takes receipts; each step is in the books before the next."""

    chain: Chain
    account: Signer
    budget: Budget

    async def close(
        self,
        key: LegKey,
        offer: SessionOffer,
        stop: RouteStop,
        client: StageClient,
        completion_tokens: int,
        before: Before | None = None,
        root_out: bytes | None = None,
    ) -> CloseReply | None:
        """The stage's receipt for that many completion tokens; None where it signs nothing, or does not bind its rows in to what the stage before
        it signed or sign for the rows out of that root, and then nothing is charged.

        May be repeated, as a stage gives the same receipt again. Raises StageUnavailable, and then the books say 'asked'.
        """
        amount = offer.cost(completion_tokens)
        voucher = Voucher(offer.payer, self.account.address, stop.provider, offer.model_id, await self.budget.issue(key, completion_tokens, amount))
        try:
            signed = await self.account.sign(voucher, self.chain.settlement_domain)
        except Unavailable as error:  # the signer's
            raise StageUnavailable(str(error)) from error
        try:
            upstream = None if before is None else before.checkpoint
            reply = await client.call("Close", CloseRequest(offer.job_id.hex(), offer.epoch, completion_tokens, signed, upstream), CloseReply)
            self._check(offer, stop, completion_tokens, amount, reply)
            _check_rows(offer, completion_tokens, reply, before, root_out)
        except (StageRefused, BadSignature, ValueError) as error:
            log.warning("no receipt", provider=stop.provider, job=key.job_id[:18], reason=str(error))
            await self.budget.refuse(key)
            return None
        await self.budget.close_leg(key, reply)
        return reply

    def _check(self, offer: SessionOffer, stop: RouteStop, completion_tokens: int, amount: int, reply: CloseReply) -> None:
        receipt = StageReceipt.from_json(reply.receipt.message)
        receipt.require_signer(self.chain.receipts_domain, reply.receipt.signature_bytes, stop.operator)
        told = (receipt.job_id, receipt.provider, receipt.epoch, receipt.first_position, receipt.amount, receipt.completion_tokens)
        if told != (offer.job_id, stop.provider, offer.epoch, offer.first_position, amount, completion_tokens):
            raise ValueError(f"the receipt of {stop.provider} says {told}, which is not what was ordered")


def _check_rows(offer: SessionOffer, completion_tokens: int, reply: CloseReply, before: Before | None, root_out: bytes | None) -> None:
    """The receipt's checkpoint covers the rows that its tokens took, has the root of those that came back, and is bound to the last one of the stage
    before it. Raises ValueError.

    Two stages that collude could otherwise sign one thing for each other and another for a verifier.
    """
    point, receipt = Checkpoint.from_json(reply.checkpoint.message), StageReceipt.from_json(reply.receipt.message)
    # The last token is not fed back, unless the client went away while it was.
    least = offer.known_tokens + completion_tokens - 1
    if point.struct_hash() != receipt.checkpoint or not least <= point.end <= least + 1:
        raise ValueError(f"the checkpoint of {offer.provider} has {point.end} rows for {least}, or is not the one that its receipt names")
    if root_out is not None and point.root_out != root_out:
        raise ValueError(f"the checkpoint of {offer.provider} is for other rows than it sent")
    if before is None:
        return
    if before.ended and point.end != before.point.end:
        raise ValueError(f"{offer.provider} has {point.end} rows, the stage before it sent {before.point.end}")
    if point.end == before.point.end and point.upstream != before.point.struct_hash():
        raise ValueError(f"the checkpoint of {offer.provider} is not bound to the last one of the stage before it")
