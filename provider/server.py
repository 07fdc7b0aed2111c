"""The stage's gRPC service: opens sessions, moves rows, closes with a receipt, serves evidence."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import msgspec
import structlog
import torch

from inference.classes import ExecutionClass
from inference.executor import SessionState, StageExecutor
from inference.loader import LoadedStage
from inference.portable import ROWS_OUT, BlockHashes
from protocol import ProtocolError
from protocol.grammar import Grammar
from protocol.receipts import RouteUpdate, SessionOffer
from protocol.rows import TOKEN_DTYPE, prompt_root
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClients, StageUnavailable
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
    Frame,
    Kind,
    OpenReply,
    OpenRequest,
    RelinkRequest,
    RouteStop,
    SessionProgress,
    StageStatus,
    StatusRequest,
    route_hash,
)
from provider import ProviderError, Refused
from provider.backing import Backing
from provider.closing import Closing
from provider.evidence import EvidenceStore, RowLog, SessionFiles
from provider.ledger import Ledger
from provider.planting import Planting
from provider.prefixes import Kept, Prefixes, take_over
from provider.pricing import Pricing
from provider.scheduler import Scheduler
from provider.session import Signer, StageSession
from provider.shipping import Shipping
from provider.showing import Showing
from provider.standby import Shipper, Standby

log = structlog.get_logger()

IDLE_SECONDS = 120
HAND_OVER_SECONDS = 10
"""How long a gateway may take to put others in the place of a stage that leaves, and to close its sessions."""
MAX_SESSIONS = 64
MAX_BULK_SESSIONS = 32
"""Open sessions of any kind, from which on bulk work is refused: the rest is kept for others."""


@dataclass
class StageServer:
    """All sessions of one stage. ``kv_bytes``: what their keys and values may take together."""

    layers: LayerRange
    model_id: bytes
    execution: ExecutionClass
    executor: StageExecutor
    signer: Signer
    evidence: EvidenceStore
    ledger: Ledger
    backing: Backing
    pricing: Pricing
    showing: Showing
    closing: Closing
    planting: Planting
    kv_bytes: int
    model_dir: Path
    load: Callable[[], LoadedStage]
    """Reads the stage's weights again."""
    standby: Standby
    """What other agents ship here."""
    shipper: Shipper | None = None
    """Where sessions are shipped to, if anywhere."""
    hands_over: bool = False
    """Serves prompts, and leaves what follows to the standby."""
    unload_seconds: float = 0.0
    """Idle for so long, it gives their memory back until it is asked again; 0 for never."""
    sessions: dict[bytes, StageSession] = field(default_factory=dict)
    loaded: bool = field(default=True, init=False)
    clients: StageClients = field(default_factory=StageClients, init=False)
    """To the stages behind this one."""
    draining: bool = field(default=False, init=False)
    """Takes no new sessions."""
    leaving: bool = field(default=False, init=False)
    """Takes no rows either."""

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.executor, lambda: len(self.sessions))
        self.kv_row_bytes = self.executor.kv_row_bytes()
        self.prefixes = Prefixes(self.executor.forks)
        self._loading, self._opening, self._used = asyncio.Lock(), 0, time.monotonic()
        self._waking: asyncio.Task[None] | None = None

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Open": grpc.unary_unary_rpc_method_handler(_answering(self.open, OpenRequest)),
                "Status": grpc.unary_unary_rpc_method_handler(_answering(self.status, StatusRequest)),
                "Progress": grpc.unary_unary_rpc_method_handler(_answering(self.progress, AttachRequest)),
                "Relink": grpc.unary_unary_rpc_method_handler(_answering(self.relink, RelinkRequest)),
                "Abort": grpc.unary_unary_rpc_method_handler(_answering(self.abort, AttachRequest)),
                "Close": grpc.unary_unary_rpc_method_handler(_answering(self.close, CloseRequest)),
                "Ship": grpc.unary_unary_rpc_method_handler(self.ship),
                "Batch": grpc.unary_unary_rpc_method_handler(_answering(self.batch, BatchAsk)),
                "Rows": grpc.stream_stream_rpc_method_handler(self.rows),
                "Tokens": grpc.unary_stream_rpc_method_handler(self.tokens),
                "Evidence": grpc.unary_stream_rpc_method_handler(self.serve_evidence),
            },
        )

    async def open(self, request: OpenRequest) -> OpenReply:
        """Check the gateway's order and make room for the session. Raises Refused."""
        self._opening += 1
        try:
            return await self._open(request)
        finally:
            self._opening -= 1
            self._used = time.monotonic()

    async def _open(self, request: OpenRequest) -> OpenReply:
        offer = SessionOffer.from_json(request.offer.message)
        offer.require_signer(self.signer.domain, request.offer.signature_bytes, offer.gateway)
        sampling = SamplingParameters.from_json(request.sampling)
        self._check_offer(offer, request, sampling, await asyncio.to_thread(self.backing.chain.clock))
        kept = self.prefixes.of(offer)
        grammar = await asyncio.to_thread(self._grammar, request, offer, sampling)
        self.evidence.require_room()
        await asyncio.to_thread(self.pricing.require, offer, request.bulk)
        await self.backing.require(offer, request.authorisation)
        await self._require_loaded()
        folder = self.evidence.folder(offer.job_id, offer.epoch, offer.first_layer)
        if not await asyncio.to_thread(self.ledger.begin_session, folder.name):
            self.backing.done(offer)
            raise Refused(f"session {offer.job_id.hex()[:16]} of epoch {offer.epoch} was opened before")
        file_in, file_out, file_rebuilt = self.evidence.create(folder)
        dtype = self.execution.wire_dtype
        log_in = RowLog(offer.salt, offer.first_layer, TOKEN_DTYPE if offer.first_layer == 0 else dtype, file=file_in)
        log_out = RowLog(offer.salt, offer.end_layer, dtype, offer.first_position, file=file_out)
        files = SessionFiles(folder, log_in, log_out, file_rebuilt)
        try:
            cache = await self._begin(kept, files, request, offer)
        except (Refused, FileNotFoundError) as error:
            self.backing.done(offer)
            files.discard()
            raise Refused(f"the beginning cannot be used again: {error}") from error
        session = StageSession(
            request=request,
            offer=offer,
            sampling=sampling,
            execution=self.execution,
            executor=self.executor,
            signer=self.signer,
            files=files,
            cache=cache,
            route=request.route,
            epoch_in=offer.epoch,
            epoch_out=offer.epoch,
            tokens=request.prompt[offer.prompt_tokens :],
            grammar=grammar,
            plant=await asyncio.to_thread(self.planting.choose, offer),
            importing=self.standby.of(offer) if self.executor.forks else None,
        )
        standby = self._ship(session)
        self.sessions[offer.job_id] = session
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, offer.job_id)
        return OpenReply(self.execution.name, standby, self.hands_over and bool(standby))

    def _ship(self, session: StageSession) -> str:
        """Have the session's keys and values go to the standby; which provider that is, empty where they do not: those of a session that began with
        an earlier one's rows, or in somebody's place, are not all its own."""
        offer, executor = session.offer, self.executor
        if self.shipper is None or offer.cached_tokens or offer.first_position or session.plant is not None or not executor.forks:
            return ""
        dtype = self.execution.wire_dtype
        session.shipping = Shipping(executor, BlockHashes(self.model_id, self.layers, dtype), dtype, self.model_id)
        return self.shipper.standby

    async def _require_loaded(self) -> None:
        """Wait until the weights are here. They are loaded to the end also where the gateway does not wait for it: the next job finds them."""
        self._waking = asyncio.create_task(self._wake())
        await asyncio.shield(self._waking)

    async def _wake(self) -> None:
        async with self._loading:
            if self.loaded:
                return
            began = time.monotonic()
            fresh = await asyncio.to_thread(self.load)
            await self.scheduler.alone(lambda: self.executor.reload(fresh))
            self.loaded = True
            log.info("woken", seconds=round(time.monotonic() - began, 2))

    async def unload_idle(self) -> None:
        """Give the weights' memory back where nothing has been open for a while."""
        if not self.unload_seconds or self.sessions or self._opening:
            self._used = time.monotonic()
            return
        async with self._loading:
            if self._opening or not self.loaded or time.monotonic() - self._used < self.unload_seconds:
                return
            self.prefixes.drop(self.prefixes.rows)
            await self.scheduler.alone(self.executor.unload)
            self.loaded = False
            log.info("sleeps until it is asked", idle=self.unload_seconds)

    def _grammar(self, request: OpenRequest, offer: SessionOffer, sampling: SamplingParameters) -> Grammar | None:
        """What the answer has to fit, as far as it is known; None where nothing is asked, or another stage samples. Raises Refused."""
        if not sampling.schema or request.route[-1].provider != offer.provider:
            return None
        try:
            grammar = Grammar.begin(sampling.schema, self.model_dir, self.executor.vocab_size, sampling.stop_tokens)
        except (ValueError, OSError) as error:
            raise Refused(f"answers cannot be held to this schema: {error}") from error
        if not all(map(grammar.accept, request.prompt[offer.prompt_tokens :])):
            raise Refused("the tokens so far do not fit the schema")
        return grammar

    async def _begin(self, kept: Kept | None, files: SessionFiles, request: OpenRequest, offer: SessionOffer) -> SessionState:
        """The KV cache that a session begins with: an empty one, or an earlier session's, whose rows are taken over with it."""
        over = self.kv_reserved + (self.prefixes.rows + offer.most_rows) * self.kv_row_bytes - self.kv_bytes
        if over > 0:
            self.prefixes.drop(-(-over // self.kv_row_bytes))
        if kept is None:
            return self.executor.open_session(offer.most_rows)
        is_last = request.route[-1].provider == offer.provider
        await asyncio.to_thread(take_over, kept, files, offer.cached_tokens, request.prompt, is_last)
        return await self.scheduler.alone(lambda: self.executor.fork(kept.cache, offer.cached_tokens, offer.most_rows))

    def _check_offer(self, offer: SessionOffer, request: OpenRequest, sampling: SamplingParameters, now: int) -> None:
        reserved, needed = self.kv_reserved, offer.most_rows * self.kv_row_bytes
        faults = {
            "this stage is about to end": self.draining,
            f"provider is {offer.provider}, not {self.signer.provider}": offer.provider != self.signer.provider,
            f"layers {offer.layers} are not served here, {self.layers} are": offer.layers != self.layers,
            f"model {offer.model_id.hex()[:16]} is not served here": offer.model_id != self.model_id,
            "the route is not the one that the offer names": offer.route_hash != route_hash(request.route),
            "the sampling parameters are not those that the offer names": offer.sampling_hash != sampling.digest(),
            f"the offer expired at {offer.expires_at}": offer.expires_at <= now,
            f"this model makes vectors, {offer.max_tokens} tokens are ordered": self.executor.encoder is not None and offer.max_tokens > 0,
            "the session is open already": offer.job_id in self.sessions,
            f"the session may need {needed} bytes of KV cache, {reserved} of {self.kv_bytes} are taken": reserved + needed > self.kv_bytes,
            f"{MAX_SESSIONS} sessions are open, which is the limit": len(self.sessions) >= MAX_SESSIONS,
            f"{len(self.sessions)} sessions are open, too many for bulk work": request.bulk and len(self.sessions) >= MAX_BULK_SESSIONS,
            f"{len(request.prompt)} token ids came for {offer.known_tokens} known tokens": bool(request.prompt)
            and len(request.prompt) != offer.known_tokens,
            f"the first position {offer.first_position} lies past the {offer.known_tokens} known tokens": offer.first_position > offer.known_tokens,
            "the prompt's ids do not have the root that the offer names": bool(request.prompt)
            and offer.prompt_root != prompt_root(offer.salt, request.prompt),
        }
        for words, wrong in faults.items():
            if wrong:
                raise Refused(words)

    async def rows(self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Take rows from the stage before (or token ids from the gateway), run them, send them on; answer with countersignatures.

        A stream that breaks does not end its session: the gateway may put another stage in the sender's place.
        """
        session: StageSession | None = None
        epoch = -1
        try:
            attach = Frame.decode(await anext(frames))
            session, epoch = self._session_of(attach.session), attach.epoch
            session.attach(attach)
            self._link(session)
            async for raw in frames:
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
        except (ProtocolError, ProviderError, ValueError, RuntimeError) as error:  # torch raises RuntimeError, out of memory included
            log.warning("stream refused", job=session and session.offer.job_id.hex()[:16], reason=str(error))
            if session is not None and epoch == session.epoch_in and not self.leaving:
                session.fault, session.refused = str(error), not isinstance(error, RuntimeError)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def _step(self, session: StageSession, frame: Frame, checkpoint: Frame | None) -> bytes | None:
        """Take a frame's rows, compare the sender's checkpoint with them, run them and queue what comes out; the countersignature."""
        async with session.stepping:
            if session.closed:
                raise Refused("the session is closed")
            if self.leaving:
                raise Refused("this stage is about to end")
            rows = session.receive(frame)
            if rows is None:
                return None
            word = None if checkpoint is None else self._countersign(session, checkpoint)
            rows = await self._import(session, rows)
            if not len(rows):
                return word
            computed = await self.scheduler.run(session.cache, rows, session.finish, session.request.bulk)
            if self.shipper is not None and session.shipping is not None:
                for blocks in session.shipping.take():
                    self.shipper.put(session.offer.job_id, blocks)
            before = session.checkpoint
            session.emit(computed)
            if session.is_last and session.checkpoint is not before:
                await asyncio.to_thread(session.files.save, session.meta())
            return word

    async def _import(self, session: StageSession, rows: torch.Tensor) -> torch.Tensor:
        """Use keys and values that were shipped here, for as many of the rows as they are of; the rows that are left to run."""
        at, importing = session.cache.position, session.importing
        if importing is None:
            return rows
        if at >= importing.until:
            session.importing = None  # its memory is free
            return rows
        count = min(importing.ready(at), len(rows))
        if not count:
            return rows
        states = importing.rows(at, count)
        await self.scheduler.alone(lambda: self.executor.extend(session.cache, states, count))
        session.rebuild(states[ROWS_OUT])
        log.info("goes on from shipped keys and values", job=session.offer.job_id.hex()[:16], rows=f"{at}-{at + count}")
        return rows[count:]

    async def ship(self, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Keep the keys and values of another agent's session, to stand in for it."""
        try:
            await self.standby.take(raw)
        except (ProtocolError, ProviderError, ValueError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return b""

    def _countersign(self, session: StageSession, frame: Frame) -> bytes:
        before = session.before
        if before is None:
            raise Refused("the first stage takes no checkpoints")
        word = session.check_upstream(msgspec.json.decode(frame.payload, type=Signed), before.operator)
        return Frame(Kind.COUNTERSIGN, frame.session, msgspec.json.encode(word), epoch=frame.epoch, step=frame.step).encode()

    def _link(self, session: StageSession, anew: bool = False) -> None:
        """Start the link to the next stage. It outlives the stream from the stage before, whose end must not keep our last checkpoint back."""
        if session.is_last or (session.link is not None and not anew):
            return
        if session.link is not None:
            session.link.cancel()
        session.link = asyncio.create_task(self._send_on(session))

    async def _send_on(self, session: StageSession) -> None:
        """Stream the session's frames to the next stage and take its countersignatures; what breaks it is kept as the session's fault."""
        stop, out = session.after, session.out
        assert stop is not None
        try:
            client = await self.clients.to(stop)
            await self._stream_on(session, stop, out, client.rows())
        except (ProtocolError, ProviderError, ValueError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            if isinstance(error, (StageUnavailable, grpc.aio.AioRpcError)):
                self.clients.forget(stop)
            words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            session.fault = f"link to {stop.provider}: {words}"
            log.warning("link broken", job=session.offer.job_id.hex()[:16], reason=session.fault)

    async def _stream_on(self, session: StageSession, stop: RouteStop, out: "asyncio.Queue[Frame | None]", stream: Any) -> None:
        attach = Frame(Kind.ATTACH, session.offer.job_id, epoch=session.epoch_out, position=session.offer.first_position)
        await stream.write(attach.encode())
        reader = asyncio.create_task(self._take_words(session, stream, stop.operator))
        try:
            while (frame := await _next_or_end(out, reader)) is not None:
                await stream.write(frame.encode())
        finally:
            reader.cancel()
            stream.cancel()

    async def _take_words(self, session: StageSession, stream: Any, operator: str) -> None:
        async for raw in stream:
            signed = msgspec.json.decode(Frame.decode(raw).payload, type=Signed)
            if session.accept_countersignature(signed, operator):
                await self._save(session)
        raise StageUnavailable("the next stage ended the stream")

    async def _save(self, session: StageSession) -> None:
        """From now on a restart can still claim what the newest checkpoint covers."""
        async with session.stepping:
            if not session.closed:
                await asyncio.to_thread(session.files.save, session.meta())

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, let those that are open go on for so long, then have gateways put others in this stage's place.

        Whoever is replaced so is closed and paid at once; the rows stay on disk.
        """
        self.draining = True
        await self._emptied(seconds)
        self.leaving = True
        await self._emptied(HAND_OVER_SECONDS)

    async def _emptied(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.sessions and time.monotonic() < end:
            await asyncio.sleep(0.05)

    @property
    def kv_reserved(self) -> int:
        """Bytes that the keys and values of all open sessions may come to."""
        return sum(session.offer.most_rows for session in self.sessions.values()) * self.kv_row_bytes

    async def status(self, _: StatusRequest) -> StageStatus:
        """How busy this stage is, for anybody."""
        return StageStatus(len(self.sessions), self.kv_reserved, self.kv_bytes, self.pricing.bulk_percent)

    async def progress(self, request: AttachRequest) -> SessionProgress:
        """How far a session is, be it open or cut off by a restart. Raises Refused."""
        session = self.sessions.get(bytes.fromhex(request.job_id))
        if session is not None and session.offer.epoch == request.epoch:
            return SessionProgress(session.position, session.files.rows_out.count, session.fault, session.refused, self.leaving)
        meta = self.closing.cut_off(request.job_id, request.epoch)
        return SessionProgress(meta.rows_in, meta.rows_out, "cut off by a restart")

    async def relink(self, request: RelinkRequest) -> SessionProgress:
        """Take over a neighbour's replacement: fence the old one, and send the next one all rows so far. Raises Refused."""
        session = self._session(bytes.fromhex(request.job_id), request.epoch)
        update = RouteUpdate.from_json(request.update.message)
        update.require_signer(self.signer.domain, request.update.signature_bytes, session.offer.gateway)
        if update.job_id != session.offer.job_id or update.route_hash != route_hash(request.route):
            raise Refused("the route update is for another job or route")
        if update.epoch <= max(session.epoch_in, session.epoch_out):
            raise Refused(f"epoch {update.epoch} is not above {max(session.epoch_in, session.epoch_out)}")
        async with session.stepping:
            if session.relink(request, update.epoch):
                self._link(session, anew=True)
            return SessionProgress(session.position, session.files.rows_out.count)

    async def tokens(self, raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """The last stage's tokens and checkpoints, for the gateway."""
        ask = msgspec.json.decode(raw, type=AttachRequest)
        try:
            session = self._session(bytes.fromhex(ask.job_id), ask.epoch)
        except Refused as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        while (frame := await session.out.get()) is not None:
            yield frame.encode()

    async def abort(self, request: AttachRequest) -> AttachRequest:
        """Drop a session before its first token; its rows go with it."""
        session = self._session(bytes.fromhex(request.job_id), request.epoch)
        async with session.stepping:
            self._forget(session)
        await asyncio.to_thread(session.files.discard)
        return request

    async def close(self, request: CloseRequest) -> CloseReply:
        """Check the voucher, sign the receipt and answer once both are on disk; asked again, give the same answer. Raises Refused."""
        session = self.sessions.get(bytes.fromhex(request.job_id))
        if session is not None and session.offer.epoch == request.epoch:
            async with session.stepping:
                if not session.closed:
                    reply = await self.closing.close(session, request)
                    self._forget(session)
                    await asyncio.to_thread(session.files.close)
                    await self._keep(session)
                    return reply
        return await self.closing.close_cut_off(request)

    async def _keep(self, session: StageSession) -> None:
        """Keep what a closed session began with, for later ones. Its receipt is signed, and has to be given out whatever becomes of this."""
        if not self.prefixes.wants(session):
            return
        rows = session.cache.position
        try:
            self.prefixes.keep(session, await self.scheduler.alone(lambda: self.executor.fork(session.cache, rows, rows, apart=True)))
        except Exception:  # out of memory, for one
            log.exception("the session's beginning is not kept", job=session.offer.job_id.hex()[:16])

    async def batch(self, request: BatchAsk) -> BatchReply:
        """An anchored batch's receipts. Raises Refused."""
        covers = self.ledger.batch_range(request.batch_id)
        if covers is None:
            raise Refused(f"batch {request.batch_id} is not anchored here")
        entries = await asyncio.to_thread(self.ledger.receipts, *covers)
        return BatchReply([entry.signed for entry in entries], [entry.checkpoint.message for entry in entries])

    async def serve_evidence(self, raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """A receipt's rows in or out, or those of a neighbour's, for whoever may have them."""
        try:
            ask = msgspec.json.decode(raw, type=EvidenceAsk)
            shown = await asyncio.to_thread(self.showing.show, ask)
        except (ProtocolError, ProviderError, ValueError) as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        yield shown.head
        for chunk in shown.chunks(ask.offset):
            yield chunk

    def _session(self, job_id: bytes, epoch: int) -> StageSession:
        session = self._session_of(job_id)
        if session.offer.epoch != epoch:
            raise Refused(f"no session {job_id.hex()[:16]} of epoch {epoch} is open here")
        return session

    def _session_of(self, job_id: bytes) -> StageSession:
        session = self.sessions.get(job_id)
        if session is None:
            raise Refused(f"no session {job_id.hex()[:16]} is open here")
        return session

    def _forget(self, session: StageSession) -> None:
        session.closed = True
        if self.shipper is not None:
            self.shipper.done(session.offer.job_id)
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
        if session.files.saved:
            session.files.close()  # the gateway may still claim its receipt up to the newest checkpoint
        else:
            session.files.discard()


async def _next_or_end(out: "asyncio.Queue[Frame | None]", reader: "asyncio.Task[None]") -> Frame | None:
    """The next frame to send, None at the session's end; raises what ended ``reader``, should that come first."""
    getting = asyncio.ensure_future(out.get())
    try:
        await asyncio.wait({getting, reader}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            reader.result()
        return await getting
    finally:
        getting.cancel()


def _answering(method: Callable[[Any], Awaitable[msgspec.Struct]], kind: type) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    """Decode, answer, encode; our errors become a status with their words."""

    async def answer(raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return msgspec.json.encode(await method(msgspec.json.decode(raw, type=kind)))
        except (ProtocolError, ProviderError, ValueError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise

    return answer
