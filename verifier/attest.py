"""Reproduce a tolerance table before vouching for it: honest runs on prompts of this verifier's own must lie within its limits."""

from collections.abc import Sequence

from inference.calibrate import fit
from inference.compare import StageTolerance
from protocol.units import LayerRange
from verifier.checks import Replayer

HELD_OUT_PROMPTS = ("Name a river in Africa.", "Translate 'good morning' into Spanish.")
FACTOR = 10


def within_tolerance(replayer: Replayer, table: Sequence[StageTolerance]) -> bool:
    """Whether held-out honest runs on this machine give limits within a factor of the registered ones, for each stage of the narrowest cut.

    A table much tighter than what this machine reproduces would convict honest stages; one much wider would let cheats pass.
    """
    by_range = {entry.layers: entry for entry in table}
    class_name = table[0].claimed_class
    stages = [replayer.stage(layers, class_name) for layers in _partition(sorted(by_range))]
    own = fit(replayer.folder, stages, [stages], class_name, HELD_OUT_PROMPTS)
    return all(_close(mine, by_range[mine.layers]) for mine in own)


def _close(mine: StageTolerance, registered: StageTolerance) -> bool:
    return registered.limits.mean / FACTOR < mine.limits.mean < registered.limits.mean * FACTOR


def _partition(ranges: Sequence[LayerRange]) -> list[LayerRange]:
    """The narrowest calibrated stages that follow one another from layer 0."""
    chosen: list[LayerRange] = []
    edge = 0
    while candidates := [r for r in ranges if r.first == edge]:
        narrowest = min(candidates, key=lambda r: r.end)
        chosen.append(narrowest)
        edge = narrowest.end
    return chosen
