"""Reproduce a tolerance table before vouching for it: honest runs on prompts of this verifier's own must lie within its limits."""

from collections.abc import Sequence
from pathlib import Path

from inference.calibrate import calibrate
from inference.compare import StageTolerance
from protocol.units import LayerRange

HELD_OUT_PROMPTS = ("Name a river in Africa.", "Translate 'good morning' into Spanish.")


def within_tolerance(folder: Path, table: Sequence[StageTolerance]) -> bool:
    """Whether the limits fitted to held-out honest runs of the model's cut stages are no wider than a few times the registered ones.

    A table much tighter than what this machine reproduces would convict honest stages; one much wider would let cheats pass.
    """
    by_range = {entry.layers: entry for entry in table}
    cuts = _partition(sorted(by_range))
    own = calibrate(folder, cuts, table[0].claimed_class, HELD_OUT_PROMPTS)
    return all(_close(mine, by_range[mine.layers]) for mine in own)


def _close(mine: StageTolerance, registered: StageTolerance) -> bool:
    return registered.limits.mean / 10 < mine.limits.mean < registered.limits.mean * 10


def _partition(ranges: Sequence[LayerRange]) -> list[LayerRange]:
    """The narrowest calibrated stages that follow one another from layer 0."""
    chosen: list[LayerRange] = []
    edge = 0
    while candidates := [r for r in ranges if r.first == edge]:
        narrowest = min(candidates, key=lambda r: r.end)
        chosen.append(narrowest)
        edge = narrowest.end
    return chosen
