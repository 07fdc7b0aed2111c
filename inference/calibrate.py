"""Fit a stage's tolerances to honest runs: decode step by step, replay in one pass, look how far they lie apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from inference.classes import ExecutionClass, to_float32
from inference.compare import Rows, RowStatistics, StageTolerance, row_errors, statistics
from inference.executor import StageExecutor
from inference.loader import load_stage
from inference.replay import mean_token_margin, replay_stage
from protocol.manifest import Manifest
from protocol.sampling import SamplingParameters, sample
from protocol.units import LayerRange

PROMPTS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explique en une phrase ce qu'est une blockchain.",
    "List three prime numbers and say why they are prime.",
    "def fibonacci(n):",
    "Wie viele Tage hat ein Jahr, und warum gibt es Schaltjahre?",
)
NEW_TOKENS = 24
TAIL_SIGMAS = 6.0
"""Limits lie this many standard deviations above the mean of the logarithm."""
LEAST_HEADROOM = 4.0
"""And never closer than this factor to the worst honest run seen: few runs say little about the tail."""
FLOOR = 1e-6
"""Below this a statistic is float32 rounding and its spread means nothing."""
MARGIN_FLOOR = 1e-3
"""The same for logits: two honest runs differ by about 1e-4 there, which decides only between tokens that tie."""


@dataclass(frozen=True)
class HonestRun:
    """One prompt's rows at one stage, decoded step by step. ``tokens`` on the last stage only, with the position they start from."""

    rows_in: torch.Tensor
    rows_out: Rows
    tokens: list[int]
    first: int


def calibrate(folder: Path, cuts: Sequence[LayerRange], class_name: str, prompts: Sequence[str] = PROMPTS) -> list[StageTolerance]:
    """Tolerances for each layer range, from runs in ``class_name`` replayed in the same class with each attention kernel."""
    execution = ExecutionClass.parse(class_name)
    manifest = Manifest.read(folder)
    other = "eager" if execution.attention == "sdpa" else "sdpa"
    stages, replayers = (
        [StageExecutor(load_stage(folder, layers, execution.dtype, manifest, attention)) for layers in cuts]
        for attention in (execution.attention, other)
    )
    return fit(folder, stages, [stages, replayers], class_name, prompts)


def fit(
    folder: Path, stages: Sequence[StageExecutor], replayers: Sequence[Sequence[StageExecutor]], class_name: str, prompts: Sequence[str]
) -> list[StageTolerance]:
    """Decode the prompts through ``stages``, replay each stage by every set of ``replayers`` and fit limits to how far they lie apart."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    runs = [_decode(stages, tokenizer(prompt)["input_ids"]) for prompt in prompts]
    table = []
    for index, stage in enumerate(stages):
        honest = [run[index] for run in runs]
        spread = np.concatenate([run.rows_out for run in honest]).std(axis=0).astype(np.float32)
        found, margins = [], []
        for executors in replayers:
            for run in honest:
                replay = replay_stage(executors[index], run.rows_in)
                found.append(statistics(row_errors(run.rows_out, replay.rows, spread)))
                if replay.logits is not None:
                    margins.append(mean_token_margin(replay.logits, run.tokens, run.first, SamplingParameters()))
        limits = RowStatistics(_limit([s.mean for s in found]), _limit([s.window for s in found]), _limit([s.quantile for s in found]))
        margin = _limit(margins or [0.0], MARGIN_FLOOR)
        table.append(StageTolerance(stage.stage.layers, class_name, class_name, spread, limits, margin))
    return table


def _decode(stages: Sequence[StageExecutor], prompt: list[int]) -> list[HonestRun]:
    """Greedy decoding through the split model, keeping each stage's rows."""
    sessions = [stage.open_session() for stage in stages]
    rows_in: list[list[torch.Tensor]] = [[] for _ in stages]
    rows_out: list[list[Rows]] = [[] for _ in stages]
    tokens: list[int] = []
    feed = torch.tensor(prompt)
    position = -1
    for _ in range(NEW_TOKENS):
        rows = feed
        for i, (stage, session) in enumerate(zip(stages, sessions, strict=True)):
            rows_in[i].append(rows)
            out = stage.forward(session, rows)
            rows = out.rows
            rows_out[i].append(to_float32(rows))
        assert out.logits is not None
        position += len(feed)
        tokens.append(sample(out.logits[-1].numpy(), SamplingParameters(), position))
        feed = torch.tensor(tokens[-1:])
    last = len(stages) - 1
    return [
        HonestRun(torch.cat(ins), np.concatenate(outs), tokens if i == last else [], len(prompt) - 1)
        for i, (ins, outs) in enumerate(zip(rows_in, rows_out, strict=True))
    ]


def _limit(seen: Sequence[float], floor: float = FLOOR) -> float:
    """The upper tail of a log-normal fitted to what honest runs gave, with the least headroom over their worst."""
    logs = np.log(np.maximum(np.asarray(seen), floor))
    return float(max(np.exp(logs.mean() + TAIL_SIGMAS * logs.std()), np.exp(logs.max()) * LEAST_HEADROOM))


def cut_ranges(layer_count: int, cuts: Sequence[int]) -> Iterator[LayerRange]:
    """The stages between the given cut points, as 10, 20 of 30 gives 0-10, 10-20, 20-30."""
    edges = [0, *cuts, layer_count]
    for first, end in pairwise(edges):
        yield LayerRange(first, end)
