"""Benchmarks are found from anywhere, with what they need of a checkout; what they measure is not tested here."""

import subprocess
import sys
from pathlib import Path

FUNCNET = str(Path(sys.executable).parent / "funcnet")


def test_bench__unknown__names_the_known_ones() -> None:
    done = subprocess.run([FUNCNET, "bench", "speed"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    known = "family, gas, gateway, handover, hop, indexer, links, pipeline, recovery, serving, soak, standby, verify"
    assert done.stderr == f"funcnet: no benchmark 'speed'; known: {known}\n"


def test_bench__from_another_folder__all_load(tmp_path: Path) -> None:
    names = ["family", "gas", "gateway", "handover", "hop", "links", "pipeline", "recovery", "serving", "soak", "standby", "verify"]
    command = [sys.executable, "-c", f"from funcnet.cli.bench import load; assert all(load(name).run for name in {names})"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
