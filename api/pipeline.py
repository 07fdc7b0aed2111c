"""Drive one job through its stages: open, feed token ids to the first, take tokens from the last, close with vouchers for receipts."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgspec
import structlog
from eth_account.signers.local import LocalAccount

from api.budget import Budget, Charge
from api.routing import StageOffer
from protocol import BadSignature, ProtocolError
from protocol.chain import Chain
from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, Voucher
from protocol.rows import prompt_root, token_payload
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.typed import Signed
from protocol.wire import AttachRequest, CloseReply, CloseRequest, Frame, Kind, OpenReply, OpenRequest, route_hash

log = structlog.get_logger()

FIRST_TOKEN_SECONDS = 60
STEP_SECONDS = 20
OFFER_SECONDS = 600


class StageFailed(ProtocolError):
    """A stage broke off; ``provider`` names the one that the gateway saw fail. One that ``refused`` is alive and may serve another job."""

    def __init__(self, provider: str, reason: str, refused: bool = False) -> None:
        self.provider = provider
        self.refused = refused
        super().__init__(f"stage {provider} failed: {reason}")


@dataclass(frozen=True)
class JobSpec:
    """What is to be generated, for whom."""

    job_id: bytes
    payer: str
    model_id: bytes
    prompt: list[int]
    max_tokens: int
    sampling: SamplingParameters


@dataclass
class Pipeline:
    """One job's open sessions. Use: ``open``, iterate ``tokens``, then ``close`` whatever happened."""

    chain: Chain
    account: LocalAccount
    budget: Budget
    spec: JobSpec
    route: list[StageOffer]
    clients: list[StageClient] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    _rows: Any = None
    _frames: AsyncIterator[bytes] | None = None
    _broken: "asyncio.Future[Any] | None" = None
    _fed: int = 0

    async def open(self) -> None:
        """Open a session at every stage. Raises StageFailed naming the provider that would not."""
        salt = secrets.token_bytes(32)
        stops = [offer.stop for offer in self.route]
        shared = {
            "job_id": self.spec.job_id,
            "payer": self.spec.payer,
            "gateway": self.account.address,
            "model_id": self.spec.model_id,
            "epoch": 0,
            "prompt_tokens": len(self.spec.prompt),
            "max_tokens": self.spec.max_tokens,
            "prompt_root": prompt_root(salt, self.spec.prompt),
            "sampling_hash": self.spec.sampling.digest(),
            "route_hash": route_hash(stops),
            "salt": salt,
            "expires_at": await asyncio.to_thread(self.chain.now) + OFFER_SECONDS,
        }
        domain = self.chain.receipts_domain
        sampling = msgspec.to_builtins(self.spec.sampling, str_keys=True)
        for index, stage in enumerate(self.route):
            stop = stage.stop
            offer = SessionOffer(
                provider=stop.provider,
                first_layer=stop.first_layer,
                end_layer=stop.end_layer,
                execution_class=stage.execution_class,
                input_price=stage.input_price,
                cached_price=stage.cached_price,
                output_price=stage.output_price,
                **shared,  # type: ignore[arg-type]
            )
            # Only the ends of the pipeline see the prompt's ids; those between see hidden states alone.
            prompt = self.spec.prompt if index in (0, len(self.route) - 1) else []
            request = OpenRequest(Signed.of(offer, offer.sign(domain, bytes(self.account.key))), stops, sampling, prompt)
            try:
                client = await StageClient.connect(stop.endpoint, bytes.fromhex(stop.tls_cert_hash.removeprefix("0x")))
                self.clients.append(client)
                await client.call("Open", request, OpenReply)
            except (StageUnavailable, StageRefused) as error:
                raise StageFailed(stop.provider, str(error), isinstance(error, StageRefused)) from error
        self._rows = self.clients[0].rows()
        self._frames = self.clients[-1].stream("Tokens", AttachRequest(self.spec.job_id.hex(), 0))
        await self._write(Frame(Kind.ATTACH, self.spec.job_id))

    async def tokens(self, stop: Callable[[int], bool]) -> AsyncIterator[int]:
        """Generate until ``stop`` says so of a token, or the limit is reached. Raises StageFailed."""
        feed = self.spec.prompt
        while True:
            await self._feed(feed)
            token = await self._next_token(FIRST_TOKEN_SECONDS if not self.received else STEP_SECONDS)
            self.received.append(token)
            yield token
            if len(self.received) >= self.spec.max_tokens or stop(token):
                return
            feed = [token]

    async def _feed(self, tokens: list[int]) -> None:
        payload = b"".join(map(token_payload, tokens))
        step = 0 if self._fed == 0 else self._fed - len(self.spec.prompt) + 1
        await self._write(Frame(Kind.ROWS, self.spec.job_id, payload, step=step, position=self._fed, rows=len(tokens)))
        self._fed += len(tokens)

    async def _write(self, frame: Frame) -> None:
        try:
            await self._rows.write(frame.encode())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._first_stage_failure() from error

    async def _next_token(self, timeout: float) -> int:
        assert self._frames is not None
        token = asyncio.ensure_future(self._take_token(self._frames))
        if self._broken is None:
            # The first stage has nothing to say to a gateway: a read that ends means that it broke off. One read serves all steps, since
            # cancelling a read cancels the call.
            self._broken = asyncio.ensure_future(self._rows.read())
        try:
            await asyncio.wait({token, self._broken}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if token.done():
                return token.result()
            if self._broken.done():
                raise await self._first_stage_failure()
            raise StageFailed(self.route[-1].stop.provider, f"no token came within {timeout:.0f} s")
        finally:
            token.cancel()

    async def _take_token(self, frames: AsyncIterator[bytes]) -> int:
        last = self.route[-1].stop
        try:
            async for raw in frames:
                frame = Frame.decode(raw)
                if frame.kind is Kind.TOKEN:
                    return int.from_bytes(frame.payload, "little", signed=True)
                if frame.kind is Kind.CHECKPOINT:
                    signed = msgspec.json.decode(frame.payload, type=Signed)
                    point = Checkpoint.from_json(signed.message)
                    point.require_signer(self.chain.receipts_domain, signed.signature_bytes, last.operator)
        except (StageUnavailable, StageRefused, BadSignature) as error:
            raise StageFailed(last.provider, str(error)) from error
        raise StageFailed(last.provider, "the token stream ended")

    async def _first_stage_failure(self) -> StageFailed:
        details = await self._rows.details()
        return StageFailed(self.route[0].stop.provider, details or "the stream broke off")

    async def close(self) -> list[tuple[StageReceipt, CloseReply]]:
        """Sign each stage its voucher and take its receipt, from the first stage on; stages that no longer answer are left out.

        A job without a token is aborted: nobody is owed anything.
        """
        receipts = []
        try:
            for client, stage in zip(self.clients, self.route, strict=False):
                try:
                    if not self.received:
                        await client.call("Abort", AttachRequest(self.spec.job_id.hex(), 0), AttachRequest)
                        continue
                    receipts.append(await self._close_stage(client, stage))
                except (StageUnavailable, StageRefused, BadSignature, ValueError) as error:
                    log.warning("no receipt", provider=stage.stop.provider, job=self.spec.job_id.hex()[:16], reason=str(error))
        finally:
            if self._broken is not None:
                self._broken.cancel()
            if self._rows is not None:
                self._rows.cancel()
            for client in self.clients:
                await client.close()
        return receipts

    async def _close_stage(self, client: StageClient, stage: StageOffer) -> tuple[StageReceipt, CloseReply]:
        amount = stage.cost(len(self.spec.prompt), len(self.received))
        provider = stage.stop.provider
        charge = Charge(provider, self.spec.model_id, amount)
        cumulative = await self.budget.issue(self.spec.payer, charge)
        voucher = Voucher(self.spec.payer, self.account.address, provider, self.spec.model_id, cumulative)
        signed = Signed.of(voucher, voucher.sign(self.chain.settlement_domain, bytes(self.account.key)))
        request = CloseRequest(self.spec.job_id.hex(), 0, len(self.received), signed)
        try:
            reply = await client.call("Close", request, CloseReply)
        except StageRefused:
            await self.budget.retract(self.spec.payer, charge)
            raise
        receipt = StageReceipt.from_json(reply.receipt.message)
        receipt.require_signer(self.chain.receipts_domain, reply.receipt.signature_bytes, stage.stop.operator)
        told = (receipt.job_id, receipt.provider, receipt.amount, receipt.completion_tokens)
        if told != (self.spec.job_id, provider, amount, len(self.received)):
            raise ValueError(f"the receipt of {provider} says {told}, which is not what was ordered")
        return receipt, reply
