"""Coverage of `contracts/src` by the tests: at least 98 % of lines and 95 % of branches."""

import os
import re
import subprocess
import sys

LINES, BRANCHES = 98.0, 95.0
ROW = re.compile(r"\| contracts/src/(\S+)\s*\|[^|]*\((\d+)/(\d+)\)[^|]*\|[^|]*\|[^|]*\((\d+)/(\d+)\)")


def main() -> int:
    environment = {**os.environ, "FORGE_SNAPSHOT_EMIT": "false", "FOUNDRY_FUZZ_RUNS": "32", "FOUNDRY_INVARIANT_RUNS": "4"}
    command = ["forge", "coverage", "--report", "summary", "--no-match-coverage", "contracts/(test|script)|node_modules"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    rows = [(name, *map(int, counts)) for name, *counts in ROW.findall(done.stdout)]
    if done.returncode or not rows:
        print(done.stdout[-3000:] + done.stderr[-2000:], file=sys.stderr)
        return 1
    for name, lines, of, branches, of_branches in rows:
        print(f"{name:32} {lines:4} of {of:4} lines  {branches:3} of {of_branches:3} branches")
    lines, branches = (100 * sum(row[i] for row in rows) / sum(row[i + 1] for row in rows) for i in (1, 3))
    print(f"coverage: {lines:.1f} % of lines, bar {LINES} %; {branches:.1f} % of branches, bar {BRANCHES} %")
    return int(lines < LINES or branches < BRANCHES)


if __name__ == "__main__":
    sys.exit(main())
