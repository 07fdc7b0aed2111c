"""Compare claimed rows and tokens with a replay. Design section 4, "Comparison".

A bfloat16 stage is replayed twice from its own rows in: by a *reference* in float32, which is exact by comparison, and by a *twin* in the class
that the stage declares. A row's error is the log of the claimed row's distance from the reference over the twin's: 0 where the stage is as far
off as honest arithmetic of its class is on this very row. Rounding differs between kernels and machines, its size does not; this halves the spread
between prompts and positions. A float32 stage needs no twin: what honest runs gave in calibration takes its place.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from protocol.trees import row_tree_root
from protocol.units import LayerRange

Rows = NDArray[np.float32]

WINDOW = 32
ROW_CAP, WIDE_CAP = float(np.log(4.0)), float(np.log(1000.0))
"""A row counts for at most fourfold, so that no single one decides; without a twin, where rows spread more, for a thousandfold."""
NOISE_FLOOR = 0.25
"""A row's honest distance counts for at least this share of the job's median: where a row happens to be exact, a ratio means nothing."""
TOKEN_CAP = 10.0
"""A token's margin counts for at most this many times the noise of its logits."""
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
    of honest rows, for precisions without a twin. ``prompt`` and ``served``: of
    rows before and from the first sampled one on; ``joint``: standard deviation of the sum of both scores over the root of 2, 1 where they are
    independent. ``fail`` and ``look``: factors at which FAIL_CHANCE and LOOK_CHANCE are met with 95 %
    confidence, given that ``runs`` honest runs were seen. ``tokens``: on the last stage.
    """

    layers: LayerRange
    precision: str
    channel_spread: Rows
    noise: float
    prompt: Spread
    served: Spread
    joint: float
    tokens: TokenSpread | None
    fail: float
    look: float
    runs: int

    def errors(self, claimed: Rows, reference: Rows, twin: Rows | None) -> NDArray[np.float64]:
        """``row_errors`` as this table whitens and scales them."""
        return row_errors(claimed, reference, twin, self.channel_spread, self.noise)

    def encode(self) -> bytes:
        """Canonical JSON: the leaf of the tolerance tree."""
        body = {
            "layers": str(self.layers),
            "precision": self.precision,
            "channel_spread": base64.b64encode(self.channel_spread.astype("<f4").tobytes()).decode(),
            "noise": self.noise,
            "prompt": [self.prompt.mean, self.prompt.job, self.prompt.row],
            "served": [self.served.mean, self.served.job, self.served.row],
            "joint": self.joint,
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
        prompt, served = Spread(*body["prompt"]), Spread(*body["served"])
        layers, factors = LayerRange.parse(body["layers"]), (body["fail"], body["look"])
        return cls(layers, body["precision"], spread, body["noise"], prompt, served, body["joint"], tokens, *factors, body["runs"])


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


@dataclass(frozen=True)
class Findings:
    """A check's statistics: mean errors with their counts, the worst window of 32 rows, the mean token margin."""

    prompt: float
    prompt_rows: int
    served: float
    served_rows: int
    window: float
    margin: float
    tokens: int


def findings(errors: NDArray[np.float64], prompt_rows: int, margins: Sequence[float] = ()) -> Findings:
    """Statistics over a stage's row errors, of which the first ``prompt_rows`` come before the first sampled row. Raises ValueError for no rows."""
    if len(errors) == 0:
        raise ValueError("no rows to compare")
    prompt, served = errors[:prompt_rows], errors[prompt_rows:]
    windows = np.convolve(errors, np.ones(WINDOW) / WINDOW, mode="valid") if len(errors) >= WINDOW else np.array([-np.inf])
    capped = np.minimum(np.asarray(margins, dtype=np.float64), TOKEN_CAP)
    return Findings(
        float(prompt.mean()) if len(prompt) else 0.0,
        len(prompt),
        float(served.mean()) if len(served) else 0.0,
        len(served),
        float(windows.max()),
        float(capped.mean()) if len(capped) else 0.0,
        len(capped),
    )


def judge(found: Findings, tolerance: StageTolerance) -> Verdict:
    """FAIL where any statistic exceeds what one honest job-stage in a million does, INCONCLUSIVE where one exceeds one in a thousand."""
    for verdict, factor, chance in ((Verdict.FAIL, tolerance.fail, FAIL_CHANCE), (Verdict.INCONCLUSIVE, tolerance.look, LOOK_CHANCE)):
        if any(value > limit for value, limit in limits(found, tolerance, factor, chance).values()):
            return verdict
    return Verdict.PASS


def joint_score(found: Findings, prompt: Spread, served: Spread) -> float:
    """Prompt and served rows together: a changed weight shows in both, honest chance rarely does."""
    return (prompt.score(found.prompt, found.prompt_rows) + served.score(found.served, found.served_rows)) / float(np.sqrt(2))


def drift_score(found: Findings, tolerance: StageTolerance) -> float:
    """How many standard deviations an honest check's rows would lie this far up, over all rows: 0 in the mean, for sums over many checks."""
    if found.prompt_rows and found.served_rows:
        return joint_score(found, tolerance.prompt, tolerance.served) / tolerance.joint
    if found.served_rows:
        return tolerance.served.score(found.served, found.served_rows)
    return tolerance.prompt.score(found.prompt, found.prompt_rows)


def limits(found: Findings, tolerance: StageTolerance, factor: float, chance: float) -> dict[str, tuple[float, float]]:
    """(value, limit) of each statistic that there is."""
    values = {}
    if found.prompt_rows:
        values["prompt"] = found.prompt, tolerance.prompt.limit(found.prompt_rows, factor)
    if found.served_rows:
        values["served"] = found.served, tolerance.served.limit(found.served_rows, factor)
    if found.prompt_rows and found.served_rows:
        values["joint"] = joint_score(found, tolerance.prompt, tolerance.served), factor * tolerance.joint
    places = found.prompt_rows + found.served_rows - WINDOW + 1
    if places > 0:
        # The union bound over all places a window can stand at, in terms of a normal's tail.
        wider = float(np.sqrt(factor**2 + 2 * np.log(places)))
        values["window"] = found.window, max(tolerance.prompt.limit(WINDOW, wider), tolerance.served.limit(WINDOW, wider))
    if found.tokens and tolerance.tokens is not None:
        values["margin"] = found.margin, tolerance.tokens.limit(found.tokens, chance)
    return values
