"""What replay finds, and whom it accuses wrongly: honest jobs and cheats of one stage in bfloat16, on held-out prompts, judged by the model's table.

Every job is decoded step by step through three stages and each stage is replayed from its own rows in, exactly as a verifier's worker does. A cheat's
*tokens* is the least number of sampled tokens of 1, 2, 4, ... after which its stage FAILs; the stage is *named* where no other one does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from eth_abi import encode as abi_encode
from scipy import stats

from bench._receipts import share_of_receipts
from inference.calibrate import cut_ranges, read_tolerances
from inference.classes import ExecutionClass, to_float32
from inference.compare import Replay, RowErrors, Rows, StageTolerance, Verdict, drift_score, findings, judge, stands
from inference.executor import StageExecutor
from inference.honest import Job, JobRows, Sampler, decode, encode
from inference.loader import load_stage
from inference.prompts import Part, prompts
from inference.replay import StageReplayer
from protocol.sampling import SamplingParameters, sample
from tests.adversaries.compute import COMPUTE, INT4, round_weights
from verifier.drift import ALARM, cusum

FOLDER = Path(".funcnet/models/smollm2-135m-instruct")
CLASS = "bfloat16/sdpa"
CUTS = (10, 20)
JOBS, HONEST, HONEST_TOKENS, BATCH = 8, 1_000, 8, 16
AUDIT_RATE = 0.02
SINGLE_TOKENS = 64
STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LONG_PROMPT = 96
ANCHORED_JOBS = 50
MOST_CHECKS = 1_000

WITHIN_8 = ("int4-weights", "int6-weights", "fp8-weights", "int8-weights", "kv-fp8", "kv-int8", "low-rank", "int4-one-layer")
AT_ONCE = ("swapped-layers", "shifted-rows", "other-job", "constant-row", "cached-answer")
BARS = {**dict.fromkeys(WITHIN_8, 8), **dict.fromkeys(AT_ONCE, 1), "int8-one-layer": 256, "wrong-seed": 64, "other-model-text": 32}
TOKENS = {"kv-int8-past": 32, "low-rank-attention": 32, "int8-one-layer-grouped": 64}
"""How many tokens a cheat's jobs have, where it is not its bar or 16."""


@dataclass(frozen=True)
class Checked:
    """One job after its replay: each stage's verdict on its first ``tokens`` tokens, by a function of their number."""

    guilty: int
    tokens: int
    verdicts: dict[int, list[Verdict]]
    """By number of tokens, for each stage."""
    scores: list[float]
    """Each stage's part in its provider's drift, after all tokens."""

    @property
    def detected_at(self) -> int | None:
        return next((n for n, found in sorted(self.verdicts.items()) if found[self.guilty] is Verdict.FAIL), None)

    @property
    def named(self) -> bool:
        last = self.verdicts[max(self.verdicts)]
        return last[self.guilty] is Verdict.FAIL and not any(v is Verdict.FAIL for i, v in enumerate(last) if i != self.guilty)


class Bench:
    """The honest stages, their replayers and the table, loaded once."""

    def __init__(self, folder: Path, cuts: Sequence[int]) -> None:
        self.folder = folder
        self.execution = ExecutionClass.parse(CLASS)
        table = {(entry.layers, entry.precision): entry for entry in read_tolerances(folder)}
        count = max(entry.end for entry, _ in table)
        self.ranges = list(cut_ranges(count, cuts))
        self.tolerances: list[StageTolerance] = [table[(layers, self.execution.precision)] for layers in self.ranges]
        self.stages = [self.load(i) for i in range(len(self.ranges))]
        self.replayers = [StageReplayer.load(folder, layers, self.execution) for layers in self.ranges]
        self.replay_seconds = 0.0

    def load(self, index: int) -> StageExecutor:
        return StageExecutor(load_stage(self.folder, self.ranges[index], self.execution.dtype, attention=self.execution.attention))

    def jobs(self, count: int, seed: int, temperature: float = 0.0, longer_than: int = 0) -> list[Job]:
        """Held-out jobs, of another seed than any other call's."""
        ids = [found for found in encode(self.folder, prompts(Part.HELD_OUT, 40 * count if longer_than else count, seed)) if len(found) > longer_than]
        return [Job(found, SamplingParameters(temperature=temperature, seed=1000 * seed + i)) for i, found in enumerate(ids[:count])]

    def replay(self, rows: Sequence[JobRows]) -> list[list[Replay]]:
        """By job, each stage's replay."""
        started = time.perf_counter()
        by_stage = [replayer.replay_batch([job.rows_in[i] for job in rows]) for i, replayer in enumerate(self.replayers)]
        self.replay_seconds += time.perf_counter() - started
        return [list(found) for found in zip(*by_stage, strict=True)]

    def check(self, jobs: Sequence[JobRows], guilty: int = -1) -> list[Checked]:
        """Replay and judge every stage of each job, after all of its tokens and after fewer."""
        margins = self.replayers[-1].margins([job.claim for job in jobs])
        return [self._judge(*found, guilty) for found in zip(jobs, self.replay(jobs), margins, strict=True)]

    def _judge(self, job: JobRows, replays: Sequence[Replay], margins: Sequence[float], guilty: int) -> Checked:
        errors = [tolerance.errors(to_float32(rows), replay) for tolerance, rows, replay in zip(self.tolerances, job.rows_out, replays, strict=True)]
        total, honest = len(job.tokens), [Honest(self, i, job.rows_in[i], replay) for i, replay in enumerate(replays)]
        verdicts = {
            n: [self._verdict(honest[i], found, job.first, n, margins) for i, found in enumerate(errors)] for n in {*STEPS, total} if n <= total
        }
        scores = [drift_score(findings(found, job.first), tolerance) for found, tolerance in zip(errors, self.tolerances, strict=True)]
        return Checked(guilty, total, verdicts, scores)

    def _verdict(self, honest: "Honest", errors: RowErrors, first: int, tokens: int, margins: Sequence[float]) -> Verdict:
        errors, tolerance = errors.until(first + tokens), self.tolerances[honest.index]
        found = findings(errors, first, margins[:tokens] if self.replayers[honest.index].is_last else ())
        verdict = judge(found, tolerance)
        if verdict is Verdict.FAIL and not stands(found, errors, [one.until(first + tokens) for one in honest.errors], tolerance):
            return Verdict.INCONCLUSIVE
        return verdict


@dataclass(frozen=True)
class Honest:
    """What honest variants of a stage's work on a job are off by; computed where a FAIL has to stand against it."""

    bench: Bench
    index: int
    rows_in: torch.Tensor
    replay: Replay

    @cached_property
    def errors(self) -> list[RowErrors]:
        tolerance = self.bench.tolerances[self.index]
        return [tolerance.errors(rows, self.replay) for rows in self.bench.replayers[self.index].variants(self.rows_in)]


def run(quick: bool) -> dict[str, Any]:
    """The table; ``quick`` takes fewer honest jobs."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    bench = Bench(FOLDER, CUTS)
    overhead = _overheads(bench)
    honest = honest_part(bench, HONEST if quick else 3 * HONEST)
    adversaries = []
    for name, found in _cheats(bench):
        adversaries.append(row_of(name, found))
        print(line_of(adversaries[-1]), flush=True)
    rows = [
        _bar("false alarms, upper bound of 95 %", honest["false_alarm_upper95"], 0.001, "ratio"),
        _bar("verifier's compute at a rate of 2 %, of generation", overhead["verifier_share"], 0.005, "ratio"),
        _bar("provider's work for receipts, of generation", overhead["provider_overhead"], 0.01, "ratio"),
        _bar("published proof", overhead["proof_bytes_per_token"], 1.0, "B/token"),
    ]
    return {"rows": rows, "adversaries": adversaries, **honest, **overhead}


def honest_part(bench: Bench, count: int) -> dict[str, Any]:
    checked: list[Checked] = []
    jobs = bench.jobs(count, 1)
    # Greedy and sampled in turn; ragged batches of prompts that are of about a length, as a scheduler makes them.
    jobs = [job if i % 2 else Job(job.prompt, SamplingParameters(temperature=0.8, seed=i)) for i, job in enumerate(jobs)]
    jobs.sort(key=lambda job: len(job.prompt))
    for first in range(0, len(jobs), BATCH):
        checked += bench.check(decode(bench.stages, jobs[first : first + BATCH], HONEST_TOKENS))
    verdicts = [verdict for job in checked for verdict in job.verdicts[job.tokens]]
    alarms = verdicts.count(Verdict.FAIL)
    return {
        "honest_checked": len(verdicts),
        "false_alarms": alarms,
        "false_alarm_rate": alarms / len(verdicts),
        # Clopper and Pearson's bound.
        "false_alarm_upper95": float(stats.beta.ppf(0.95, alarms + 1, len(verdicts) - alarms)),
        "inconclusive_rate": verdicts.count(Verdict.INCONCLUSIVE) / len(verdicts),
        # A slash needs every judge of a small network to find the same on rows that are signed: a false alarm is as many false slashes at most.
        "false_slashes": alarms,
        # As they would come to one provider at each stage: in any order but by length, which the batches had.
        "drift_alarms": sum(_drift_alarms([checked[i].scores[stage] for i in _shuffled(len(checked))]) for stage in range(len(bench.stages))),
    }


def _shuffled(count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(1).permutation(count)]


def _drift_alarms(scores: Sequence[float]) -> int:
    """How often the sum reaches the alarm, from nothing again each time."""
    total, alarms = 0.0, 0
    for score in scores:
        total = cusum(total, score)
        if total >= ALARM:
            total, alarms = 0.0, alarms + 1
    return alarms


def _checks_to_alarm(found: Sequence[Checked]) -> int | None:
    """Checks of a cheat that never stops, until it is distrusted, at the stage where that takes longest; its jobs come again and again."""
    longest = 0
    for stage in {job.guilty for job in found}:
        scores = [job.scores[stage] for job in found if job.guilty == stage]
        total, checks = 0.0, 0
        while total < ALARM:
            total, checks = cusum(total, scores[checks % len(scores)]), checks + 1
            if checks == MOST_CHECKS:
                return None
        longest = max(longest, checks)
    return longest


def _cheats(bench: Bench) -> Iterator[tuple[str, list[Checked]]]:
    for seed, name in enumerate(COMPUTE, 100):
        yield name, list(computing(bench, name, seed))
    for seed, (name, (sampler, temperature)) in enumerate(SAMPLERS.items(), 200):
        tokens = BARS.get(name, 64)
        jobs = bench.jobs(JOBS, seed, temperature)
        yield name, bench.check(decode(bench.stages, jobs, tokens, sampler), len(bench.stages) - 1)
    yield "other-model-text", _other_text(bench, 300)
    for seed, (name, change) in enumerate(ROWS.items(), 400):
        yield name, list(_changed_rows(bench, change, seed))


def computing(bench: Bench, name: str, seed: int) -> Iterator[Checked]:
    """The cheat at each stage in turn, its jobs shared among them."""
    tokens = TOKENS.get(name, BARS.get(name, 16))
    single = name == "sliding-window"
    jobs = bench.jobs(JOBS, seed, longer_than=LONG_PROMPT if single else 0)
    for stage, chosen in enumerate(np.array_split(np.arange(len(jobs)), len(bench.stages))):
        cheat = bench.load(stage)
        COMPUTE[name](cheat)
        stages = [*bench.stages[:stage], cheat, *bench.stages[stage + 1 :]]
        for batch in [[i] for i in chosen] if single else [list(chosen)]:
            yield from bench.check(decode(stages, [jobs[i] for i in batch], tokens), stage)


def _other_text(bench: Bench, seed: int) -> list[Checked]:
    """int4 weights write the text, and the real model's rows are made for it afterwards: the rows are honest, the tokens are not its own."""
    jobs, tokens = bench.jobs(JOBS, seed, temperature=0.8), BARS["other-model-text"]
    cheap = [bench.load(i) for i in range(len(bench.stages))]
    for executor in cheap:
        round_weights(executor.stage, INT4)
    texts = decode(cheap, jobs, tokens)
    given = {id(job): text.tokens for job, text in zip(jobs, texts, strict=True)}
    forced = decode(bench.stages, jobs, tokens, lambda rows, _, __: given[id(rows.job)][len(rows.tokens)])
    return bench.check(forced, len(bench.stages) - 1)


def _wrong_seed(rows: JobRows, logits: torch.Tensor, position: int) -> int:
    return sample(logits.numpy(), SamplingParameters(temperature=rows.job.sampling.temperature, seed=rows.job.sampling.seed + 1), position)


def _colder(rows: JobRows, logits: torch.Tensor, position: int) -> int:
    return sample(logits.numpy(), SamplingParameters(temperature=0.5, seed=rows.job.sampling.seed), position)


def _narrower(rows: JobRows, logits: torch.Tensor, position: int) -> int:
    return sample(logits.numpy(), SamplingParameters(temperature=1.0, top_p=0.5, seed=rows.job.sampling.seed), position)


def _lossy_draft(rows: JobRows, logits: torch.Tensor, position: int) -> int:
    """Speculation that takes a draft's token where it is merely likely: here the second best, at a third of the best one's chance or more."""
    best, second = torch.topk(logits, 2).indices.tolist()
    return int(second if logits[best] - logits[second] < np.log(3) else best)


SAMPLERS: dict[str, tuple[Sampler, float]] = {
    "wrong-seed": (_wrong_seed, 0.8),
    "wrong-temperature": (_colder, 1.0),
    "wrong-top-p": (_narrower, 1.0),
    "lossy-speculation": (_lossy_draft, 0.0),
}


def _changed_rows(bench: Bench, change: Callable[[Bench, int, list[JobRows], int], Rows], seed: int) -> Iterator[Checked]:
    """One stage commits to other rows than it computed; what its neighbours did stays as it was."""
    jobs = decode(bench.stages, bench.jobs(JOBS, seed), 16)
    for index, job in enumerate(jobs):
        stage = index % len(bench.stages)
        kept = job.rows_out[stage]
        job.rows_out[stage] = torch.from_numpy(change(bench, stage, jobs, index)).to(kept.dtype)
        yield from bench.check([job], stage)
        job.rows_out[stage] = kept


def _of_other(_: Bench, stage: int, jobs: list[JobRows], index: int) -> Rows:
    mine, other = to_float32(jobs[index].rows_out[stage]), to_float32(jobs[index - 1].rows_out[stage])
    return np.resize(other, mine.shape)


def _cached(_: Bench, stage: int, jobs: list[JobRows], index: int) -> Rows:
    """The prompt's rows are this job's, the answer's are those of another."""
    mine, other = to_float32(jobs[index].rows_out[stage]), to_float32(jobs[index - 1].rows_out[stage])
    mine[jobs[index].first :] = other[jobs[index - 1].first :]
    return mine


def _few_tokens(_: Bench, stage: int, jobs: list[JobRows], index: int) -> Rows:
    mine = to_float32(jobs[index].rows_out[stage])
    mine[jobs[index].first + 4 : jobs[index].first + 8] *= 1.2
    return mine


def _few_channels(_: Bench, stage: int, jobs: list[JobRows], index: int) -> Rows:
    mine = to_float32(jobs[index].rows_out[stage])
    mine[:, ::100] *= 1.2
    return mine


def _just_under(bench: Bench, stage: int, jobs: list[JobRows], index: int) -> Rows:
    """Noise of a size that stays below every limit: what replay cannot see, and what nobody gains from."""
    job, tolerance = jobs[index], bench.tolerances[stage]
    replay = bench.replayers[stage].replay(job.rows_in[stage])
    exact, source = replay.reference, np.random.default_rng(index)
    assert replay.twin is not None
    own = to_float32(job.rows_out[stage])
    noise = source.standard_normal(own.shape).astype(np.float32) * tolerance.channel_spread
    size = np.linalg.norm((replay.twin - exact) / tolerance.channel_spread, axis=1) / np.linalg.norm(noise / tolerance.channel_spread, axis=1)
    return own + 0.3 * size[:, None].astype(np.float32) * noise


ROWS: dict[str, Callable[[Bench, int, list[JobRows], int], Rows]] = {
    "constant-row": lambda _, stage, jobs, index: np.full_like(to_float32(jobs[index].rows_out[stage]), 0.5),
    "shifted-rows": lambda _, stage, jobs, index: np.roll(to_float32(jobs[index].rows_out[stage]), 1, axis=0),
    "other-job": _of_other,
    "cached-answer": _cached,
    "few-tokens": _few_tokens,
    "few-channels": _few_channels,
    "just-under": _just_under,
}


def _overheads(bench: Bench) -> dict[str, float]:
    """Ratios to one job's generation, a stream by itself, in this run."""
    job = bench.jobs(1, 7)
    decode(bench.stages, job, 2)
    started = time.perf_counter()
    (rows,) = decode(bench.stages, job, SINGLE_TOKENS)
    generating = time.perf_counter() - started
    bench.replay([rows])
    bench.replay_seconds = 0.0
    bench.replay([rows])
    # What one batch publishes: the arguments of `anchor` and their selector, for each stage.
    anchor = 4 + len(abi_encode(["bytes32", "uint64", "uint64", "uint128", "uint64"], [bytes(32), 1, ANCHORED_JOBS, 1, 1]))
    return {
        "verifier_share": AUDIT_RATE * bench.replay_seconds / generating,
        "provider_overhead": share_of_receipts(bench.stages, torch.tensor(job[0].prompt), SINGLE_TOKENS),
        "proof_bytes_per_token": len(bench.stages) * anchor / (ANCHORED_JOBS * SINGLE_TOKENS),
    }


def row_of(name: str, found: Sequence[Checked]) -> dict[str, Any]:
    at = [job.detected_at for job in found if job.detected_at is not None]
    bar = BARS.get(name)
    holds = len(at) == len(found) and all(job.named for job in found) and max(at) <= bar if bar else None
    return {
        "name": name,
        "jobs": len(found),
        "detected": len(at),
        "stage_named": sum(job.named for job in found),
        "tokens_p50": float(np.percentile(at, 50)) if at else None,
        "tokens_p95": float(np.percentile(at, 95)) if at else None,
        "drift_checks": _checks_to_alarm(found),
        "bar": bar,
        "holds": holds,
    }


def line_of(row: dict[str, Any]) -> str:
    said = {True: "holds", False: "MISSED", None: ""}[row["holds"]]
    bar = f"bar {row['bar']}" if row["bar"] else "no bar"
    at = f"tokens {row['tokens_p50']}/{row['tokens_p95']}"
    drift = f"drift after {row['drift_checks']} checks" if row["drift_checks"] else "no drift"
    return f"{row['name']:20} {row['detected']}/{row['jobs']} detected, {row['stage_named']} named, {at}, {drift}, {bar} {said}"


def _bar(name: str, value: float, bar: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "reference": bar, "bar": bar, "unit": unit, "holds": value <= bar}
