"""halmos over `contracts/test/halmos`: the arithmetic of shares, splits, thaws and vouchers, for every input in its bounds."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    halmos = str(Path(sys.executable).parent / "halmos")
    command = [halmos, "--contract", "ArithmeticTest", "--function", "check_", "--loop", "4", "--solver-timeout-assertion", "600000"]
    return subprocess.run(command, env={**os.environ, "FOUNDRY_PROFILE": "default"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
