"""halmos over `contracts/test/halmos`: the arithmetic of shares, splits, thaws and vouchers, for every input in its bounds."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    halmos = str(Path(sys.executable).parent / "halmos")
    command = [halmos, "--contract", "ArithmeticTest", "--function", "check_", "--loop", "4", "--solver-timeout-assertion", "600000"]
    # halmos looks for its solver in the environment that is active, which need not be its own.
    environment = {**os.environ, "FOUNDRY_PROFILE": "default", "VIRTUAL_ENV": sys.prefix}
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
