"""Carry out one check: rows in, replay, commit, rows out, compare. Needs torch; runs in a replay worker."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inference import InferenceError
from inference.calibrate import read_tolerances
from inference.classes import ExecutionClass, rows_from_bytes, to_float32
from inference.compare import FAIL_CHANCE, Replay, StageTolerance, Verdict, drift_score, findings, judge, limits
from inference.executor import StageExecutor
from inference.loader import load_stage
from inference.replay import StageReplayer
from protocol.duties import replay_commitment
from protocol.manifest import Manifest, ModelShelf
from protocol.receipts import EXECUTION_CLASSES
from protocol.typed import ZERO32
from protocol.units import LayerRange
from verifier import EvidenceBad
from verifier.evidence import ROWS_IN, ROWS_OUT, Evidence, EvidenceClient

TOKEN_BYTES = 8


@dataclass(frozen=True)
class CheckResult:
    """``commitment`` was given before rows out were seen; ``opening`` is its salt. ``detail``: the statistics, for people."""

    verdict: Verdict
    commitment: bytes = ZERO32
    opening: bytes = ZERO32
    detail: dict[str, float | str] | None = None


class Replayers:
    """A replayer for each model that is on this machine."""

    def __init__(self, shelf: ModelShelf) -> None:
        self.shelf = shelf
        self._known: dict[bytes, Replayer] = {}

    def of(self, model_id: bytes) -> "Replayer | None":
        """None for a model that is not here."""
        if model_id not in self._known:
            folder = self.shelf.folders().get(model_id)
            if folder is None:
                return None
            self._known[model_id] = Replayer(folder, read_tolerances(folder))
        return self._known[model_id]


class Replayer:
    """Holds the stages of one model that this worker has loaded, each checked against the manifest."""

    def __init__(self, folder: Path, tolerances: Sequence[StageTolerance]) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.tolerances = {(entry.layers, entry.precision): entry for entry in tolerances}
        self._loaded: dict[tuple[LayerRange, torch.dtype, bool], StageExecutor] = {}

    def stage(self, layers: LayerRange, precision: str) -> StageReplayer:
        """Loaded when it is first asked for; precisions share what they can. Raises LoadError, TensorMismatch or CutError."""

        def executor(dtype: torch.dtype, int8: bool) -> StageExecutor:
            key = (layers, dtype, int8)
            if key not in self._loaded:
                self._loaded[key] = StageExecutor(load_stage(self.folder, layers, dtype, self.manifest, int8=int8))
            return self._loaded[key]

        return StageReplayer.of(ExecutionClass.parse(f"{precision}/sdpa"), executor)

    def replay(self, evidence: Evidence) -> Replay:
        """Replay a stage from its committed rows in. Raises EvidenceBad for rows that do not fit the model."""
        execution = _execution(evidence)
        stage = self.stage(evidence.receipt.layers, execution.precision)
        raw, count = b"".join(evidence.payloads), len(evidence.payloads)
        if evidence.receipt.first_layer == 0:
            rows = torch.frombuffer(bytearray(raw), dtype=torch.int64)
        else:
            rows = rows_from_bytes(raw, count, execution.dtype)
        return stage.replay(rows)

    def compare(self, evidence: Evidence, replay: Replay) -> tuple[Verdict, dict[str, float | str]]:
        """Judge the rows out, and on the last stage the tokens, by the calibrated limits of that layer range and precision."""
        execution, offer = _execution(evidence), evidence.offer
        tolerance = self.tolerances.get((evidence.receipt.layers, execution.precision))
        if tolerance is None:
            return Verdict.INCONCLUSIVE, {"reason": f"layers {evidence.receipt.layers} in {execution.precision} are not calibrated"}
        width = replay.reference.shape[1] * execution.dtype.itemsize
        raw = b"".join(payload[:width] for payload in evidence.payloads)
        claimed = to_float32(rows_from_bytes(raw, len(evidence.payloads), execution.dtype))
        first = offer.first_position
        served = replay.since(first)
        if claimed.shape != served.reference.shape:
            raise EvidenceBad(f"{claimed.shape} rows out from position {first} on for {replay.reference.shape} rows in")
        errors = tolerance.errors(claimed, served)
        at = max(first, offer.prompt_tokens - 1)
        stage, margins = self.stage(evidence.receipt.layers, execution.precision), []
        if stage.is_last:
            if len(evidence.before) != offer.generated:
                raise EvidenceBad(f"{len(evidence.before)} tokens are given before position {first}, the offer counts {offer.generated}")
            margins = stage.margins(claimed[at - first :], sampled_tokens(evidence), at, evidence.sampling, evidence.before)
        found = findings(errors, at - first, margins)
        detail: dict[str, float | str] = {"stage": f"{evidence.receipt.layers}/{execution.precision}", "score": drift_score(found, tolerance)}
        for name, (value, limit) in limits(found, tolerance, tolerance.fail, FAIL_CHANCE).items():
            detail |= {name: value, f"{name}_limit": limit}
        return judge(found, tolerance), detail


def _execution(evidence: Evidence) -> ExecutionClass:
    return ExecutionClass.parse(EXECUTION_CLASSES[evidence.offer.execution_class])


def sampled_tokens(evidence: Evidence) -> list[int]:
    """The tokens that the last stage committed to, from the end of the prompt on, or from where it took over."""
    marks = [int.from_bytes(payload[-TOKEN_BYTES:], "little", signed=True) for payload in evidence.payloads]
    return marks[max(0, evidence.offer.prompt_tokens - 1 - evidence.offer.first_position) :]


async def check(
    client: EvidenceClient,
    replayers: Replayers,
    provider: str,
    number: int,
    duty_signature: bytes,
    dispute_id: int,
    committed: Callable[[bytes, bytes], None],
) -> CheckResult:
    """One check from start to verdict; ``committed`` is told commitment and opening before rows out are asked for.

    Raises EvidenceMissing where the provider does not serve; evidence that is served and does not fit is WITHHELD.
    """
    try:
        rows_in = await client.rows(provider, number, ROWS_IN, duty_signature, dispute_id)
        replayer = replayers.of(rows_in.receipt.model_id)
        if replayer is None:
            return CheckResult(Verdict.INCONCLUSIVE, detail={"reason": f"model 0x{rows_in.receipt.model_id.hex()} is not on this machine"})
        try:
            replay = replayer.replay(rows_in)
        except InferenceError as error:
            # A verifier may hold only some of a model's layers. What it cannot run it says nothing about.
            return CheckResult(Verdict.INCONCLUSIVE, detail={"reason": str(error)})
        opening = secrets.token_bytes(32)
        commitment = replay_commitment(opening, np.ascontiguousarray(replay.reference, dtype="<f4").tobytes())
        committed(commitment, opening)
        rows_out = await client.rows(provider, number, ROWS_OUT, duty_signature, dispute_id, commitment)
        verdict, detail = replayer.compare(rows_out, replay)
    except EvidenceBad as error:
        return CheckResult(Verdict.WITHHELD, detail={"reason": str(error)})
    return CheckResult(verdict, commitment, opening, detail)
