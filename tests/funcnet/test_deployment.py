"""A deployment read back: it holds as it was made, and what is changed is named."""

import json
import subprocess
import sys
from pathlib import Path

from funcnet.network import Network

FUNCNET = str(Path(sys.executable).parent / "funcnet")


def check(network: Network, *more: str) -> subprocess.CompletedProcess[str]:
    command = [FUNCNET, "deployment", "check", "--rpc-url", network.rpc_url, "--deployment", str(network.deployment_file), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_deployment__as_it_was_made__holds(small: Network) -> None:
    done = check(small, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["differ"] == []


def test_deployment__other_parameters__are_named(small: Network, tmp_path: Path) -> None:
    changed = json.loads(Path("deploy/params/devnet.json").read_text()) | {"unbondingPeriod": 1, "appealBond": 2}
    (tmp_path / "params.json").write_text(json.dumps(changed))
    done = check(small, "--params", str(tmp_path / "params.json"))
    assert done.returncode == 1
    assert "Staking.unbondingPeriod: 900, it should be 1" in done.stdout
    assert "Disputes.parameters: appealBond" in done.stdout


def test_deployment__another_guardian__is_named(small: Network, tmp_path: Path) -> None:
    placed = json.loads(small.deployment_file.read_text())
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps(placed | {"guardian": placed["Disputes"]}))
    command = [FUNCNET, "deployment", "check", "--rpc-url", small.rpc_url, "--deployment", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DIFFERS  guardian" in done.stdout
    assert "DIFFERS  members of role 1" in done.stdout


def test_deployment__other_code__is_named(small: Network, tmp_path: Path) -> None:
    for folder in Path("out").glob("*.sol"):
        (tmp_path / folder.name).symlink_to(folder.resolve())
    (tmp_path / "Staking.sol").unlink()
    (tmp_path / "Staking.sol").mkdir()
    built = json.loads(Path("out/Staking.sol/Staking.json").read_text())
    built["deployedBytecode"]["object"] = built["deployedBytecode"]["object"].replace("60", "61", 1)
    (tmp_path / "Staking.sol" / "Staking.json").write_text(json.dumps(built))
    done = check(small, "--build", str(tmp_path))
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("DIFFERS")] == [
        line for line in done.stdout.splitlines() if line.startswith("DIFFERS  Staking: code hash")
    ]


def test_deployment__no_such_parameters__is_one_clear_line(small: Network) -> None:
    done = check(small, "--params", "nowhere.json")
    assert done.returncode == 1
    assert done.stderr == "funcnet: no parameters at nowhere.json; name the file with --params\n"
