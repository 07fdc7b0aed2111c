"""Drive one job through its stages: open, feed token ids to the first, take tokens from the last, replace what breaks, close for receipts.

A stage that breaks off in mid-stream is replaced under a new epoch: the stage behind it is fenced and says how many rows it has, the replacement
is opened to send from there on, and the stage before it replays its rows, from which the replacement rebuilds its KV cache. At the ends of the
pipeline this gateway replays the token ids, or passes them for the sampling to go on. Design section 6.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import grpc
import msgspec
import structlog

from api import ApiError
from api.budget import Budget, LegKey
from api.legs import HEARTBEAT_SECONDS, Before, Leg, LegCloser
from api.prefixes import NOTHING, Prefix
from api.routing import DEFAULT_WISH, Router, StageOffer, Wish
from api.signing import Signer
from protocol import BadSignature, ProtocolError, Unavailable
from protocol.chain import Chain
from protocol.grammar import Grammar
from protocol.receipts import Checkpoint, RouteUpdate, SessionOffer
from protocol.rows import FRAME_ROWS, TOKEN_BYTES, prompt_root, token_payload
from protocol.sampling import SamplingParameters, TokenLogprobs
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.typed import ZERO32, Signed
from protocol.units import LayerRange
from protocol.wire import (
    NO_LOGPROBS,
    AttachRequest,
    CloseReply,
    Frame,
    Kind,
    OpenReply,
    OpenRequest,
    RelinkRequest,
    RouteStop,
    SessionProgress,
    route_hash,
)

log = structlog.get_logger()

OPEN_SECONDS = 8
DIED_SECONDS = 1
"""A stage that does not answer for longer is asked once only."""
FIRST_TOKEN_SECONDS = 60
STEP_SECONDS = 20
OFFER_SECONDS = 600
PATIENCE_SECONDS, PATIENCE_STEPS = 0.25, 1.5
"""Without a token for so long, or for so many usual steps where these take longer, the stages are asked whether they are alive; at once where the
connection to one breaks off."""
MAX_REPLACEMENTS = 4


Sampled = tuple[int, TokenLogprobs | None]
"""A token and, where they were asked for, its probabilities."""


class StageFailed(ProtocolError):
    """A stage broke off; ``provider`` names the one that the gateway saw fail. One that ``refused`` is alive and may serve another job; ``beside``
    names the stage before it where it refused what that one sent: nobody can say which of the ``suspects`` lies."""

    def __init__(self, provider: str, reason: str, refused: bool = False, beside: str = "") -> None:
        self.provider = provider
        self.refused = refused
        self.suspects = {provider, beside} - {""}
        super().__init__(f"stage {provider} failed: {reason}")


@dataclass(frozen=True)
class JobSpec:
    """What is to be generated, for whom."""

    job_id: bytes
    payer: str
    model_id: bytes
    layers: LayerRange
    prompt: list[int]
    max_tokens: int
    sampling: SamplingParameters
    logprobs: int = NO_LOGPROBS
    prefix: Prefix = NOTHING
    """The rows of an earlier job that the stages still have."""
    wish: Wish = DEFAULT_WISH
    grammar: Grammar | None = None
    """What the answer has to fit, as far as its tokens have come."""
    authorisation: Signed | None = None
    """What the payer has signed for, where it signs its requests."""

    @property
    def name(self) -> str:
        return "0x" + self.job_id.hex()


@dataclass
class Pipeline:
    """One job's open sessions. Use: ``open``, iterate ``tokens``, then ``close`` whatever happened."""

    chain: Chain
    account: Signer
    budget: Budget
    router: Router
    spec: JobSpec
    legs: list[Leg] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    """Of each token received, where they were asked for."""
    replaced: list[str] = field(default_factory=list)
    """Providers that broke off and were replaced."""
    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _epoch: int = 0
    _class: bytes = ZERO32
    _expires_at: int = 0
    _rows: Any = None
    _rows_epoch: int = 0
    _frames: AsyncGenerator[bytes, None] | None = None
    _token: "asyncio.Task[Sampled] | None" = None
    _usual: float = 0.0
    """Seconds for a step, as those of late."""
    _fed: int = field(init=False)
    """Rows that the first stage has, or was sent."""

    def __post_init__(self) -> None:
        self._fed = self.spec.prefix.tokens

    async def open(self, route: Sequence[StageOffer]) -> None:
        """Open a session at every stage. Raises StageFailed naming the provider that would not."""
        self._expires_at = await asyncio.to_thread(self.chain.clock) + OFFER_SECONDS
        self._class = route[0].execution_class
        await self._open_all(route)

    async def _open_all(self, route: Sequence[StageOffer]) -> None:
        stops = [stage.stop for stage in route]
        opening = asyncio.gather(*(self._open_leg(stage, stops, 0) for stage in route), return_exceptions=True)
        try:
            await asyncio.shield(opening)
        finally:  # what is open has to be closed, also where the client has gone away
            opened = await opening
            self.legs = [leg for leg in opened if isinstance(leg, Leg)]
        for fault in opened:
            if isinstance(fault, BaseException):
                raise fault
        await self._attach_first()
        await self._attach_last()

    async def tokens(self, stop: Callable[[int], bool]) -> AsyncIterator[int]:
        """Generate until ``stop`` says so of a token, or the limit is reached. Raises StageFailed where nobody can stand in."""
        feed = self.spec.prompt[self._fed :]
        while True:
            token, logprobs = await self._step(feed)
            self.received.append(token)
            if self.spec.grammar is not None:
                self.spec.grammar.accept(token)
            self.logprobs += [] if logprobs is None else [logprobs]
            yield token
            if len(self.received) >= self.spec.max_tokens or stop(token):
                return
            if len(self.received) == 1:
                await self._hand_over()
            feed = [token]

    async def _step(self, feed: list[int]) -> Sampled:
        first, self._fed = self._fed, self._fed + len(feed)
        try:
            await self._feed(first, feed)
            return await self._next_token()
        except StageFailed as error:
            failure = error
        began = time.monotonic()
        while True:
            await self._recover(failure)
            try:
                sampled = await self._next_token()
                self.router.replaced(time.monotonic() - began)
                return sampled
            except StageFailed as error:
                failure = error

    # sessions

    async def _open_leg(self, stage: StageOffer, stops: list[RouteStop], first_position: int) -> Leg:
        """Raises StageFailed; NoCredit where a replacement costs more than is left."""
        spec, stop = self.spec, stage.stop
        known = [*spec.prompt, *self.received]
        prefix = NOTHING if self._epoch else spec.prefix
        offer = SessionOffer(
            job_id=spec.job_id,
            payer=spec.payer,
            gateway=self.account.address,
            provider=stop.provider,
            model_id=spec.model_id,
            first_layer=stop.first_layer,
            end_layer=stop.end_layer,
            execution_class=stage.execution_class,
            epoch=self._epoch,
            input_price=stage.input_price,
            cached_price=stage.cached_price,
            output_price=stage.output_price,
            first_position=first_position,
            generated=len(self.received),
            prompt_tokens=len(spec.prompt),
            max_tokens=spec.max_tokens,
            cached_tokens=prefix.tokens,
            prefix_job=prefix.job_id,
            prompt_root=prompt_root(self._salt, known),
            sampling_hash=spec.sampling.digest(),
            route_hash=route_hash(stops),
            salt=self._salt,
            expires_at=self._expires_at,
        )
        # Only the ends of the pipeline see the token ids; those between see hidden states alone.
        at_an_end = stop.first_layer == spec.layers.first or stop.end_layer == spec.layers.end
        signed = await self.account.sign(offer, self.chain.receipts_domain)
        sampling, tokens = msgspec.to_builtins(spec.sampling, str_keys=True), known if at_an_end else []
        request = OpenRequest(signed, stops, sampling, tokens, spec.logprobs, spec.wish.bulk, spec.authorisation)
        key = LegKey(spec.name, stop.provider, self._epoch)
        if self._epoch:
            await self.budget.reserve_more(spec.name, offer.most)
        await self.budget.add_leg(key, offer, signed, stop)
        try:
            client, reply = await self._ask_to_open(stop, request)
        except (StageUnavailable, StageRefused) as error:
            await self.budget.refuse(key)
            raise StageFailed(stop.provider, str(error), isinstance(error, StageRefused)) from error
        return Leg(key, offer, stop, stops, client, reply.standby, reply.hands_over)

    async def _ask_to_open(self, stop: RouteStop, request: OpenRequest) -> tuple[StageClient, OpenReply]:
        """Raises StageUnavailable or StageRefused. A kept channel may have died with the stage's last process: then once more over a new one."""
        began = asyncio.get_running_loop().time()
        again = True
        while True:
            client = await self.router.clients.to(stop)
            try:
                return client, await client.call("Open", request, OpenReply, OPEN_SECONDS)
            except StageUnavailable:
                self.router.clients.forget(stop)
                if not again or asyncio.get_running_loop().time() - began > DIED_SECONDS:
                    raise
                again = False

    async def _attach_first(self) -> None:
        first = self.legs[0]
        self._rows, self._rows_epoch = first.client.rows(), first.offer.epoch
        await self._write(Frame(Kind.ATTACH, self.spec.job_id, epoch=self._rows_epoch))

    async def _attach_last(self) -> None:
        await self._leave_last()
        self._frames = self.legs[-1].client.stream("Tokens", self.legs[-1].attach)

    async def _leave_last(self) -> None:
        """Read no more tokens of the last stage."""
        token, frames, self._token, self._frames = self._token, self._frames, None, None
        if token is not None:
            token.cancel()
            await asyncio.gather(token, return_exceptions=True)
        if frames is not None:
            await frames.aclose()

    # one step

    async def _feed(self, first: int, tokens: list[int]) -> None:
        for at in range(0, len(tokens), FRAME_ROWS):
            part, position = tokens[at : at + FRAME_ROWS], first + at
            payload = b"".join(map(token_payload, part))
            step = max(0, position - len(self.spec.prompt) + 1)
            await self._write(Frame(Kind.ROWS, self.spec.job_id, payload, epoch=self._rows_epoch, step=step, position=position, rows=len(part)))

    async def _write(self, frame: Frame) -> None:
        try:
            await self._rows.write(frame.encode())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise StageFailed(self.legs[0].provider, await self._rows.details() or "the stream broke off") from error

    async def _next_token(self) -> Sampled:
        if self._token is None:
            assert self._frames is not None
            self._token = asyncio.ensure_future(self._take_token(self._frames))
        loop = asyncio.get_running_loop()
        began, patience = loop.time(), max(PATIENCE_SECONDS, PATIENCE_STEPS * self._usual)
        deadline = began + (STEP_SECONDS if self.received else FIRST_TOKEN_SECONDS)
        token, watches = self._token, {leg.client.broken() for leg in self.legs}
        while not token.done():
            done, _ = await asyncio.wait({token, *watches}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            watches -= done
            if not token.done():
                if loop.time() > deadline:
                    raise await self._stuck()
                await self._require_alive()
        self._token = None
        # The prompt's step is no measure for those that follow.
        self._usual = 0.8 * self._usual + 0.2 * (loop.time() - began) if self.received else 0.0
        return token.result()

    async def _take_token(self, frames: AsyncIterator[bytes]) -> Sampled:
        last, expected = self.legs[-1].stop, len(self.spec.prompt) + len(self.received)
        try:
            async for raw in frames:
                frame = Frame.decode(raw)
                if frame.kind is Kind.TOKEN and frame.position == expected:
                    return self._read_token(frame.payload)
                if frame.kind is Kind.CHECKPOINT:
                    signed = msgspec.json.decode(frame.payload, type=Signed)
                    point = Checkpoint.from_json(signed.message)
                    point.require_signer(self.chain.receipts_domain, signed.signature_bytes, last.operator)
        except (StageUnavailable, StageRefused, BadSignature, ValueError) as error:
            raise StageFailed(last.provider, str(error)) from error
        raise StageFailed(last.provider, "the token stream ended")

    def _read_token(self, payload: bytes) -> Sampled:
        """A token, with its probabilities where they are asked for. Raises ValueError for what no last stage should send."""
        token = int.from_bytes(payload[:TOKEN_BYTES], "little", signed=True)
        if token < 0:
            raise ValueError(f"{token} is no token id")
        if self.spec.grammar is not None and not self.spec.grammar.allows(token):
            raise ValueError(f"token {token} is none that the schema allows")
        if self.spec.logprobs == NO_LOGPROBS:
            return token, None
        found = msgspec.json.decode(payload[TOKEN_BYTES:], type=TokenLogprobs)
        if len(found.top) != self.spec.logprobs:
            raise ValueError(f"{len(found.top)} likeliest tokens came, {self.spec.logprobs} were asked for")
        return token, found

    async def _ask_all(self) -> list[tuple[Leg, SessionProgress | None]]:
        return list(zip(self.legs, await asyncio.gather(*(leg.progress() for leg in self.legs)), strict=True))

    async def _require_alive(self) -> None:
        """Raises StageFailed for a stage that does not answer, or else for the last whose stream was refused or whose link broke."""
        answers = await self._ask_all()
        if silent := [leg for leg, answer in answers if answer is None]:
            raise StageFailed(silent[0].provider, "it does not answer, or has lost the session")
        if leaving := [leg for leg, answer in answers if answer is not None and answer.leaving]:
            await self._take_leave(leaving)
            raise StageFailed(leaving[0].provider, "it is about to end")
        faulted = [(i, leg, answer) for i, (leg, answer) in enumerate(answers) if answer is not None and answer.fault]
        if faulted:
            i, leg, answer = faulted[-1]
            raise StageFailed(leg.provider, answer.fault, beside=self.legs[i - 1].provider if answer.refused and i else "")

    async def _take_leave(self, leaving: list[Leg]) -> None:
        """Take the receipts of stages that are about to end and wait for that, while the stage behind still listens to them."""
        for leg in leaving if self.received else ():
            tokens = len(self.received) - leg.offer.generated
            with contextlib.suppress(StageUnavailable):  # then the settler asks again
                await LegCloser(self.chain, self.account, self.budget).close(leg.key, leg.offer, leg.stop, leg.client, tokens)

    async def _stuck(self) -> StageFailed:
        """Who holds rows that it does not pass on."""
        for leg, answer in await self._ask_all():
            if answer is None or answer.rows_in > leg.offer.first_position + answer.rows_out:
                return StageFailed(leg.provider, "it takes too long for a step")
        return StageFailed(self.legs[-1].provider, "no token came in time")

    # replacement

    async def _recover(self, failure: StageFailed) -> None:
        """Put other stages in place of those that failed. Raises StageFailed where there are none, or too many have failed already."""
        dead = set(failure.suspects)
        while True:
            log.warning("replacing", job=self.spec.name[:18], reason=str(failure))
            if len(self.replaced) + len(dead) > MAX_REPLACEMENTS:
                raise failure
            dead |= {leg.provider for leg, answer in await self._ask_all() if answer is None}
            for provider in dead:
                self.router.failed(provider)
            try:
                await (self._replace(dead) if self.received or not self.spec.prefix.tokens else self._begin_anew(dead))
                return
            except StageFailed as error:
                failure = error
                dead |= error.suspects
            except (ApiError, Unavailable) as error:
                raise StageFailed(failure.provider, f"{failure}; and nobody can stand in: {error}") from error

    async def _hand_over(self) -> None:
        """Go on at the standbys of stages that serve prompts alone, which have their keys and values: where those are to be had, and cost no more."""
        giving = [leg for leg in self.legs if leg.hands_over]
        if not giving:
            return
        providers = {leg.provider for leg in giving}
        try:
            plan = {part.stop.provider: part for part in await self._plan(providers) if isinstance(part, StageOffer)}
        except (ApiError, Unavailable) as error:
            log.info("not handed over", job=self.spec.name[:18], reason=str(error))
            return
        if plan.keys() != {leg.standby for leg in giving} or not all(_no_dearer(plan[leg.standby], leg.offer) for leg in giving):
            return
        await self._take_leave(giving)
        try:
            await self._replace(providers)
        except StageFailed as error:
            await self._recover(error)

    async def _plan(self, dead: set[str]) -> list[Leg | StageOffer]:
        """The stages, with others in place of the dead. Raises NoRoute."""
        plan: list[Leg | StageOffer] = []
        for is_dead, run in groupby(self.legs, lambda leg: leg.provider in dead):
            legs = list(run)
            plan += await self._stand_ins(legs, dead) if is_dead else legs
        return plan

    async def _replace(self, dead: set[str]) -> None:
        self._epoch += 1
        plan = await self._plan(dead)
        stops = [part.stop for part in plan]
        placed: list[Leg] = []
        opened: list[Leg] = []
        needed = len(self.spec.prompt) - 1 + len(self.received) if self.received else 0
        try:
            # From the last stage on: the one behind says what it needs before its new neighbour is opened, which is there before rows come.
            for part in reversed(plan):
                if isinstance(part, StageOffer):
                    leg = await self._open_leg(part, stops, needed)
                    opened.append(leg)
                    needed = 0
                else:
                    leg, needed = part, await self._relink(part, stops)
                placed.insert(0, leg)
        except BaseException:
            for leg in opened:
                await self._abort(leg)
            raise
        gone = [leg for leg in self.legs if leg not in placed]
        first, last, self.legs = self.legs[0], self.legs[-1], placed
        for leg in gone:
            self.replaced.append(leg.provider)
            if not self.received:
                await self._abort(leg, HEARTBEAT_SECONDS)  # there is no token to pay anybody for, and it may hang
                continue
            await self.budget.cap_leg(leg.key, len(self.received) - leg.offer.generated)
        if placed[-1] is not last:
            await self._attach_last()
        if placed[0] is not first:
            self._rows.cancel()
            await self._attach_first()
            await self._feed(0, [*self.spec.prompt, *self.received][: self._fed])

    async def _begin_anew(self, dead: set[str]) -> None:
        """Open all stages again and without an earlier job's rows: the others have those, so a replacement would sign for none of them."""
        self._epoch += 1
        for leg in self.legs:
            await self._abort(leg, HEARTBEAT_SECONDS)
        self.legs = []
        spec = self.spec
        route = await self._choose(spec.layers, spec.max_tokens, dead | set(self.replaced))
        self._rows.cancel()
        await self._open_all(route)
        self.spec, self.replaced = replace(spec, prefix=NOTHING), [*self.replaced, *dead]
        await self._feed(0, spec.prompt)

    async def _stand_ins(self, gone: list[Leg], dead: set[str]) -> list[StageOffer]:
        span = LayerRange(gone[0].offer.first_layer, gone[-1].offer.end_layer)
        busy = dead | {leg.provider for leg in self.legs} | set(self.replaced)
        return await self._choose(span, self.spec.max_tokens - len(self.received), busy, fair_standbys(gone, self.router.known(self.spec.model_id)))

    async def _choose(self, layers: LayerRange, tokens: int, passed_over: set[str], standbys: tuple[str, ...] = ()) -> list[StageOffer]:
        """Others that fit the wish, in the class that the job began in; standbys of those that are gone first. Raises NoRoute."""
        spec = self.spec
        wish = replace(spec.wish, classes=(self._class,), order=(*standbys, *spec.wish.order))
        return await asyncio.to_thread(self.router.choose, spec.model_id, layers, len(spec.prompt), tokens, passed_over, wish)

    async def _relink(self, leg: Leg, stops: list[RouteStop]) -> int:
        """Tell a surviving stage its new neighbours, if they are new; how many rows it has."""
        if _neighbours(leg.route, leg.provider) == _neighbours(stops, leg.provider):
            return 0
        update = RouteUpdate(self.spec.job_id, self._epoch, route_hash(stops))
        signed = await self.account.sign(update, self.chain.receipts_domain)
        request = RelinkRequest(self.spec.job_id.hex(), leg.offer.epoch, signed, stops)
        try:
            reply = await leg.client.call("Relink", request, SessionProgress)
        except (StageUnavailable, StageRefused) as error:
            raise StageFailed(leg.provider, str(error)) from error
        leg.route = stops
        return reply.rows_in

    async def _abort(self, leg: Leg, timeout: float = 20) -> None:
        with contextlib.suppress(StageUnavailable, StageRefused):
            await leg.client.call("Abort", leg.attach, AttachRequest, timeout)
        await self.budget.refuse(leg.key)

    # the end

    @property
    def earned(self) -> bool:
        """Whether there is anything to pay for."""
        return bool(self.received)

    def rows_root(self) -> bytes | None:
        """Root over the rows that came back here, which the stage's checkpoint has to have; None where none did."""
        return None

    async def close(self) -> list[CloseReply]:
        """Take each stage's receipt, from the first stage on; stages that no longer answer are left to the settler.

        A job that gave nothing is aborted: nobody is owed anything.
        """
        closer, replies = LegCloser(self.chain, self.account, self.budget), []
        ended = self._fed == len(self.spec.prompt) + len(self.received) - 1
        before: Before | None = None
        try:
            if not self.earned:
                await asyncio.gather(*(self._abort(leg) for leg in self.legs))
                return []
            for leg, answer in await self._ask_all():
                tokens, reply = len(self.received) - leg.offer.generated, None
                if answer is None:
                    await self.budget.cap_leg(leg.key, tokens)
                else:
                    try:
                        reply = await closer.close(leg.key, leg.offer, leg.stop, leg.client, tokens, before, self.rows_root())
                        replies.append(reply)
                    except StageUnavailable as error:
                        log.warning("no receipt yet", provider=leg.provider, job=self.spec.name[:18], reason=str(error))
                before = None if reply is None else Before(reply.checkpoint, ended)
        finally:
            await self._leave_last()
            if self._rows is not None:
                self._rows.cancel()
        return [reply for reply in replies if reply is not None]


def fair_standbys(gone: Sequence[Leg], offers: Sequence[StageOffer]) -> tuple[str, ...]:
    """Standbys of stages that are gone, where they cost no more: a stage could else lead its jobs to a dearer friend by breaking off."""
    own = {(offer.stop.provider, offer.execution_class): offer for offer in offers}
    found = [(leg, own.get((leg.standby, leg.offer.execution_class))) for leg in gone]
    return tuple(
        leg.standby
        for leg, offer in found
        if offer is not None and offer.cached_price <= leg.offer.cached_price and offer.output_price <= leg.offer.output_price
    )


def _no_dearer(stage: StageOffer, offer: SessionOffer) -> bool:
    """Whether a job of any length costs no more where a standby takes over after the first token, which is paid for what it did not run, too."""
    return stage.cached_price == 0 and stage.output_price <= offer.output_price


def _neighbours(route: list[RouteStop], provider: str) -> tuple[RouteStop | None, RouteStop | None]:
    at = next(i for i, stop in enumerate(route) if stop.provider == provider)
    return (route[at - 1] if at else None), (route[at + 1] if at + 1 < len(route) else None)
