"""Reproduce a tolerance table before vouching for it: honest runs on this machine, on prompts calibration has not seen, must pass its limits."""

from collections.abc import Sequence

import numpy as np
import torch

from inference.classes import to_float32
from inference.compare import Rows, StageTolerance, Verdict, findings, judge
from inference.honest import Job, decode, encode
from inference.prompts import Part, prompts
from inference.replay import StageReplayer
from protocol.sampling import SamplingParameters
from protocol.units import LayerRange
from verifier.checks import Replayer

JOBS, TOKENS, MACHINES = 2, 4, 4
WIDEST = {"float32": 5e-3, "bfloat16": 0.05, "bfloat16+int8": 0.05}
"""Protocol bounds: how far from the reference, relative to their size, a table may let the mean of 32 rows of a precision lie."""


def reproduces(replayer: Replayer, table: Sequence[StageTolerance]) -> bool:
    """Whether honest runs here pass the table at every stage of its narrowest cut, and its limits are within the protocol's bounds.

    A table tighter than what this machine reproduces would convict honest stages; one much wider would let cheats pass.
    """
    precisions = sorted({entry.precision for entry in table})
    return all(bounded(entry) for entry in table) and all(_passes(replayer, [e for e in table if e.precision == p], p) for p in precisions)


def bounded(entry: StageTolerance) -> bool:
    """Whether the entry's limits lie within the protocol's bounds for its precision."""
    widest = max(rows.limit(32, entry.fail) for rows in (entry.size.prompt, entry.size.served))
    return entry.precision in WIDEST and entry.noise * float(np.exp(widest)) < WIDEST[entry.precision]


def _passes(replayer: Replayer, entries: Sequence[StageTolerance], precision: str) -> bool:
    by_range = {entry.layers: entry for entry in entries}
    stages = [replayer.stage(layers, precision) for layers in narrowest(sorted(by_range))]
    # The shortest of some: what is to be seen is this machine's arithmetic, and other checks wait meanwhile.
    ids = sorted(encode(replayer.folder, prompts(Part.HELD_OUT, 8 * JOBS, seed=2)), key=len)[:JOBS]
    if stages[0].reference.encoder is not None:
        return _passes_texts(stages[0], by_range[stages[0].layers], torch.tensor([token for text in ids for token in text]))
    jobs = decode([stage.twin or stage.reference for stage in stages], [Job(found, SamplingParameters()) for found in ids], TOKENS)
    return all(
        _verdict(stage, by_range[stage.layers], job.rows_in[i], to_float32(job.rows_out[i]), job.first) is not Verdict.FAIL
        for job in jobs
        for i, stage in enumerate(stages)
    )


def _passes_texts(stage: StageReplayer, entry: StageTolerance, texts: torch.Tensor) -> bool:
    """The same for an encoder, from whose rows no token is drawn: by another kernel, and each text alone where the replay runs them together."""
    return all(_verdict(stage, entry, texts, claimed, 0) is not Verdict.FAIL for claimed in stage.variants(texts, MACHINES))


def _verdict(stage: StageReplayer, entry: StageTolerance, rows_in: torch.Tensor, claimed: Rows, first: int) -> Verdict:
    replay = stage.replay(rows_in)
    return judge(findings(entry.errors(claimed, replay), first), entry)


def narrowest(ranges: Sequence[LayerRange]) -> list[LayerRange]:
    """The narrowest calibrated stages that follow one another from layer 0."""
    chosen: list[LayerRange] = []
    edge = 0
    while candidates := [r for r in ranges if r.first == edge]:
        least = min(candidates, key=lambda r: r.end)
        chosen.append(least)
        edge = least.end
    return chosen
