"""Whether the method is tuned to one model: another architecture, calibrated from nothing, then honest jobs and the same cheats.

The model is a random qwen3 (normalised queries and keys, grouped heads of another width), since no other real one is at hand here: its words make no
sense, but its arithmetic rounds like any other's.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from bench import verify
from inference.calibrate import write_tolerances
from inference.prepare import prepare
from tests import tiny

LAYERS, CUTS, JOBS, HONEST = 12, (4, 8), 48, 160
CHEATS = ("int4-weights", "int6-weights", "fp8-weights", "int8-weights", "int4-one-layer", "low-rank", "kv-fp8", "kv-int8", "swapped-layers")


def run(quick: bool) -> dict[str, Any]:
    """Rows of cheats found, of those run, and of honest job-stages that FAIL; ``quick`` takes fewer honest jobs."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        made, folder = Path(scratch) / "made", Path(scratch) / "qwen3"
        tiny.make(verify.FOLDER, made, width=256, layers=LAYERS)
        prepare(made, folder, lambda _: None, CUTS)
        write_tolerances(folder, CUTS, ["bfloat16"], JOBS, say=lambda _: None)
        bench = verify.Bench(folder, CUTS)
        honest = verify.honest_part(bench, HONEST // 4 if quick else HONEST)
        adversaries = []
        for seed, name in enumerate(verify.COMPUTE, 100):
            if name in CHEATS:
                adversaries.append(verify.row_of(name, list(verify.computing(bench, name, seed))))
                print(verify.line_of(adversaries[-1]), flush=True)
    rows = [
        {
            "name": f"{row['name']}, found",
            "value": row["detected"] / row["jobs"],
            "reference": 1.0,
            "bar": 1.0,
            "unit": "ratio",
            "holds": row["holds"],
        }
        for row in adversaries
    ]
    alarms = honest["false_alarm_rate"]
    rows.append({"name": "false alarms", "value": alarms, "reference": 0.0, "bar": 0.0, "unit": "ratio", "holds": alarms == 0})
    return {"rows": rows, "adversaries": adversaries, **honest}
