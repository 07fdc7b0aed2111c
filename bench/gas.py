"""Gas of whole transactions against the bars and the references of ``docs/contracts.md``: forge runs the gas tests, each call a transaction."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from funcnet import FuncnetError

SNAPSHOT = Path("snapshots/Gas.json")
QUORUM = "quorum verdict, 94 keys, 3 absent"
ROWS = (
    # name, snapshot entries that are added up, divided by, reference, bar
    ("stake, new", ("stake, new",), 1, 326_000, 75_000),
    ("stake, again", ("stake, again",), 1, 326_000, 60_000),
    ("delegate, new", ("delegate, new",), 1, 326_000, 75_000),
    ("delegate, again", ("delegate, again",), 1, 326_000, 60_000),
    ("start unbonding, own stake", ("start unbonding, own stake",), 1, 87_000, 80_000),
    ("start unbonding, delegation", ("start unbonding, delegation",), 1, 87_000, 80_000),
    ("start unbonding, first delegation in its bucket", ("start unbonding, first delegation in its bucket",), 1, 87_000, 80_000),
    ("withdraw, own stake", ("withdraw, own stake",), 1, 50_000, 45_000),
    ("withdraw, delegation", ("withdraw, delegation",), 1, 50_000, 45_000),
    ("open a dispute", ("open a dispute",), 1, 271_000, 150_000),
    ("execute a slash", ("execute a slash",), 1, 271_000, 130_000),
    ("redeem a voucher alone", ("redeem a voucher alone",), 1, 114_820, 60_000),
    ("redeem, each in a batch of 50", ("redeem 50 vouchers",), 50, 59_617, 30_000),
    ("anchor a batch", ("anchor a batch",), 1, 73_751, 60_000),
    (QUORUM, (QUORUM,), 1, 182_000, 140_000),
    ("quorum verdict, malformed signature", ("quorum verdict, malformed signature",), 1, 30_000_000, 150_000),
    ("register a verifier key", ("register a verifier key",), 1, 420_000, 420_000),
    ("claim rewards", ("claim rewards",), 1, 74_851, 70_000),
    ("onboard a payer: deposit and reserve", ("onboard a payer: deposit and reserve",), 1, 602_000, 150_000),
)
JOBS = 1_000


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench gas`` prints; ``value`` in gas. Raises FuncnetError where a test fails."""
    environment = {**os.environ, "FOUNDRY_PROFILE": "gas", "FORGE_SNAPSHOT_CHECK": "true"}
    done = subprocess.run(["forge", "test"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FuncnetError(f"the gas tests failed, or the gas is another than {SNAPSHOT} has:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    gas = {name: int(value) for name, value in json.loads(SNAPSHOT.read_text()).items()}
    rows = [_row(name, sum(gas[part] for part in parts) / divisor, reference, bar) for name, parts, divisor, reference, bar in ROWS]
    # A voucher redeemed with 49 others, and a batch that anchors the same thousand jobs.
    each = (gas["redeem 50 vouchers"] / 50 + gas["anchor a batch"]) / JOBS
    rows.append(_row("a job, of 1,000 on one voucher and in one batch", each, 277, 100))
    return {"rows": rows}


def _row(name: str, value: float, reference: float, bar: float) -> dict[str, Any]:
    return {"name": name, "value": round(value, 1), "reference": reference, "bar": bar, "unit": "gas", "holds": value <= bar}
