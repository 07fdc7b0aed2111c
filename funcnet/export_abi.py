"""Copy the ABIs that the services use from the Foundry build to ``protocol/abi``."""

import json
from pathlib import Path

from protocol.chain import CONTRACTS


def export(build: Path, target: Path) -> None:
    """Write one sorted, indented JSON file a contract. Raises FileNotFoundError where a contract was not built."""
    target.mkdir(exist_ok=True)
    for name in CONTRACTS:
        abi = json.loads((build / f"{name}.sol" / f"{name}.json").read_text())["abi"]
        (target / f"{name}.json").write_text(json.dumps(abi, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    export(Path("out"), Path("protocol/abi"))
