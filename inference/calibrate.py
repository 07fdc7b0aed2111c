"""Fit a stage's tolerances to honest runs: decode step by step, replay in one pass, look how far they lie apart.

Run as ``python -m inference.calibrate FOLDER [--cuts 10,20] [--precisions NAME,...] [--jobs N]``; ``funcnet model calibrate`` does.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from scipy import stats

from inference import LoadError
from inference.classes import ExecutionClass, to_float32
from inference.compare import (
    EXACT,
    FAIL_CHANCE,
    LOOK_CHANCE,
    TOKEN_CAP,
    PairSpread,
    Replay,
    Rows,
    Spread,
    StageTolerance,
    TokenSpread,
    alignments,
    distance,
    joint_score,
    row_errors,
)
from inference.devices import devices
from inference.encoder import encoder_of, open_stage
from inference.executor import StageExecutor
from inference.honest import Job, JobRows, decode, encode
from inference.linears import unblocked
from inference.loader import read_config
from inference.prompts import Part, prompts
from inference.replay import StageReplayer
from protocol.manifest import TOLERANCE_FILE, Manifest
from protocol.sampling import SamplingParameters
from protocol.units import LayerRange

PRECISIONS = ("float32", "bfloat16", "bfloat16+int8")
KERNELS = ("sdpa", "eager")
JOBS, NEW_TOKENS = 64, 24
BATCHES = (5, 1, 16)
"""Jobs are decoded together in ragged batches of these sizes in turn."""
SPARE_SINGLES = 8
"""How many of the jobs at most run alone: batches of one are slow."""
FEW_ROWS = 8
CONFIDENCE = 0.95
LEAST_DEVIATION, LEAST_ALIGNMENT = 0.02, 0.005
"""A spread between jobs below this is that of too few runs, and leaves nothing for another machine: of errors, and of alignments."""
LEAST_NOISE = 1e-9


@dataclass
class StageSample:
    """What one layer range's honest runs gave, by job."""

    rows_out: list[Rows] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    prompt_rows: list[int] = field(default_factory=list)
    margins: list[list[float]] = field(default_factory=list)

    def take(self, replayer: StageReplayer, job: JobRows, rows_in: torch.Tensor, rows_out: Rows) -> None:
        """Replay the stage's part of an honest job and note what was found."""
        self.rows_out.append(rows_out)
        self.replays.append(replayer.replay(rows_in))
        self.prompt_rows.append(job.first)
        if replayer.samples:
            self.margins += replayer.margins([job.claim])

    def take_texts(self, executor: StageExecutor, replayer: StageReplayer, texts: Sequence[list[int]]) -> None:
        """The same for texts that an encoder runs together, each cut to what it takes."""
        assert executor.encoder is not None
        most = executor.encoder.context
        rows_in = [torch.tensor(text if len(text) <= most else [*text[: most - 1], text[-1]]) for text in texts]
        outs = executor.step([(executor.open_session(), rows) for rows in rows_in])
        self.rows_out += [to_float32(out.rows) for out in outs]
        self.replays += replayer.replay_batch(rows_in)
        self.prompt_rows += [0] * len(outs)

    def fit(self, layers: LayerRange, precision: str) -> StageTolerance:
        """The tolerance that these runs support."""
        served_rows = [rows[first:] for rows, first in zip(self.rows_out, self.prompt_rows, strict=True)]
        spread = np.concatenate(served_rows).std(axis=0).astype(np.float32)
        distances = np.concatenate([distance(rows, r.reference, spread) for rows, r in zip(self.rows_out, self.replays, strict=True)])
        noise = float(np.median(distances[distances > 0])) if (distances > 0).any() else LEAST_NOISE
        runs = list(zip(self.rows_out, self.replays, strict=True))
        size = self._pair([row_errors(rows, r.reference, r.twin, spread, noise) for rows, r in runs], LEAST_DEVIATION)
        aligned = [alignments(rows, r.reference, r.probe, spread) for rows, r in runs if r.probe is not None]
        probe = self._pair(aligned, LEAST_ALIGNMENT) if aligned else None
        capped = np.minimum(np.concatenate([np.zeros(0), *map(np.asarray, self.margins)]), TOKEN_CAP)
        tokens = TokenSpread(float(capped.mean()), float(capped.var())) if len(capped) else None
        fail, look = (tolerance_factor(chance, len(runs)) for chance in (FAIL_CHANCE, LOOK_CHANCE))
        return StageTolerance(layers, precision, spread, noise, size, probe, tokens, fail, look, len(runs))

    def _pair(self, jobs: Sequence[NDArray[np.float64]], least: float) -> PairSpread:
        """The spread of one kind of error, given by job and row."""
        cut = list(zip(jobs, self.prompt_rows, strict=True))
        prompt, served = [found[:first] for found, first in cut if first], [found[first:] for found, first in cut]
        before, after = spread_of(prompt or served, least), spread_of(served, least)
        together = [
            joint_score(before.score(float(found[:first].mean()), first), after.score(float(found[first:].mean()), len(found) - first))
            for found, first in cut
            if first
        ]
        return PairSpread(before, after, max(1.0, float(np.sqrt(np.mean(np.square(together))))) if together else 1.0)


def calibrate(
    folder: Path,
    cuts: Sequence[LayerRange],
    precision: str,
    jobs: int = JOBS,
    part: Part = Part.CALIBRATION,
    say: Callable[[str], None] = lambda _: None,
) -> list[StageTolerance]:
    """Tolerances for each of the ``cuts``, which follow one another from layer 0 to the last, and for the whole model, in one precision.

    Honest variety: attention kernels, in float32 oneDNN's products and torch's own, batches of one and ragged ones, one thread and all, greedy and
    sampled at several temperatures; where there is a GPU, runs on it and on the CPU, each replayed on either.
    """
    execution = ExecutionClass.parse(f"{precision}/{KERNELS[0]}")
    manifest = Manifest.read(folder)
    ranges = list(dict.fromkeys([*cuts, LayerRange(cuts[0].first, cuts[-1].end)]))
    replayers = {device: [StageReplayer.load(folder, layers, execution, manifest, device) for layers in ranges] for device in devices()}
    libraries = (True, False) if execution.precision == EXACT else (True,)
    machines = list(product(KERNELS, libraries, devices(), devices()))
    samples = [StageSample() for _ in ranges]
    parts = np.array_split(np.arange(jobs), len(machines))
    prompt_ids = encode(folder, prompts(part, jobs))
    threads = torch.get_num_threads()
    for (kernel, onednn, device, replaying), indices in zip(machines, parts, strict=True):
        stages = [open_stage(folder, layers, execution.dtype, manifest, kernel, execution.int8, device) for layers in cuts]
        with ExitStack() as stack:
            for stage in [] if onednn else stages:
                stack.enter_context(unblocked(stage.stage.model))
            for batch, size in batches([int(i) for i in indices]):
                started = time.monotonic()
                torch.set_num_threads(1 if size == BATCHES[-1] else threads)
                if stages[0].encoder is not None:
                    samples[0].take_texts(stages[0], replayers[replaying][0], [prompt_ids[i] for i in batch])
                    torch.set_num_threads(threads)
                    continue
                for rows in decode(stages, [Job(prompt_ids[i], _sampling(i)) for i in batch], NEW_TOKENS):
                    for sample, replayer in zip(samples, replayers[replaying], strict=True):
                        first = next(i for i, layers in enumerate(cuts) if layers.first == replayer.layers.first)
                        last = next(i for i, layers in enumerate(cuts) if layers.end == replayer.layers.end)
                        sample.take(replayer, rows, rows.rows_in[first], to_float32(rows.rows_out[last]))
                torch.set_num_threads(threads)
                say(f"{precision}/{kernel}, {device}: {len(batch)} jobs in a batch, {time.monotonic() - started:.0f} s")
    return [sample.fit(layers, precision) for sample, layers in zip(samples, ranges, strict=True)]


def batches(indices: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Cut a list of jobs into batches of the sizes in turn, of which few are of one; (batch, the size it was meant to have)."""
    rest, turn, singles = list(indices), 0, 0
    while rest:
        size = BATCHES[turn % len(BATCHES)]
        turn += 1
        if size == 1:
            singles += 1
            if singles > SPARE_SINGLES // len(KERNELS):
                continue
        yield rest[:size], size
        rest = rest[size:]


def _sampling(index: int) -> SamplingParameters:
    """Every second job is greedy; the others take turns in temperature, top-k and top-p."""
    if index % 2 == 0:
        return SamplingParameters()
    kinds: tuple[dict[str, float], ...] = ({"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.0, "top_k": 40})
    return SamplingParameters.from_json({**kinds[index // 2 % len(kinds)], "seed": index})


def spread_of(jobs: Sequence[NDArray[np.float64]], deviation: float) -> Spread:
    """Variance between jobs and within them, such that both the mean of few rows and that of all are as spread as they were seen to be, each
    ``deviation`` at least."""
    few = np.array([errors[:FEW_ROWS].mean() for errors in jobs])
    every = np.array([errors.mean() for errors in jobs])
    count = 1 / np.mean([1 / len(errors) for errors in jobs])
    least = deviation**2
    row = max((few.var(ddof=1) - every.var(ddof=1)) / max(1 / FEW_ROWS - 1 / count, 1e-9), least) if count > FEW_ROWS else few.var(ddof=1)
    job = max(every.var(ddof=1) - row / count, least)
    # No less than the rows' own spread says, for few rows.
    within = float(np.mean([errors.var() for errors in jobs]))
    return Spread(float(every.mean()), float(np.sqrt(job)), float(np.sqrt(max(row, within))))


def tolerance_factor(chance: float, runs: int) -> float:
    """Standard deviations above the mean that a normal exceeds with at most ``chance``, said with 95 % confidence from ``runs`` samples.

    One-sided tolerance interval by the noncentral t distribution: NIST/SEMATECH e-Handbook, section 7.2.6.3.
    """
    if runs < 2:
        raise LoadError(f"{runs} honest runs say nothing about a spread; give at least 2")
    return float(stats.nct.ppf(CONFIDENCE, runs - 1, stats.norm.isf(chance) * np.sqrt(runs)) / np.sqrt(runs))


def cut_ranges(layer_count: int, cuts: Sequence[int]) -> Iterator[LayerRange]:
    """The stages between the given cut points, as 10, 20 of 30 gives 0-10, 10-20, 20-30."""
    edges = [0, *cuts, layer_count]
    for first, end in pairwise(edges):
        yield LayerRange(first, end)


def write_tolerances(
    folder: Path, cuts: Sequence[int] = (), precisions: Sequence[str] = PRECISIONS[:1], jobs: int = JOBS, say: Callable[[str], None] = print
) -> None:
    """Calibrate the model cut at the given layers (in thirds where none are given, an encoder not at all) and whole, and write the table.

    Raises LoadError.
    """
    count = read_config(folder).get_text_config(decoder=True).num_hidden_layers
    if encoder_of(folder) is not None:
        if cuts:
            raise LoadError(f"{folder.name} makes vectors and is not cut; leave the cuts out")
    else:
        cuts = cuts or sorted({count // 3, 2 * count // 3} - {0})
        if list(cuts) != sorted(set(cuts)) or not 0 < cuts[0] <= cuts[-1] < count:
            raise LoadError(f"cuts {', '.join(map(str, cuts))} do not rise between 1 and {count - 1}, the last of the model's layers")
    table: list[StageTolerance] = []
    for precision in precisions:
        table += calibrate(folder, list(cut_ranges(count, cuts)), precision, jobs, say=say)
    partial = folder / f"{TOLERANCE_FILE}.part"
    partial.write_text("[" + ",\n".join(entry.encode().decode() for entry in table) + "]\n")
    partial.rename(folder / TOLERANCE_FILE)


def read_tolerances(folder: Path) -> list[StageTolerance]:
    """Raises LoadError where the model was not calibrated, or by an older release."""
    path = folder / TOLERANCE_FILE
    if not path.is_file():
        raise LoadError(f"{folder} holds no {TOLERANCE_FILE}; run `funcnet model calibrate {folder}`")
    try:
        return [StageTolerance.decode(json.dumps(entry)) for entry in json.loads(path.read_text())]
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{path} is no tolerance table of this release ({error}); run `funcnet model calibrate {folder}`") from error


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit tolerances to honest runs of a prepared model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", default="")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--jobs", type=int, default=JOBS)
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        cuts = [int(cut) for cut in given.cuts.split(",") if cut]
        write_tolerances(given.folder, cuts, given.precisions.split(","), given.jobs, lambda line: print(line, flush=True))
    except (LoadError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
