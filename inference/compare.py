"""Compare claimed rows and tokens with a replay. Design section 4, "Comparison".

A bfloat16 stage is replayed twice from its own rows in: by a *reference* in float32, which is exact by comparison, and by a *twin* in the class
that the stage declares. A row's error is the log of the claimed row's distance from the reference over the twin's: 0 where the stage is as far
off as honest arithmetic of its class is on this very row. Rounding differs between kernels and machines, its size does not; this halves the spread
between prompts and positions. A float32 stage needs no twin: what honest runs gave in calibration takes its place.

What saves the most and changes the least is looked for by name: a *probe* replays the stage with its weights rounded to int8. Honest rounding points
anywhere, that of int8 weights points at the probe's rows, so the part of a row's error in that direction shows even one layer of many.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.receipts import wire_dtype_of
from protocol.trees import row_tree_root
from protocol.units import LayerRange

Rows = NDArray[np.float32]

WINDOW = 32
ROW_CAP, WIDE_CAP = float(np.log(4.0)), float(np.log(1000.0))
"""A row counts for at most fourfold, so that no single one decides; without a twin, where rows spread more, for a thousandfold."""
PEAK_ROWS, PEAK = 4, float(np.log(50.0))
"""Without a twin, so many rows decide by themselves if in the mean they are off by more than this: a lie that is told in few rows is lost among
the others."""
NOISE_FLOOR = 0.25
"""A row's honest distance counts for at least this share of the job's median: where a row happens to be exact, a ratio means nothing."""
ALIGNMENT_CAP = 1.0
"""A row counts for at most as much as all the way to a usual row of the probe, or as far on the other side."""
TOKEN_CAP = 10.0
"""A token's margin counts for at most this many times the noise of its logits."""
EXACT = "float32"
"""The dtype that is its own reference, and has no twin."""
ROW_MARGIN, CLEAR = 4.0, 5.0
"""How far a FAIL has to stand from what honest machines give: a row by this factor, where there is no twin; a statistic by so many deviations."""
FAIL_CHANCE, LOOK_CHANCE = 1e-6, 1e-3
"""How often each statistic of an honest job-stage may exceed its limit: to FAIL, and to be INCONCLUSIVE."""


class Verdict(StrEnum):
    """What a check finds. INCONCLUSIVE asks for more rows and accuses nobody."""

    PASS = "PASS"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"
    WITHHELD = "WITHHELD"


@dataclass(frozen=True)
class Spread:
    """How the mean error of ``n`` honest rows is spread: around ``mean``, with variance ``job**2 + row**2 / n``."""

    mean: float
    job: float
    row: float

    def deviation(self, count: int) -> float:
        """Standard deviation of the mean of ``count`` rows."""
        return float(np.sqrt(self.job**2 + self.row**2 / count))

    def limit(self, count: int, factor: float) -> float:
        """What the mean of ``count`` rows may be at most, ``factor`` standard deviations up."""
        return self.mean + factor * self.deviation(count)

    def score(self, mean: float, count: int) -> float:
        """How many standard deviations the mean of ``count`` rows lies above what is usual."""
        return (mean - self.mean) / self.deviation(count)


@dataclass(frozen=True)
class PairSpread:
    """``prompt`` and ``served``: of rows before and from the first sampled one on; ``joint``: standard deviation of the sum of both scores over the
    root of 2, 1 where they are independent."""

    prompt: Spread
    served: Spread
    joint: float

    def score(self, prompt: float, prompt_rows: int, served: float, served_rows: int) -> float:
        """Prompt and served rows together, in standard deviations: a changed weight shows in both, honest chance rarely does."""
        if prompt_rows and served_rows:
            return joint_score(self.prompt.score(prompt, prompt_rows), self.served.score(served, served_rows)) / self.joint
        return self.served.score(served, served_rows) if served_rows else self.prompt.score(prompt, prompt_rows)

    def encode(self) -> list[object]:
        return [[s.mean, s.job, s.row] for s in (self.prompt, self.served)] + [self.joint]

    @classmethod
    def decode(cls, body: Sequence[Any]) -> "PairSpread":
        """The inverse. Raises TypeError or ValueError."""
        prompt, served, joint = body
        return cls(Spread(*prompt), Spread(*served), float(joint))


def joint_score(prompt: float, served: float) -> float:
    return (prompt + served) / float(np.sqrt(2))


@dataclass(frozen=True)
class Replay:
    """What a stage should have given, float32 [n, hidden]: ``reference``, exact by comparison; ``twin``, as its own class gives it, where that is
    another thing; ``probe``, with int8 weights, where the class declares others."""

    reference: Rows
    twin: Rows | None = None
    probe: Rows | None = None

    def since(self, first: int) -> "Replay":
        """Without the rows before ``first``."""
        return Replay(*(None if rows is None else rows[first:] for rows in (self.reference, self.twin, self.probe)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class RowErrors:
    """Float64 [n]. ``size``: ``row_errors``; ``aligned``: ``alignments``, where the replay has a probe."""

    size: NDArray[np.float64]
    aligned: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.size)

    def until(self, end: int) -> "RowErrors":
        """Without the rows from ``end`` on."""
        return RowErrors(self.size[:end], None if self.aligned is None else self.aligned[:end])


@dataclass(frozen=True)
class TokenSpread:
    """Mean and variance of an honest token's margin, in units of its logits' noise and capped at ``TOKEN_CAP``."""

    mean: float
    variance: float

    def limit(self, count: int, chance: float) -> float:
        """Bernstein's bound on the mean of ``count`` independent tokens, which asks for no shape of the distribution."""
        logarithm = float(np.log(1 / chance))
        return self.mean + float(np.sqrt(2 * self.variance * logarithm / count)) + TOKEN_CAP * logarithm / (3 * count)


@dataclass(frozen=True)
class StageTolerance:
    """How far an honest stage may be from its replay, for one layer range and one precision.

    ``channel_spread``: float32 [hidden], each channel's standard deviation over honest rows, which whitens errors. ``noise``: the median distance
    of honest rows, for precisions without a twin. ``size``: of row errors; ``probe``: of alignments with int8 weights, where those are not declared.
    ``fail`` and ``look``: factors at which FAIL_CHANCE and LOOK_CHANCE are met with 95 % confidence, given that ``runs`` honest runs were seen.
    ``tokens``: on the last stage.
    """

    layers: LayerRange
    precision: str
    channel_spread: Rows
    noise: float
    size: PairSpread
    probe: PairSpread | None
    tokens: TokenSpread | None
    fail: float
    look: float
    runs: int

    def errors(self, claimed: Rows, replay: Replay) -> RowErrors:
        """As this table whitens and scales them."""
        size = row_errors(claimed, replay.reference, replay.twin, self.channel_spread, self.noise)
        return RowErrors(size, None if replay.probe is None else alignments(claimed, replay.reference, replay.probe, self.channel_spread))

    def encode(self) -> bytes:
        """Canonical JSON: the leaf of the tolerance tree."""
        body = {
            "layers": str(self.layers),
            "precision": self.precision,
            "channel_spread": base64.b64encode(self.channel_spread.astype("<f4").tobytes()).decode(),
            "noise": self.noise,
            "size": self.size.encode(),
            "probe": None if self.probe is None else self.probe.encode(),
            "tokens": None if self.tokens is None else [self.tokens.mean, self.tokens.variance],
            "fail": self.fail,
            "look": self.look,
            "runs": self.runs,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes | str) -> "StageTolerance":
        """The inverse. Raises KeyError, TypeError or ValueError for what is no such table entry."""
        body = json.loads(raw)
        spread = np.frombuffer(base64.b64decode(body["channel_spread"]), dtype="<f4").astype(np.float32)
        tokens = None if body["tokens"] is None else TokenSpread(*body["tokens"])
        size, probe = PairSpread.decode(body["size"]), None if body["probe"] is None else PairSpread.decode(body["probe"])
        layers, factors = LayerRange.parse(body["layers"]), (body["fail"], body["look"])
        return cls(layers, body["precision"], spread, body["noise"], size, probe, tokens, *factors, body["runs"])


def tolerance_root(table: Sequence[StageTolerance]) -> bytes:
    """RFC 6962 root over the table's entries, ordered by their bytes: what a creator registers."""
    return row_tree_root(sorted(entry.encode() for entry in table))


def distance(rows: Rows, reference: Rows, spread: Rows) -> NDArray[np.float64]:
    """Whitened relative distance of each row, float64 [n]: ``|(c - r) / s| / |r / s|``, each channel divided by its spread; ``inf`` for a row
    that is not finite."""
    scale = np.maximum(spread.astype(np.float64), 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.linalg.norm((rows.astype(np.float64) - reference) / scale, axis=1)
    found = off / np.maximum(np.linalg.norm(reference / scale, axis=1), 1e-12)
    return np.where(np.isfinite(found), found, np.inf)


def row_errors(claimed: Rows, reference: Rows, twin: Rows | None, spread: Rows, noise: float) -> NDArray[np.float64]:
    """The log-ratio error of each row, float64 [n], from ``-ROW_CAP`` up to ``ROW_CAP``, or to ``WIDE_CAP`` without a twin. Rows are [n, hidden].

    Without a twin every row's honest distance is ``noise``.
    """
    found = distance(claimed, reference, spread)
    honest = np.full(len(found), noise) if twin is None else distance(twin, reference, spread)
    floor = max(NOISE_FLOOR * float(np.median(honest)), 1e-30)
    cap = WIDE_CAP if twin is None else ROW_CAP
    return np.clip(np.log(np.maximum(found, floor) / np.maximum(honest, floor)), -ROW_CAP, cap)


def alignments(claimed: Rows, reference: Rows, probe: Rows, spread: Rows) -> NDArray[np.float64]:
    """How far each claimed row lies on the way from the reference's to the probe's, float64 [n], within ALIGNMENT_CAP.

    ``<e, d>`` over the mean of ``<d, d>``, for ``e = c - r`` and ``d = p - r``, whitened and relative to ``|r|``: about 0 in the mean for any
    rounding but the probe's own, and 1 for that. Rows that the probe changes most tell most, so they count for most. Rows that are not finite
    count as 0: their size convicts them.
    """
    scale = np.maximum(spread.astype(np.float64), 1e-12)
    scale = scale * np.maximum(np.linalg.norm(reference / scale, axis=1, keepdims=True), 1e-12)
    towards = (probe.astype(np.float64) - reference) / scale
    with np.errstate(invalid="ignore", over="ignore"):
        along = ((claimed.astype(np.float64) - reference) / scale * towards).sum(axis=1) / max(float((towards**2).sum(axis=1).mean()), 1e-30)
    return np.clip(np.where(np.isfinite(along), along, 0.0), -ALIGNMENT_CAP, ALIGNMENT_CAP)


@dataclass(frozen=True)
class Findings:
    """A check's statistics: mean errors with their counts, the worst window of 32 rows, the mean token margin, the mean alignments before and from
    the first sampled row on, and the mean error of the ``PEAK_ROWS`` worst rows."""

    prompt: float
    prompt_rows: int
    served: float
    served_rows: int
    window: float
    margin: float
    tokens: int
    aligned: tuple[float, float] | None = None
    peak: float = 0.0


def findings(errors: RowErrors, prompt_rows: int, margins: Sequence[float] = ()) -> Findings:
    """Statistics over a stage's row errors, of which the first ``prompt_rows`` come before the first sampled row. Raises ValueError for no rows."""
    if len(errors) == 0:
        raise ValueError("no rows to compare")
    size, aligned = errors.size, errors.aligned
    prompt, served = size[:prompt_rows], size[prompt_rows:]
    windows = np.convolve(size, np.ones(WINDOW) / WINDOW, mode="valid") if len(size) >= WINDOW else np.array([-np.inf])
    capped = np.minimum(np.asarray(margins, dtype=np.float64), TOKEN_CAP)
    return Findings(
        _mean(prompt),
        len(prompt),
        _mean(served),
        len(served),
        float(windows.max()),
        _mean(capped),
        len(capped),
        None if aligned is None else (_mean(aligned[:prompt_rows]), _mean(aligned[prompt_rows:])),
        _mean(np.sort(size)[-PEAK_ROWS:]) if len(size) >= PEAK_ROWS else 0.0,
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def judge(found: Findings, tolerance: StageTolerance) -> Verdict:
    """FAIL where any statistic exceeds what one honest job-stage in a million does, or ``PEAK``; INCONCLUSIVE where one exceeds what one in a
    thousand does."""
    for verdict, factor, chance in ((Verdict.FAIL, tolerance.fail, FAIL_CHANCE), (Verdict.INCONCLUSIVE, tolerance.look, LOOK_CHANCE)):
        if any(value > limit for value, limit in limits(found, tolerance, factor, chance).values()):
            return verdict
    return Verdict.PASS


def stands(found: Findings, errors: RowErrors, honest: Sequence[RowErrors], tolerance: StageTolerance) -> bool:
    """Whether a FAIL holds against what ``honest`` machines give for the same rows in; ``found`` are the statistics of ``errors``.

    Whoever chooses a stage's rows in can choose some on which honest arithmetic looks wrong: rows that the layers nearly cancel, or of a size that no
    prompt gives. Without a twin the limits have to be exceeded by rows that count only as far as they are off by more than ``ROW_MARGIN`` times what
    any honest machine is. With one, a statistic has to FAIL in which all honest machines lie low, half-way down to where a check would be
    INCONCLUSIVE, the claim further above them all than those two limits are apart, and above their mean by ``CLEAR`` standard deviations. Margins are
    judged by the stage's own rows, and stand.
    """
    fail, look = limits(found, tolerance, tolerance.fail, FAIL_CHANCE), limits(found, tolerance, tolerance.look, LOOK_CHANCE)
    if "margin" in fail and fail["margin"][0] > fail["margin"][1]:
        return True
    if wire_dtype_of(tolerance.precision) == EXACT:
        worst = np.max([one.size for one in honest], axis=0)
        beyond = np.maximum(errors.size - np.maximum(worst + np.log(ROW_MARGIN), 0), -ROW_CAP)
        return judge(findings(RowErrors(beyond), found.prompt_rows), tolerance) is Verdict.FAIL
    variants = [limits(findings(one, found.prompt_rows), tolerance, tolerance.look, LOOK_CHANCE) for one in honest]
    for name, (value, limit) in fail.items():
        if name == "margin" or value <= limit:
            continue
        # Alignments are off to either side.
        usual = np.array([abs(one[name][0]) if name == "probe" else one[name][0] for one in variants])
        between = limit - look[name][1]
        clear = max(usual.max() + between, usual.mean() + CLEAR * usual.std(ddof=1))
        if usual.max() <= limit - between / 2 and value >= clear:
            return True
    return False


def drift_score(found: Findings, tolerance: StageTolerance) -> float:
    """How many standard deviations a check's rows lie too far off, over all rows: 0 in the mean of honest ones, for sums over many checks."""
    return tolerance.size.score(found.prompt, found.prompt_rows, found.served, found.served_rows)


def limits(found: Findings, tolerance: StageTolerance, factor: float, chance: float) -> dict[str, tuple[float, float]]:
    """(value, limit) of each statistic that there is."""
    values, size = {}, tolerance.size
    if found.prompt_rows:
        values["prompt"] = found.prompt, size.prompt.limit(found.prompt_rows, factor)
    if found.served_rows:
        values["served"] = found.served, size.served.limit(found.served_rows, factor)
    if found.prompt_rows and found.served_rows:
        values["joint"] = drift_score(found, tolerance), factor
    if found.aligned is not None and tolerance.probe is not None:
        before, after = found.aligned
        values["probe"] = tolerance.probe.score(before, found.prompt_rows, after, found.served_rows), factor
    places = found.prompt_rows + found.served_rows - WINDOW + 1
    if places > 0:
        # The union bound over all places a window can stand at, in terms of a normal's tail.
        wider = float(np.sqrt(factor**2 + 2 * np.log(places)))
        values["window"] = found.window, max(size.prompt.limit(WINDOW, wider), size.served.limit(WINDOW, wider))
    if wire_dtype_of(tolerance.precision) == EXACT:
        values["peak"] = found.peak, PEAK
    if found.tokens and tolerance.tokens is not None:
        values["margin"] = found.margin, tolerance.tokens.limit(found.tokens, chance)
    return values
