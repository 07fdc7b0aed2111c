"""The stage's gRPC service: opens sessions, moves rows, closes with a receipt, serves evidence."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgspec
import structlog

from inference.classes import ExecutionClass
from inference.executor import StageExecutor
from protocol import ProtocolError
from protocol.receipts import SessionOffer, StageReceipt, Voucher, job_cost
from protocol.rows import TOKEN_DTYPE, prompt_root
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClient
from protocol.typed import Signed
from protocol.units import LayerRange
from protocol.wire import (
    CHECKPOINT_FOLLOWS,
    SERVICE,
    AttachRequest,
    BatchAsk,
    BatchReply,
    CloseReply,
    CloseRequest,
    EvidenceAsk,
    EvidenceHead,
    Frame,
    Kind,
    OpenReply,
    OpenRequest,
    RouteStop,
    route_hash,
)
from provider import ProviderError, Refused
from provider.access import EvidenceAccess
from provider.backing import Backing
from provider.evidence import EvidenceMeta, EvidenceStore, RowLog
from provider.ledger import Ledger
from provider.session import Signer, StageSession

log = structlog.get_logger()

IDLE_SECONDS = 120
COUNTERSIGN_SECONDS = 3
MAX_SESSIONS = 64


@dataclass
class StageServer:
    """All sessions of one stage. Compute runs on one thread, so that steps of different sessions queue and never overlap."""

    layers: LayerRange
    model_id: bytes
    execution: ExecutionClass
    executor: StageExecutor
    signer: Signer
    evidence: EvidenceStore
    ledger: Ledger
    backing: Backing
    access: EvidenceAccess
    sessions: dict[bytes, StageSession] = field(default_factory=dict)
    compute: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "compute"))
    _closing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Open": grpc.unary_unary_rpc_method_handler(_answering(self.open, OpenRequest)),
                "Abort": grpc.unary_unary_rpc_method_handler(_answering(self.abort, AttachRequest)),
                "Close": grpc.unary_unary_rpc_method_handler(_answering(self.close, CloseRequest)),
                "Batch": grpc.unary_unary_rpc_method_handler(_answering(self.batch, BatchAsk)),
                "Rows": grpc.stream_stream_rpc_method_handler(self.rows),
                "Tokens": grpc.unary_stream_rpc_method_handler(self.tokens),
                "Evidence": grpc.unary_stream_rpc_method_handler(self.serve_evidence),
            },
        )

    async def open(self, request: OpenRequest) -> OpenReply:
        """Check the gateway's order and make room for the session. Raises Refused."""
        offer = SessionOffer.from_json(request.offer.message)
        offer.require_signer(self.signer.domain, request.offer.signature_bytes, offer.gateway)
        sampling = SamplingParameters.from_json(request.sampling)
        self._check_offer(offer, request, sampling)
        await self.backing.require(offer)
        folder = self.evidence.folder(offer.job_id, offer.epoch, offer.first_layer)
        try:
            file_in, file_out = self.evidence.create(folder)
        except FileExistsError:
            raise Refused(f"session {offer.job_id.hex()[:16]} of epoch {offer.epoch} was opened before") from None
        dtype = self.execution.wire_dtype
        log_in = RowLog(file_in, offer.salt, offer.first_layer, TOKEN_DTYPE if offer.first_layer == 0 else dtype)
        log_out = RowLog(file_out, offer.salt, offer.end_layer, dtype)
        session = StageSession(
            request, offer, sampling, self.execution, self.executor, self.signer, folder, log_in, log_out, self.executor.open_session()
        )
        self.sessions[offer.job_id] = session
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, offer.job_id)
        return OpenReply(self.execution.name)

    def _check_offer(self, offer: SessionOffer, request: OpenRequest, sampling: SamplingParameters) -> None:
        faults = {
            f"provider is {offer.provider}, not {self.signer.provider}": offer.provider != self.signer.provider,
            f"layers {offer.layers} are not served here, {self.layers} are": offer.layers != self.layers,
            f"model {offer.model_id.hex()[:16]} is not served here": offer.model_id != self.model_id,
            "the route is not the one that the offer names": offer.route_hash != route_hash(request.route),
            "the sampling parameters are not those that the offer names": offer.sampling_hash != sampling.digest(),
            f"the offer expired at {offer.expires_at}": offer.expires_at <= self.backing.chain_time(),
            "the session is open already": offer.job_id in self.sessions,
            f"{MAX_SESSIONS} sessions are open, which is the limit": len(self.sessions) >= MAX_SESSIONS,
            "the prompt's ids do not have the root that the offer names": bool(request.prompt)
            and offer.prompt_root != prompt_root(offer.salt, request.prompt),
        }
        for words, wrong in faults.items():
            if wrong:
                raise Refused(words)

    async def rows(self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Take rows from the stage before (or token ids from the gateway), run them, send them on; answer with countersignatures."""
        session: StageSession | None = None
        link: asyncio.Task[None] | None = None
        try:
            attach = Frame.decode(await anext(frames))
            session = self._session(attach.session, attach.epoch)
            if not session.is_last:
                # The link outlives this stream: the stage before may close first, and our last checkpoint still has to go on.
                link = session.link = asyncio.create_task(self._send_on(session))
            while (raw := await _next_frame(frames, link)) is not None:
                frame = Frame.decode(raw)
                if frame.kind is Kind.CHECKPOINT:
                    yield self._countersign(session, frame)
                    continue
                checkpoint = Frame.decode(await anext(frames)) if frame.flags & CHECKPOINT_FOLLOWS else None
                # A step that has begun is finished even if the stream breaks off: rows in without their rows out would convict this stage.
                word = await asyncio.shield(asyncio.create_task(self._step(session, frame, checkpoint)))
                if word is not None:
                    yield word
        except (StopAsyncIteration, asyncio.CancelledError):
            return
        except (ProtocolError, ProviderError, ValueError, grpc.aio.AioRpcError) as error:
            words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            log.warning("session failed", job=session and session.offer.job_id.hex()[:16], reason=words)
            if session is not None:
                session.out.put_nowait(None)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, words or "the next stage failed")

    async def _step(self, session: StageSession, frame: Frame, checkpoint: Frame | None) -> bytes | None:
        """Take a frame's rows, compare the sender's checkpoint with them, run them and queue what comes out; the countersignature."""
        async with session.stepping:
            if session.closed:
                raise Refused("the session is closed")
            rows = session.receive(frame)
            if rows is None:
                return None
            word = None if checkpoint is None else self._countersign(session, checkpoint)
            payloads, token = await asyncio.get_running_loop().run_in_executor(self.compute, session.compute, rows)
            session.emit(payloads, token)
            return word

    def _countersign(self, session: StageSession, frame: Frame) -> bytes:
        before = session.request.route[self._index(session) - 1]
        signed = msgspec.json.decode(frame.payload, type=Signed)
        word = session.check_upstream(signed, before.operator)
        return Frame(Kind.COUNTERSIGN, frame.session, msgspec.json.encode(word), epoch=frame.epoch, step=frame.step).encode()

    async def _send_on(self, session: StageSession) -> None:
        """Stream the session's frames to the next stage and take its countersignatures."""
        stop: RouteStop = session.request.route[self._index(session) + 1]
        client = await StageClient.connect(stop.endpoint, bytes.fromhex(stop.tls_cert_hash.removeprefix("0x")))
        stream = client.rows()
        reader: asyncio.Task[None] | None = None
        try:
            await stream.write(Frame(Kind.ATTACH, session.offer.job_id, epoch=session.offer.epoch).encode())
            reader = asyncio.create_task(self._take_words(session, stream, stop.operator))
            while (frame := await session.out.get()) is not None:
                await stream.write(frame.encode())
                if reader.done():
                    reader.result()
        finally:
            if reader is not None:
                reader.cancel()
            stream.cancel()
            await client.close()

    async def _take_words(self, session: StageSession, stream: Any, operator: str) -> None:
        async for raw in stream:
            session.accept_countersignature(msgspec.json.decode(Frame.decode(raw).payload, type=Signed), operator)

    async def tokens(self, raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """The last stage's tokens and checkpoints, for the gateway."""
        ask = msgspec.json.decode(raw, type=AttachRequest)
        try:
            session = self._session(bytes.fromhex(ask.job_id), ask.epoch)
        except Refused as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        while (frame := await session.out.get()) is not None:
            yield frame.encode()
        if not session.closed:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the session failed at the last stage")

    async def abort(self, request: AttachRequest) -> AttachRequest:
        """Drop a session before its first token; its rows go with it."""
        session = self._session(bytes.fromhex(request.job_id), request.epoch)
        async with session.stepping:
            self._forget(session)
        await asyncio.to_thread(session.discard)
        return request

    async def close(self, request: CloseRequest) -> CloseReply:
        """Check the voucher, sign the receipt and answer once both are on disk. Raises Refused."""
        session = self._session(bytes.fromhex(request.job_id), request.epoch)
        async with session.stepping:
            return await self._close(session, request)

    async def _close(self, session: StageSession, request: CloseRequest) -> CloseReply:
        offer, rows = session.offer, session.position
        if rows != session.log_out.tree.count:
            raise Refused(
                f"a step broke off here: {rows} rows came in, {session.log_out.tree.count} went out; nothing will be signed for this session"
            )
        fed_back = rows - offer.prompt_tokens
        if not fed_back <= request.completion_tokens <= fed_back + 1 or rows == 0:
            raise Refused(f"{request.completion_tokens} completion tokens do not fit {rows} rows for {offer.prompt_tokens} prompt tokens")
        amount = job_cost(offer.prompt_tokens, 0, request.completion_tokens, offer.input_price, offer.cached_price, offer.output_price)
        voucher = Voucher.from_json(request.voucher.message)
        checkpoint = session.make_checkpoint()
        if not session.is_last:
            try:
                await asyncio.wait_for(session.countersigned.wait(), COUNTERSIGN_SECONDS)
            except TimeoutError:
                log.warning("no countersignature", job=request.job_id[:16])
        async with self._closing:
            self.backing.check_voucher(voucher, request.voucher, offer, amount)
            receipt = self._receipt(session, checkpoint, request.completion_tokens, amount)
            signed = Signed.of(receipt, receipt.sign(self.signer.domain, self.signer.key))
            await asyncio.to_thread(self._store, session, receipt, signed, voucher, request.voucher)
        self._forget(session)
        return CloseReply(signed, checkpoint, session.countersignature)

    def _receipt(self, session: StageSession, checkpoint: Signed, completion: int, amount: int) -> StageReceipt:
        offer = session.offer
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
            first_position=0,
            position_count=session.log_out.tree.count,
            cached_count=0,
            checkpoint=session.previous,
            prompt_tokens=offer.prompt_tokens,
            completion_tokens=completion,
            input_price=offer.input_price,
            cached_price=offer.cached_price,
            output_price=offer.output_price,
            amount=amount,
        )

    def _store(self, session: StageSession, receipt: StageReceipt, signed: Signed, voucher: Voucher, signed_voucher: Signed) -> None:
        assert session.checkpoint is not None
        session.flush()
        rows = (session.log_in.tree.count, session.log_out.tree.count)
        self.evidence.finish(session.folder, EvidenceMeta(session.request, session.checkpoint, session.countersignature, *rows))
        self.ledger.add_receipt(receipt, signed, session.folder.name, voucher, signed_voucher)

    async def batch(self, request: BatchAsk) -> BatchReply:
        """An anchored batch's receipts. Raises Refused."""
        covers = self.ledger.batch_range(request.batch_id)
        if covers is None:
            raise Refused(f"batch {request.batch_id} is not anchored here")
        return BatchReply([entry.signed for entry in self.ledger.receipts(*covers)])

    async def serve_evidence(self, raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """A receipt's rows in or out, for whoever may have them."""
        try:
            ask = msgspec.json.decode(raw, type=EvidenceAsk)
            stored, part = await asyncio.to_thread(self.access.grant, ask)
            folder = self.evidence.root / stored.folder
            meta = self.evidence.meta(folder)
        except (ProtocolError, ProviderError, ValueError, FileNotFoundError) as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        name, count = ("out.rows", meta.rows_out) if part else ("in.rows", meta.rows_in)
        proof = ["0x" + sibling.hex() for sibling in self.access.proof(stored)]
        width = (folder / name).stat().st_size // count
        request = meta.open_request
        yield msgspec.json.encode(
            EvidenceHead(stored.signed, meta.checkpoint, request.offer, request.sampling, request.prompt, stored.batch_id or 0, proof, width, count)
        )
        for chunk in self.evidence.chunks(folder, name):
            yield chunk

    def _session(self, job_id: bytes, epoch: int) -> StageSession:
        session = self.sessions.get(job_id)
        if session is None or session.offer.epoch != epoch:
            raise Refused(f"no session {job_id.hex()[:16]} of epoch {epoch} is open here")
        return session

    def _index(self, session: StageSession) -> int:
        return next(i for i, stop in enumerate(session.request.route) if stop.provider == session.offer.provider)

    def _forget(self, session: StageSession) -> None:
        session.closed = True
        self.sessions.pop(session.offer.job_id, None)
        self.backing.done(session.offer)
        # The queue's end closes the link to the next stage; that stage has its own close.
        session.out.put_nowait(None)

    def _expire(self, job_id: bytes) -> None:
        session = self.sessions.get(job_id)
        if session is None:
            return
        idle = time.monotonic() - session.touched
        if idle < IDLE_SECONDS:
            asyncio.get_running_loop().call_later(IDLE_SECONDS - idle, self._expire, job_id)
            return
        log.warning("session expired", job=job_id.hex()[:16], rows=session.position)
        self._forget(session)
        session.discard()


async def _next_frame(frames: AsyncIterator[bytes], link: "asyncio.Task[None] | None") -> bytes | None:
    """The next frame, None at the stream's end; raises what broke the link to the next stage, should that come first."""
    reading = asyncio.ensure_future(anext(frames, None))
    try:
        await asyncio.wait({reading, link} if link else {reading}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done() and link is not None:
            link.result()
        return await reading
    finally:
        reading.cancel()


def _answering(method: Callable[[Any], Awaitable[msgspec.Struct]], kind: type) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    """Decode, answer, encode; our errors become a status with their words."""

    async def answer(raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return msgspec.json.encode(await method(msgspec.json.decode(raw, type=kind)))
        except (ProtocolError, ProviderError, ValueError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise

    return answer
