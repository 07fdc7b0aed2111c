"""Statistics, verdicts, and that the calibrated limits tell an int8 stage from an honest one on the real model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.classes import ExecutionClass, rows_from_bytes, rows_to_bytes
from inference.compare import RowStatistics, StageTolerance, Verdict, judge, row_errors, statistics, tolerance_root
from inference.executor import StageExecutor
from inference.loader import load_stage
from inference.prepare import read_tolerances
from inference.replay import replay_stage
from protocol.units import LayerRange
from provider.faults import inject

LIMITS = RowStatistics(1.0, 2.0, 3.0)
TOLERANCE = StageTolerance(LayerRange(0, 2), "float32/sdpa", "float32/sdpa", np.ones(4, dtype=np.float32), LIMITS, 0.1)


@pytest.mark.parametrize(
    ("found", "margin", "verdict"),
    [
        ((0.5, 1.0, 1.0), 0.0, Verdict.PASS),
        ((1.5, 2.5, 1.0), 0.0, Verdict.FAIL),
        ((0.5, 2.5, 1.0), 0.0, Verdict.INCONCLUSIVE),
        ((0.5, 1.0, 3.5), 0.0, Verdict.INCONCLUSIVE),
        ((0.5, 1.0, 1.0), 0.2, Verdict.FAIL),
    ],
)
def test_judge__limits__decide(found: tuple[float, float, float], margin: float, verdict: Verdict) -> None:
    assert judge(RowStatistics(*found), TOLERANCE, margin) == verdict


def test_statistics__one_wild_row__counts_for_little() -> None:
    errors = np.full(1000, 0.01)
    errors[5] = 1e9
    assert statistics(errors).mean < 0.03
    with pytest.raises(ValueError, match="no rows"):
        statistics(np.array([]))


def test_row_errors__not_a_number__is_infinitely_wrong() -> None:
    rows = np.ones((2, 4), dtype=np.float32)
    bad = rows.copy()
    bad[1, 2] = np.nan
    errors = row_errors(bad, rows, TOLERANCE.channel_spread)
    assert errors[0] == 0
    assert errors[1] == np.inf


def test_tolerance__encoded__round_trips_and_its_root_ignores_order() -> None:
    back = StageTolerance.decode(TOLERANCE.encode())
    assert back.encode() == TOLERANCE.encode()
    other = StageTolerance(LayerRange(2, 4), "a", "a", TOLERANCE.channel_spread, LIMITS, 0.1)
    assert tolerance_root([TOLERANCE, other]) == tolerance_root([other, TOLERANCE])


def test_rows__bytes__round_trip_in_each_dtype() -> None:
    for name in ("float32/sdpa", "bfloat16/eager"):
        execution = ExecutionClass.parse(name)
        rows = torch.randn(3, 5).to(execution.dtype)
        assert torch.equal(rows_from_bytes(b"".join(rows_to_bytes(rows)), 3, execution.dtype), rows)
    with pytest.raises(ValueError, match="not 3 rows"):
        rows_from_bytes(b"12345", 3, torch.float32)


def test_calibration__held_out_prompt__passes_honest_and_fails_int8(model_dir: Path) -> None:
    layers = LayerRange(10, 20)
    tolerance = next(entry for entry in read_tolerances(model_dir) if entry.layers == layers)
    honest, cheat = (StageExecutor(load_stage(model_dir, layers, torch.float32)) for _ in range(2))
    inject("int8-weights", cheat.stage)
    head = StageExecutor(load_stage(model_dir, LayerRange(0, 10), torch.float32))
    # Tokens that no calibration prompt holds; prefill in two chunks, then single rows, as a session goes.
    tokens = torch.randint(0, 40_000, (24,), generator=torch.Generator().manual_seed(3))
    rows_in = head.forward(head.open_session(), tokens).rows

    def served(executor: StageExecutor) -> np.ndarray:
        session = executor.open_session()
        parts = [rows_in[:10], rows_in[10:16], *rows_in[16:].split(1)]
        return torch.cat([executor.forward(session, part).rows for part in parts]).numpy()

    replay = replay_stage(honest, rows_in)
    found = {
        who: judge(statistics(row_errors(served(executor), replay.rows, tolerance.channel_spread)), tolerance)
        for who, executor in (("honest", honest), ("cheat", cheat))
    }
    assert found == {"honest": Verdict.PASS, "cheat": Verdict.FAIL}
