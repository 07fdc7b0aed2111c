"""Carry out one check: rows in, replay, commit, rows out, compare. Needs torch; runs in a replay worker."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inference.classes import ExecutionClass, rows_from_bytes
from inference.compare import StageTolerance, Verdict, judge, row_errors, statistics
from inference.executor import StageExecutor
from inference.loader import load_stage
from inference.prepare import read_tolerances
from inference.replay import Replay, mean_token_margin, replay_stage
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
    """Holds the stages that this worker has loaded, each checked against the manifest."""

    def __init__(self, folder: Path, tolerances: Sequence[StageTolerance]) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.tolerances = {(entry.layers, entry.claimed_class): entry for entry in tolerances}
        self._stages: dict[tuple[LayerRange, str], StageExecutor] = {}

    def stage(self, layers: LayerRange, class_name: str) -> StageExecutor:
        key = (layers, class_name)
        if key not in self._stages:
            execution = ExecutionClass.parse(class_name)
            self._stages[key] = StageExecutor(load_stage(self.folder, layers, execution.dtype, self.manifest, execution.attention))
        return self._stages[key]

    def replay(self, evidence: Evidence) -> Replay:
        """Replay a stage from its committed rows in."""
        class_name = EXECUTION_CLASSES[evidence.offer.execution_class]
        executor = self.stage(evidence.receipt.layers, class_name)
        raw, count = b"".join(evidence.payloads), len(evidence.payloads)
        if evidence.receipt.first_layer == 0:
            rows = torch.frombuffer(bytearray(raw), dtype=torch.int64)
        else:
            rows = rows_from_bytes(raw, count, ExecutionClass.parse(class_name).dtype)
        return replay_stage(executor, rows)

    def compare(self, evidence: Evidence, replay: Replay) -> tuple[Verdict, dict[str, float | str]]:
        """Judge the rows out by the calibrated limits of that layer range and class."""
        class_name = EXECUTION_CLASSES[evidence.offer.execution_class]
        tolerance = self.tolerances.get((evidence.receipt.layers, class_name))
        if tolerance is None:
            return Verdict.INCONCLUSIVE, {"reason": f"layers {evidence.receipt.layers} in {class_name} are not calibrated"}
        width = replay.rows.shape[1] * ExecutionClass.parse(class_name).dtype.itemsize
        raw = b"".join(payload[:width] for payload in evidence.payloads)
        claimed = rows_from_bytes(raw, len(evidence.payloads), ExecutionClass.parse(class_name).dtype).float().numpy()
        first = evidence.offer.first_position
        expected = replay.rows[first:]
        if claimed.shape != expected.shape:
            raise EvidenceBad(f"{claimed.shape} rows out from position {first} on for {replay.rows.shape} rows in")
        found = statistics(row_errors(claimed, expected, tolerance.channel_spread))
        margin = 0.0
        if replay.logits is not None:
            if len(evidence.before) != evidence.offer.generated:
                raise EvidenceBad(f"{len(evidence.before)} tokens are given before position {first}, the offer counts {evidence.offer.generated}")
            at = max(first, evidence.offer.prompt_tokens - 1)
            margin = mean_token_margin(replay.logits, sampled_tokens(evidence), at, evidence.sampling, evidence.before)
        detail: dict[str, float | str] = {"mean": found.mean, "window": found.window, "quantile": found.quantile, "margin": margin}
        detail |= {"mean_limit": tolerance.limits.mean, "margin_limit": tolerance.margin}
        return judge(found, tolerance, margin), detail


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
        replay = replayer.replay(rows_in)
        opening = secrets.token_bytes(32)
        commitment = replay_commitment(opening, np.ascontiguousarray(replay.rows, dtype="<f4").tobytes())
        committed(commitment, opening)
        rows_out = await client.rows(provider, number, ROWS_OUT, duty_signature, dispute_id, commitment)
        verdict, detail = replayer.compare(rows_out, replay)
    except EvidenceBad as error:
        return CheckResult(Verdict.WITHHELD, detail={"reason": str(error)})
    return CheckResult(verdict, commitment, opening, detail)
