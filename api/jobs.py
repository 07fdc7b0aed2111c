"""A job from request to settled receipts."""

import asyncio
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import structlog
from psycopg import Error as DatabaseError

from api import ApiError, BadRequest, NoRoute, NotVerified
from api.budget import Budget
from api.checks import INCONCLUSIVE, PASS, Checks, Finding, Seller
from api.keys import ApiKey
from api.pipeline import JobSpec, Pipeline, StageFailed
from api.prefixes import NOTHING, Prefix, Prefixes
from api.reading import Reading
from api.routing import Router, StageOffer, Wish
from api.schema import ChatRequest, SamplingRequest, usage
from api.settler import Settler
from api.signing import Signer
from api.summaries import Routing, Summaries
from api.text import TextModel, held_back
from protocol.chain import Chain, struct_values
from protocol.grammar import Grammar
from protocol.receipts import EXECUTION_CLASSES, StageReceipt, check_cost, job_id, precision_of, request_hash
from protocol.sampling import SamplingParameters, session_seed
from protocol.typed import Signed
from protocol.units import FUNC, LayerRange
from protocol.wire import NO_LOGPROBS, CloseReply

log = structlog.get_logger()

OPEN_TRIES = 3
BEGIN_TRIES = 2


@dataclass
class Outcome:
    """What a finished job gives. ``receipts``: each stage's signed receipt, checkpoint and countersignature; ``settled``: all are here; ``checks``:
    verifiers' findings, where they were asked for, and ``unverified`` why they are not enough, with the stage's provider."""

    cost: int = 0
    settled: bool = False
    finish: str = "stop"
    receipts: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    broke_off: bool = False
    checks: list[dict[str, Any]] = field(default_factory=list)
    unverified: "Unverified | None" = None


class Unverified(StageFailed):
    """A stage was to be checked and did not pass, or nobody decided."""

    def __init__(self, provider: str, verdict: str, reason: str) -> None:
        super().__init__(provider, reason)
        self.is_lie = verdict != INCONCLUSIVE


@dataclass
class Meter:
    """Tokens a second over the last ten seconds."""

    seconds: float = 10.0
    _times: deque[float] = field(default_factory=deque)

    def count(self) -> None:
        self._times.append(time.monotonic())

    def rate(self) -> float:
        while self._times and self._times[0] < time.monotonic() - self.seconds:
            self._times.popleft()
        return len(self._times) / self.seconds


@dataclass
class Job:
    """One request on its way. ``pieces`` streams text; when it has ended ``outcome`` is complete."""

    id: str
    model: TextModel
    pipeline: Pipeline
    budget: Budget
    settler: Settler
    meter: Meter
    prefixes: Prefixes
    stops: list[str]
    checks: Checks
    sellers: tuple[Seller, ...] = ()
    """Whom to ask for checks of the stages, where those were asked for."""
    index: int = 0
    """Which of the request's choices it is."""
    outcome: Outcome = field(default_factory=Outcome)
    _logprobs_told: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.pipeline.received

    @property
    def usage(self) -> dict[str, Any]:
        """OpenAI's ``usage``."""
        spec = self.pipeline.spec
        return usage(len(spec.prompt), spec.prefix.tokens, len(self.tokens))

    def take_logprobs(self) -> dict[str, Any] | None:
        """OpenAI's ``logprobs`` of the tokens since the last call, without the one that ends the text; None where none were asked for."""
        if self.pipeline.spec.logprobs == NO_LOGPROBS:
            return None
        told, self._logprobs_told = self._logprobs_told, len(self.tokens)
        known = zip(self.tokens[told:], self.pipeline.logprobs[told:], strict=True)
        entries = [
            {**self._entry(token, found.chosen), "top_logprobs": [self._entry(other, logprob) for other, logprob in found.top]}
            for token, found in known
            if token not in self.model.stop_tokens
        ]
        return {"content": entries, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.model.token_text(token)
        # Some tokens are part of a character, and no text by themselves.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Text as it comes; stop strings are left out. Closes and settles whatever happens, also when the reader goes away. Raises StageFailed."""
        ok = False
        try:
            async for piece in self._generate():
                yield piece
            ok = True
        finally:
            await asyncio.shield(self.settle(ok))
        if self.outcome.unverified:
            raise self.outcome.unverified

    async def _generate(self) -> AsyncIterator[str]:
        stream = self.model.stream()
        held = ""
        async for token in self.pipeline.tokens(lambda token: token in self.model.stop_tokens):
            self.meter.count()
            if token in self.model.stop_tokens:
                break
            held += stream.push(token)
            cut = min((at for stop in self.stops if (at := held.find(stop)) >= 0), default=-1)
            if cut >= 0:
                held = held[:cut]
                break
            if ready := held[: len(held) - held_back(held, self.stops)]:
                held = held[len(ready) :]
                yield ready
        else:
            self.outcome.finish = "length"
        if held:
            yield held

    async def settle(self, ok: bool) -> None:
        """Take the receipts and bring the books in line; what cannot be done now is left to the settler, so nothing is lost."""
        try:
            replies = await self.pipeline.close()
            self.outcome.receipts = [msgspec.to_builtins(reply) for reply in replies]
            self.outcome.settled = len(replies) == len(self.pipeline.legs)
            if ok and self.sellers:
                ok = await self._verify(replies)
            self._note_prefix(replies if ok and self.outcome.settled else [])
            self.outcome.cost = await self.budget.settle(self.id, "done" if ok else "failed", len(self.tokens))
        except DatabaseError as error:
            log.warning("settling waits for the database", job=self.id[:18], reason=str(error))
            self.settler.ended[self.id] = ("done" if ok else "failed", len(self.tokens))
        finally:
            self.outcome.replaced = self.pipeline.replaced
            self.settler.live.pop(self.id, None)

    async def _verify(self, replies: list[CloseReply]) -> bool:
        """Have every stage checked; whether all passed."""
        receipts = [reply.receipt for reply in replies]
        there = {StageReceipt.from_json(signed.message).provider for signed in receipts}
        gone = [*self.pipeline.replaced, *(leg.provider for leg in self.pipeline.legs if leg.provider not in there)]
        if gone:
            self.outcome.unverified = Unverified(gone[0], INCONCLUSIVE, "it broke off, and what it did cannot be checked now")
            return False
        found = await self.checks.run(self.id, self.sellers, receipts, self.pipeline.spec.authorisation)
        self.outcome.checks = [finding.told() for finding in found]
        self.outcome.unverified = first_fault(receipts, found)
        return self.outcome.unverified is None

    def _note_prefix(self, replies: list[CloseReply]) -> None:
        """Jobs that begin like this one may use its rows, where each stage served it from position 0 on; what failed is not used again."""
        spec, legs = self.pipeline.spec, self.pipeline.legs
        if self.model.encoder is not None:
            return
        if not replies:
            self.prefixes.forget(spec.prefix.job_id)
        elif not any(leg.offer.first_position for leg in legs):
            rows = min(StageReceipt.from_json(reply.receipt.message).position_count for reply in replies)
            self.prefixes.keep(spec.payer, spec.model_id, spec.job_id, [*spec.prompt, *self.tokens][:rows], [leg.stop for leg in legs])

    def extra(self) -> dict[str, Any]:
        """What the answer carries beside OpenAI's fields. Amounts in wei, as decimal strings."""
        outcome = self.outcome
        told = {"job_id": self.id, "cost": str(outcome.cost), "settled": outcome.settled, "token_ids": self.tokens}
        if self.sellers:
            receipts = (StageReceipt.from_json(entry["receipt"]["message"]) for entry in outcome.receipts)
            told |= {"checks": outcome.checks, "check_cost": str(outcome.cost - sum(receipt.amount for receipt in receipts))}
        return {**told, "receipts": outcome.receipts, "replaced": outcome.replaced}


def first_fault(receipts: Sequence[Signed], found: Sequence[Finding]) -> Unverified | None:
    """What keeps an answer from being verified, a lie first; None where every stage passed."""
    verdicts = {finding.receipt: finding.verdict for finding in found}
    each = [(receipt := StageReceipt.from_json(signed.message), verdicts.get(receipt, INCONCLUSIVE)) for signed in receipts]
    faults = [fault for fault in each if fault[1] != PASS]
    if not faults:
        return None
    receipt, verdict = min(faults, key=lambda fault: fault[1] == INCONCLUSIVE)
    words = "no verifier could decide about it" if verdict == INCONCLUSIVE else f"a verifier replayed it and found {verdict}"
    return Unverified(receipt.provider, verdict, f"layers {receipt.layers}: {words}")


class Asked(NamedTuple):
    """What a model is to go on with, and what its answer has to fit: a schema or a grammar, or anything where that is empty; ``bulk``: by stages that
    let others go first."""

    prompt: list[int]
    schema: str = ""
    bulk: bool = False


@dataclass
class Begun:
    """A job whose first text is here."""

    job: Job
    first: str
    rest: AsyncGenerator[str, None]

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text from its beginning on. Raises StageFailed."""
        async with aclosing(self.rest):
            if self.first:
                yield self.first
            async for piece in self.rest:
                yield piece


@dataclass
class Jobs:
    """Starts jobs."""

    chain: Chain
    account: Signer
    budget: Budget
    router: Router
    settler: Settler
    checks: Checks
    meters: defaultdict[str, Meter] = field(default_factory=lambda: defaultdict(Meter))
    """By model."""
    prefixes: Prefixes = field(default_factory=Prefixes)
    summaries: Summaries = field(default_factory=lambda: Summaries(int(time.time())))
    _registered: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    async def begin(self, key: ApiKey, model: TextModel, asked: Asked, request: SamplingRequest, index: int = 0) -> Begun:
        """Start a job for one choice and wait for its first text: what fails before that is tried on other stages, and else a status. Raises
        ApiError."""
        for _ in range(BEGIN_TRIES):
            job = await self.start(key, model, asked, request, index)
            rest = job.pieces()
            try:
                return Begun(job, await anext(rest, ""), rest)
            except StageFailed as error:
                refusal = self.broken_off(job, error)
                if job.tokens:
                    break
        raise refusal

    def broken_off(self, job: Job, error: StageFailed) -> ApiError:
        """What to say of a job that nobody goes on with; its stage is passed over until it answers again."""
        job.outcome.broke_off = True
        cost = f"the {len(job.tokens)} tokens so far cost {job.outcome.cost} wei"
        if not isinstance(error, Unverified):
            self.router.failed(error.provider)
            return NoRoute(f"{error}; {cost}", code="stage_failed")
        if error.is_lie:
            self.router.failed(error.provider)
        words = f"this answer is not verified, do not rely on it: {error}; {cost}"
        return NotVerified(words, code="verification_failed" if error.is_lie else "not_verified")

    async def start(self, key: ApiKey, model: TextModel, asked: Asked, request: SamplingRequest, index: int = 0) -> Job:
        """Reserve, route and open. Raises ApiError."""
        prompt = asked.prompt
        room = model.context - len(prompt)
        if room < 1:
            words = f"the prompt has {len(prompt)} tokens, {model.name} takes {model.context} with the answer; shorten it"
            raise BadRequest(words, "messages" if isinstance(request, ChatRequest) else "prompt", "context_length_exceeded")
        limit = request.token_limit(room)
        sampling = self._sampling(model, request, asked.schema, index)
        layers = LayerRange(0, await asyncio.to_thread(self.layer_count, model.model_id))
        grammar = await asyncio.to_thread(_grammar, model, sampling)
        wish = replace(request.provider.to_wish().capped(key.most_input, key.most_output), bulk=asked.bulk)
        spec = JobSpec(b"", key.payer, model.model_id, layers, prompt, limit, sampling, request.logprobs_asked, wish=wish, grammar=grammar)
        return await self._start(key, model, spec, Pipeline, request.stops, index)

    async def start_reading(self, key: ApiKey, model: TextModel, prompt: list[int], wish: Wish) -> Job:
        """The same for a model that makes vectors: what comes back are its rows, by a ``Reading``. Raises ApiError."""
        layers = LayerRange(0, await asyncio.to_thread(self.layer_count, model.model_id))
        wish = wish.capped(key.most_input, key.most_output)
        return await self._start(key, model, JobSpec(b"", key.payer, model.model_id, layers, prompt, 0, SamplingParameters(), wish=wish), Reading)

    async def _start(self, key: ApiKey, model: TextModel, spec: JobSpec, kind: type[Pipeline], stops: Sequence[str] = (), index: int = 0) -> Job:
        wish, spec = spec.wish, replace(spec, authorisation=key.authorisation)
        sellers = await self.checks.sellers(model.model_id, wish.most_check) if wish.verified else ()
        prefix = self.prefixes.find(key.payer, model.model_id, spec.prompt)
        passed_over: set[str] = set()
        reason = ""
        for _ in range(OPEN_TRIES + bool(prefix.tokens)):
            try:
                route, prefix = await asyncio.to_thread(self._route, spec, prefix, passed_over)
            except NoRoute:
                self._note_routing(spec, [], passed_over)
                raise
            try:
                pipeline = await self._open(key, model, replace(spec, prefix=prefix), route, sellers, kind)
            except StageFailed as error:
                log.warning("route failed", reason=str(error))
                if not error.refused:
                    self.router.failed(error.provider)
                if prefix.tokens:  # which a stage may have dropped; that is no reason not to ask it for all
                    self.prefixes.forget(prefix.job_id)
                    prefix = NOTHING
                else:
                    passed_over.add(error.provider)
                reason = str(error)
                continue
            self._note_routing(replace(spec, prefix=prefix), route, passed_over)
            meter, name = self.meters[model.name], pipeline.spec.name
            return Job(name, model, pipeline, self.budget, self.settler, meter, self.prefixes, list(stops), self.checks, sellers, index)
        raise NoRoute(f"no route could be opened in {OPEN_TRIES} tries; the last: {reason}", code="no_route")

    def _note_routing(self, spec: JobSpec, route: list[StageOffer], passed_over: set[str]) -> None:
        """Count the job for *why no work*."""
        away, offers = passed_over | self.router.resting.keys(), self.router.known(spec.model_id)
        sticky, prompt = bool(spec.prefix.tokens), len(spec.prompt)
        self.summaries.note(spec.model_id, Routing(offers, route, spec.wish, self.router.backed, away, sticky, prompt, spec.max_tokens))

    def _route(self, spec: JobSpec, prefix: Prefix, passed_over: set[str]) -> tuple[list[StageOffer], Prefix]:
        """The best stages, or those of an earlier job whose rows make them no dearer. Raises NoRoute."""
        prompt, limit = len(spec.prompt), spec.max_tokens
        best = self.router.choose(spec.model_id, spec.layers, prompt, limit, passed_over, spec.wish)
        known = self.router.still(spec.model_id, prefix.route, spec.wish) if prefix.tokens else None

        def worth(route: list[StageOffer], cached: int = 0) -> tuple[int, int]:
            return sum(spec.wish.rank(stage.stop.provider) for stage in route), sum(stage.cost(prompt, limit, cached) for stage in route)

        return (known, prefix) if known and worth(known, prefix.tokens) <= worth(best) else (best, NOTHING)

    async def _open(
        self, key: ApiKey, model: TextModel, spec: JobSpec, route: list[StageOffer], sellers: tuple[Seller, ...], kind: type[Pipeline]
    ) -> Pipeline:
        """Reserve and open one route under a job id of its own. Raises NoCredit or StageFailed, and then leaves nothing reserved."""
        salted = request_hash(secrets.token_bytes(32), json.dumps(spec.prompt).encode())
        spec = replace(spec, job_id=job_id(self.account.address, await self.budget.next_nonce(), salted))
        most = sum(stage.cost(len(spec.prompt), spec.max_tokens, spec.prefix.tokens) for stage in route)
        # Each verifier may be asked about every stage, where those before it decide nothing.
        checks = sum(check_cost(len(spec.prompt) + spec.max_tokens, seller.price) for seller in sellers) * len(route)
        pipeline = kind(self.chain, self.account, self.budget, self.router, spec)
        self.settler.live[spec.name] = pipeline
        try:
            await self.budget.reserve(key, spec.name, model.name, len(spec.prompt), most + checks, checks)
            try:
                await pipeline.open(route)
            except BaseException:
                await pipeline.close()
                await self.budget.settle(spec.name, "failed", 0)
                raise
        except BaseException:
            self.settler.live.pop(spec.name, None)
            raise
        return pipeline

    def _sampling(self, model: TextModel, request: SamplingRequest, schema: str, index: int) -> SamplingParameters:
        bias = request.logit_bias or {}
        if unknown := [token for token in bias if not 0 <= token < model.vocabulary]:
            raise BadRequest(f"'logit_bias' names token {unknown[0]}, the vocabulary ends at {model.vocabulary - 1}", "logit_bias")
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        return SamplingParameters(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            repetition_penalty=request.repetition_penalty,
            logit_bias=bias,
            seed=session_seed(seed % 2**64, model.model_id, index),
            stop_tokens=list(model.stop_tokens),
            schema=schema,
        )

    def describe(self, model: TextModel) -> dict[str, Any]:
        """What is known of a model: OpenAI's fields, then what its stages ask and who they are. Prices in FUNC per million tokens, of the cheapest
        stages in float32; None where no stages cover it. ``check_price``: for a million rows of one stage, None where no checks are sold.

        May block on the node. Raises ApiError, or Unavailable where nothing is known yet.
        """
        registered = self.registered(model.model_id)
        offers = self.router.offers(model.model_id)
        try:
            route = self.router.choose(model.model_id, LayerRange(0, registered["layerCount"]), 1, 1)
        except NoRoute:
            route = []
        check = self.checks.price(model.model_id)
        prices = {"prompt": "input_price", "input_cache_read": "cached_price", "completion": "output_price"}
        return {
            "id": model.name,
            "object": "model",
            "type": "text" if model.encoder is None else "embedding",
            "created": 0,
            "owned_by": registered["creator"],
            "model_id": "0x" + model.model_id.hex(),
            "context_length": model.context,
            "pricing": {name: str(Decimal(sum(getattr(o, field) for o in route)) / FUNC) for name, field in prices.items()} if route else None,
            "check_price": None if check is None else str(Decimal(check) / FUNC),
            "royalty_bps": registered["royaltyBps"],
            "quantizations": sorted({precision_of(EXECUTION_CLASSES.get(offer.execution_class, "unknown")) for offer in offers}),
            "providers": len({offer.stop.provider for offer in offers}),
            "tokens_per_second": self.meters[model.name].rate(),
        }

    def registered(self, model_id: bytes) -> dict[str, Any]:
        """What the chain has of a model, looked at once: the parts that are used here stay as they are. Raises ApiError or Unavailable."""
        if model_id not in self._registered:
            found = struct_values("ModelRegistry", "model", self.chain.call("ModelRegistry", "model", model_id))
            if not found["layerCount"]:
                raise ApiError(f"model {model_id.hex()[:16]} is listed here but not registered on chain")
            self._registered[model_id] = found
        return self._registered[model_id]

    def layer_count(self, model_id: bytes) -> int:
        return int(self.registered(model_id)["layerCount"])


def _grammar(model: TextModel, sampling: SamplingParameters) -> Grammar | None:
    """What the answer has to fit, None where it may be anything. Raises BadRequest."""
    if not sampling.schema:
        return None
    try:
        return Grammar.begin(sampling.schema, model.folder, model.vocabulary, sampling.stop_tokens)
    except ValueError as error:
        raise BadRequest(f"answers of {model.name} cannot be held to a schema: {error}", "response_format") from error
