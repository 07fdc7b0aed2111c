"""A verifier vouches for a table only where its own machine reproduces it, and never for one that would let cheats pass."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inference.calibrate import read_tolerances
from inference.compare import Spread, StageTolerance
from protocol.units import LayerRange
from verifier.attest import bounded, narrowest, reproduces
from verifier.checks import Replayer


@pytest.fixture(scope="module")
def table(model_dir: Path) -> list[StageTolerance]:
    return read_tolerances(model_dir)


@pytest.fixture(scope="module")
def replayer(model_dir: Path, table: Sequence[StageTolerance]) -> Replayer:
    return Replayer(model_dir, table)


@pytest.mark.slow
def test_reproduces__the_shipped_table__yes(replayer: Replayer, table: list[StageTolerance]) -> None:
    assert {entry.precision for entry in table} >= {"float32", "bfloat16"}
    assert reproduces(replayer, table)


def test_reproduces__limits_that_honest_stages_exceed__no(replayer: Replayer, table: list[StageTolerance]) -> None:
    tight = Spread(-1.3, 0.001, 0.001)
    tighter = [replace(entry, size=replace(entry.size, served=tight)) if entry.layers == LayerRange(10, 20) else entry for entry in table]
    assert not reproduces(replayer, tighter)


def test_bounded__limits_that_cheats_pass__no(table: list[StageTolerance]) -> None:
    assert all(bounded(entry) for entry in table)
    for entry in table:
        assert not bounded(replace(entry, size=replace(entry.size, served=replace(entry.size.served, job=50.0))))
        assert not bounded(replace(entry, precision="float4"))


def test_narrowest__several_cuts__the_finest_that_covers() -> None:
    ranges = [LayerRange(0, 30), LayerRange(0, 10), LayerRange(10, 20), LayerRange(10, 30), LayerRange(20, 30)]
    assert narrowest(sorted(ranges)) == [LayerRange(0, 10), LayerRange(10, 20), LayerRange(20, 30)]


@pytest.mark.slow
def test_reproduces__the_table_of_an_encoder__yes__and_a_tighter_one_no(encoder_dir: Path) -> None:
    entries = read_tolerances(encoder_dir)
    replayer = Replayer(encoder_dir, entries)
    assert reproduces(replayer, entries)
    tight = Spread(-1.3, 0.001, 0.001)
    assert not reproduces(replayer, [replace(entry, size=replace(entry.size, served=tight, prompt=tight)) for entry in entries])
