"""Carry out checks: rows in, replay, commit, rows out, compare. Needs torch; runs in a replay worker."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from inference import InferenceError
from inference.calibrate import read_tolerances
from inference.classes import ExecutionClass, rows_from_bytes, to_float32
from inference.compare import FAIL_CHANCE, Replay, RowErrors, StageTolerance, Verdict, drift_score, findings, judge, limits, stands
from inference.devices import CPU
from inference.encoder import open_stage
from inference.executor import StageExecutor
from inference.loader import read_config
from inference.replay import SampledClaim, StageReplayer
from protocol.duties import replay_commitment
from protocol.grammar import Grammar
from protocol.manifest import Manifest, ModelShelf
from protocol.receipts import EXECUTION_CLASSES
from protocol.rows import TOKEN_BYTES
from protocol.typed import ZERO32, Signed
from protocol.units import LayerRange
from verifier import EvidenceBad, EvidenceMissing
from verifier.evidence import ROWS_IN, ROWS_OUT, Evidence, EvidenceClient, Placing, nowhere
from verifier.store import CheckKey

BATCH_ROWS = 4096
"""Rows in whose replays are held at a time."""


@dataclass(frozen=True)
class CheckResult:
    """``commitment`` was given before rows out were seen; ``opening`` is its salt. ``detail``: the statistics, for people."""

    verdict: Verdict
    commitment: bytes = ZERO32
    opening: bytes = ZERO32
    detail: dict[str, float | str] | None = None


class Replayers:
    """A replayer for each model that is on this machine."""

    def __init__(self, shelf: ModelShelf, device: torch.device = CPU) -> None:
        self.shelf, self.device = shelf, device
        self._known: dict[bytes, Replayer] = {}

    def of(self, model_id: bytes) -> "Replayer | None":
        """None for a model that is not here."""
        if model_id not in self._known:
            folder = self.shelf.folders().get(model_id)
            if folder is None:
                return None
            self._known[model_id] = Replayer(folder, read_tolerances(folder), self.device)
        return self._known[model_id]


class Replayer:
    """Holds the stages of one model that this worker has loaded, each checked against the manifest."""

    def __init__(self, folder: Path, tolerances: Sequence[StageTolerance], device: torch.device = CPU) -> None:
        self.folder, self.device = folder, device
        self.manifest = Manifest.read(folder)
        config = read_config(folder).get_text_config(decoder=True)
        self.hidden, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.tolerances = {(entry.layers, entry.precision): entry for entry in tolerances}
        self._loaded: dict[tuple[LayerRange, torch.dtype, bool], StageExecutor] = {}

    def stage(self, layers: LayerRange, precision: str) -> StageReplayer:
        """Loaded when it is first asked for; precisions share what they can. Raises LoadError, TensorMismatch or CutError."""

        def executor(dtype: torch.dtype, int8: bool) -> StageExecutor:
            key = (layers, dtype, int8)
            if key not in self._loaded:
                self._loaded[key] = open_stage(self.folder, layers, dtype, self.manifest, int8=int8, device=self.device)
            return self._loaded[key]

        return StageReplayer.of(ExecutionClass.parse(f"{precision}/sdpa"), executor)

    def rows_in(self, evidence: Evidence) -> torch.Tensor:
        """The rows that a stage was given: [n] token ids or [n, hidden]. Raises EvidenceBad for rows that do not fit the model."""
        if evidence.receipt.first_layer == 0:
            ids = torch.frombuffer(bytearray(_joined(evidence.payloads, TOKEN_BYTES)), dtype=torch.int64)
            if not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
                raise EvidenceBad(f"a token id of {int(ids.min())} to {int(ids.max())} is not one of the model's {self.vocabulary}")
            return ids
        rows = self._hidden(evidence, 0)
        if not bool(torch.isfinite(rows).all()):
            raise EvidenceBad("rows in are not finite, which no stage may take")
        return rows

    def _hidden(self, evidence: Evidence, beside: int) -> torch.Tensor:
        """Rows of the model's width, each with ``beside`` bytes behind it that are no part of it: [n, hidden]. Raises EvidenceBad."""
        dtype = _execution(evidence).dtype
        width = self.hidden * dtype.itemsize
        raw = _joined(evidence.payloads, width + beside, width)
        return rows_from_bytes(raw, len(evidence.payloads), dtype)

    def replay(self, evidence: Sequence[Evidence]) -> list[Replay]:
        """Replay a stage from the committed rows in of several jobs, all of one layer range and precision, in as few passes as memory allows.

        Raises EvidenceBad, LoadError, TensorMismatch or CutError.
        """
        stage = self.stage(evidence[0].receipt.layers, _execution(evidence[0]).precision)
        return stage.replay_batch([self.rows_in(one) for one in evidence])

    def compare(self, rows_in: Evidence, evidence: Evidence, replay: Replay) -> tuple[Verdict, dict[str, float | str]]:
        """Judge the rows out, and on the last stage the tokens, by the calibrated limits of that layer range and precision. Raises EvidenceBad.

        Rows in that make honest rounding look like a lie convict nobody: the stage before may have chosen them for that.
        """
        execution, offer = _execution(evidence), evidence.offer
        tolerance = self.tolerances.get((evidence.receipt.layers, execution.precision))
        if tolerance is None:
            return Verdict.INCONCLUSIVE, {"reason": f"layers {evidence.receipt.layers} in {execution.precision} are not calibrated"}
        stage, margins = self.stage(evidence.receipt.layers, execution.precision), []
        claimed = to_float32(self._hidden(evidence, TOKEN_BYTES if stage.is_last else 0))
        first = offer.first_position
        served = replay.since(first)
        if not np.isfinite(served.reference).all():
            return Verdict.INCONCLUSIVE, {"reason": "the rows in lead to rows that are not finite"}
        if claimed.shape != served.reference.shape:
            raise EvidenceBad(f"{claimed.shape} rows out from position {first} on for {replay.reference.shape} rows in")
        errors = tolerance.errors(claimed, served)
        # No token is drawn from an encoder's rows: all of them are what was served.
        at, unread = max(first, offer.prompt_tokens - 1) if stage.reference.encoder is None else first, ""
        if stage.samples:
            if len(evidence.before) != offer.generated:
                raise EvidenceBad(f"{len(evidence.before)} tokens are given before position {first}, the offer counts {offer.generated}")
            claim = SampledClaim(claimed[at - first :], sampled_tokens(evidence), at, evidence.sampling, evidence.before, evidence.prompt)
            unread = self._unread(claim)
            margins = [] if unread else stage.margins([replace(claim, grammar=self._grammar(claim))])[0]
        found = findings(errors, at - first, margins)
        detail: dict[str, float | str] = {"stage": f"{evidence.receipt.layers}/{execution.precision}", "score": drift_score(found, tolerance)}
        for name, (value, limit) in limits(found, tolerance, tolerance.fail, FAIL_CHANCE).items():
            detail |= {name: value, f"{name}_limit": limit}
        verdict = judge(found, tolerance)
        if verdict is Verdict.FAIL and not stands(found, errors, self._honest(stage, rows_in, served, tolerance), tolerance):
            detail["reason"] = "honest work looks wrong on these rows in: nobody can be judged by them"
            return Verdict.INCONCLUSIVE, detail
        if verdict is Verdict.PASS and unread:
            return Verdict.INCONCLUSIVE, {**detail, "reason": unread}
        return verdict, detail

    def _grammar(self, claim: SampledClaim) -> Grammar | None:
        """What the answer has to fit, as far as the tokens before the claim's go. Raises ValueError or OSError."""
        parameters = claim.parameters
        if not parameters.schema:
            return None
        grammar = Grammar.begin(parameters.schema, self.folder, self.vocabulary, parameters.stop_tokens)
        for token in claim.before:
            grammar.accept(token)
        return grammar

    def _unread(self, claim: SampledClaim) -> str:
        """Why the tokens cannot be judged here, empty where they can. Another release may read a schema otherwise, which convicts nobody; the gateway
        stops a stage whose token the schema does not allow."""
        if claim.parameters.repetition_penalty != 1.0 and not claim.prompt:
            return "the prompt's ids are not shown, which the repetition penalty counts"
        try:
            grammar = self._grammar(claim)
        except (ValueError, OSError) as error:
            return f"the schema cannot be read here: {error}"
        return "" if grammar is None or all(map(grammar.accept, claim.tokens)) else "a token is none that the schema allows, as it is read here"

    def _honest(self, stage: StageReplayer, rows_in: Evidence, served: Replay, tolerance: StageTolerance) -> list[RowErrors]:
        return [tolerance.errors(rows[-len(served.reference) :], served) for rows in stage.variants(self.rows_in(rows_in))]


def _execution(evidence: Evidence) -> ExecutionClass:
    return ExecutionClass.parse(EXECUTION_CLASSES[evidence.offer.execution_class])


def sampled_tokens(evidence: Evidence) -> list[int]:
    """The tokens that the last stage committed to, from the end of the prompt on, or from where it took over."""
    marks = [int.from_bytes(payload[-TOKEN_BYTES:], "little", signed=True) for payload in evidence.payloads]
    return marks[max(0, evidence.offer.prompt_tokens - 1 - evidence.offer.first_position) :]


@dataclass(frozen=True)
class Ask:
    """One check to carry out: ``duty_signature`` is what drew it, or ``order`` who asked for it; ``place`` says who else has the rows, should the
    provider not answer."""

    key: CheckKey
    duty_signature: bytes
    place: Placing = nowhere
    order: Signed | None = None


@dataclass
class Checking:
    """Carries checks out together, those of one stage in one replay. ``committed`` is told commitment and opening before rows out are asked for,
    ``shown`` what the stages before are said to have signed."""

    client: EvidenceClient
    replayers: Replayers
    committed: Callable[[CheckKey, bytes, bytes], None]
    shown: Callable[[Sequence[Signed]], None]

    async def run(self, asks: Sequence[Ask]) -> AsyncIterator[tuple[CheckKey, CheckResult | EvidenceMissing]]:
        """Each check with its result, or with the reason why its evidence was not to be had, as they end.

        Evidence that is served and does not fit is WITHHELD; what is not on this machine is INCONCLUSIVE.
        """
        groups: dict[object, list[tuple[Ask, Evidence, Replayer]]] = {}
        for ask, found in zip(asks, await asyncio.gather(*(self._rows_in(ask) for ask in asks)), strict=True):
            if not isinstance(found, Evidence):
                yield ask.key, found
            elif (replayer := self.replayers.of(found.receipt.model_id)) is None:
                yield ask.key, _undecided(f"model 0x{found.receipt.model_id.hex()} is not on this machine")
            else:
                stage = (found.receipt.model_id, found.receipt.layers, _execution(found).precision)
                groups.setdefault(stage, []).append((ask, found, replayer))
        for group in groups.values():
            for batch in _bounded(group):
                async for result in self._run_batch(batch):
                    yield result

    async def _rows_in(self, ask: Ask) -> Evidence | CheckResult | EvidenceMissing:
        try:
            found = await self._rows(ask, ROWS_IN)
            if (replayer := self.replayers.of(found.receipt.model_id)) is not None:
                replayer.rows_in(found)
            self.shown(found.upstream)
        except EvidenceMissing as error:
            return error
        except EvidenceBad as error:
            return _unfit(error)
        return found

    async def _run_batch(self, batch: Sequence[tuple[Ask, Evidence, Replayer]]) -> AsyncIterator[tuple[CheckKey, CheckResult | EvidenceMissing]]:
        replayer = batch[0][2]
        try:
            replays = replayer.replay([evidence for _, evidence, _ in batch])
        except (InferenceError, RuntimeError) as error:  # torch raises RuntimeError, out of memory included
            # A verifier may hold only some of a model's layers. What it cannot run it says nothing about.
            if len(batch) == 1 or isinstance(error, InferenceError):
                for ask, _, _ in batch:
                    yield ask.key, _undecided(str(error))
                return
            for alone in batch:
                async for one in self._run_batch([alone]):
                    yield one
            return
        ended = await asyncio.gather(*(self._judge(ask, rows_in, replayer, replay) for (ask, rows_in, _), replay in zip(batch, replays, strict=True)))
        for (ask, _, _), result in zip(batch, ended, strict=True):
            yield ask.key, result

    async def _judge(self, ask: Ask, rows_in: Evidence, replayer: Replayer, replay: Replay) -> CheckResult | EvidenceMissing:
        """Commit to the replay, and only then see what was claimed."""
        opening = secrets.token_bytes(32)
        commitment = replay_commitment(opening, np.ascontiguousarray(replay.reference, dtype="<f4").tobytes())
        self.committed(ask.key, commitment, opening)
        try:
            rows_out = await self._rows(ask, ROWS_OUT, commitment)
            verdict, detail = replayer.compare(rows_in, rows_out, replay)
        except EvidenceMissing as error:
            return error
        except EvidenceBad as error:
            return _unfit(error)
        return CheckResult(verdict, commitment, opening, detail)

    async def _rows(self, ask: Ask, part: int, commitment: bytes = ZERO32) -> Evidence:
        key = ask.key
        return await self.client.rows(key.provider, key.number, part, ask.duty_signature, key.dispute_id, commitment, ask.place, ask.order)


def _bounded(group: Sequence[tuple[Ask, Evidence, Replayer]]) -> Iterator[list[tuple[Ask, Evidence, Replayer]]]:
    """The group in batches of at most BATCH_ROWS rows, or of one check: so many replayed rows are held at a time."""
    batch: list[tuple[Ask, Evidence, Replayer]] = []
    rows = 0
    for item in group:
        count = len(item[1].payloads)
        if batch and rows + count > BATCH_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(item)
        rows += count
    if batch:
        yield batch


def _joined(payloads: Sequence[bytes], expected: int, kept: int | None = None) -> bytes:
    """The first ``kept`` bytes of each payload, laid end to end. Raises EvidenceBad where one is not of the expected length."""
    if any(len(payload) != expected for payload in payloads):
        raise EvidenceBad(f"rows are not of {expected} bytes each")
    return b"".join(payload[:kept] for payload in payloads)


def _undecided(reason: str) -> CheckResult:
    return CheckResult(Verdict.INCONCLUSIVE, detail={"reason": reason})


def _unfit(error: EvidenceBad) -> CheckResult:
    return CheckResult(Verdict.WITHHELD, detail={"reason": str(error)})
