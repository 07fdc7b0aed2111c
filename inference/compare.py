"""Compare claimed rows with replayed ones, and tokens with the replay's own logits. Design section 4, "Comparison"."""

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
QUANTILE = 0.95
WINSOR_CAP = 10.0
"""A row's error, or a token's margin, counts for at most this much, so that no single one decides."""


class Verdict(StrEnum):
    """What a check finds. INCONCLUSIVE asks for more rows and accuses nobody."""

    PASS = "PASS"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"
    WITHHELD = "WITHHELD"


@dataclass(frozen=True)
class RowStatistics:
    """Winsorised mean over all rows, the worst mean of any 32-row window, and the 0.95 quantile."""

    mean: float
    window: float
    quantile: float


@dataclass(frozen=True)
class StageTolerance:
    """How far an honest stage may be from a replay: for one layer range and one pair of execution classes.

    ``channel_spread``: float32 [hidden], each channel's standard deviation over honest rows. ``margin``: mean token margin, last stage only.
    """

    layers: LayerRange
    claimed_class: str
    replay_class: str
    channel_spread: Rows
    limits: RowStatistics
    margin: float

    def encode(self) -> bytes:
        """Canonical JSON: the leaf of the tolerance tree."""
        body = {
            "layers": str(self.layers),
            "claimed_class": self.claimed_class,
            "replay_class": self.replay_class,
            "channel_spread": base64.b64encode(self.channel_spread.astype("<f4").tobytes()).decode(),
            "mean": self.limits.mean,
            "window": self.limits.window,
            "quantile": self.limits.quantile,
            "margin": self.margin,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes | str) -> "StageTolerance":
        body = json.loads(raw)
        spread = np.frombuffer(base64.b64decode(body["channel_spread"]), dtype="<f4").astype(np.float32)
        limits = RowStatistics(body["mean"], body["window"], body["quantile"])
        return cls(LayerRange.parse(body["layers"]), body["claimed_class"], body["replay_class"], spread, limits, body["margin"])


def tolerance_root(table: Sequence[StageTolerance]) -> bytes:
    """RFC 6962 root over the table's entries, ordered by their bytes: what a creator registers."""
    return row_tree_root(sorted(entry.encode() for entry in table))


def row_errors(claimed: Rows, replayed: Rows, spread: Rows) -> NDArray[np.float64]:
    """Whitened relative error of each row, float64 [n]: ``|(c - r) / s| / |r / s|`` with each channel divided by its spread."""
    scale = np.maximum(spread.astype(np.float64), 1e-12)
    difference = np.linalg.norm((claimed.astype(np.float64) - replayed) / scale, axis=1)
    errors = difference / np.maximum(np.linalg.norm(replayed / scale, axis=1), 1e-12)
    return np.where(np.isfinite(errors), errors, np.inf)


def statistics(errors: NDArray[np.float64]) -> RowStatistics:
    """The statistics of a stage's row errors. Raises ValueError for no rows."""
    if len(errors) == 0:
        raise ValueError("no rows to compare")
    capped = np.minimum(errors, WINSOR_CAP)
    width = min(WINDOW, len(capped))
    windows = np.convolve(capped, np.ones(width) / width, mode="valid")
    return RowStatistics(float(capped.mean()), float(windows.max()), float(np.quantile(capped, QUANTILE)))


def judge(found: RowStatistics, tolerance: StageTolerance, mean_margin: float = 0.0) -> Verdict:
    """FAIL where the mean and the worst window both exceed their limits, or the tokens do; INCONCLUSIVE where only one of the rest does."""
    limits = tolerance.limits
    if (found.mean > limits.mean and found.window > limits.window) or mean_margin > tolerance.margin:
        return Verdict.FAIL
    if found.mean > limits.mean or found.window > limits.window or found.quantile > limits.quantile:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS
