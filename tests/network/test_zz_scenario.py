"""The demo's scenario on the shared network, last: after it one provider is slashed and jailed."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from funcnet.network import Network
from funcnet.scenario import Scenario
from tests.network.auditing import against_a_replay, at_each_block

FUNCNET = str(Path(sys.executable).parent / "funcnet")


def test_scenario__whole__pays_the_honest_and_slashes_the_cheat_alone(network: Network) -> None:
    scenario = Scenario(network, "What is two plus two?", 24, print, lambda _: None)
    first = network.chain.head()
    scenario.run()
    report = scenario.report
    assert report["identical_to_generate"] is True
    assert report["conserved"] is True
    assert [entry["name"] for entry in report["slashed"]] == ["provider-2"]
    assert report["slashed"][0]["stage"] == "10-20"
    assert report["honest_slashed"] == []
    assert int(report["royalty"]) > 0
    # Every check that a verifier did on honest work passed: nobody else was even accused.
    accused = {dispute["provider"] for dispute in network.indexed("/v1/disputes")["data"]}
    assert accused == {network.address("provider-2")}
    # The indexer's figures are the contracts' own at every block of the scenario, and those of a clean replay.
    last = network.indexed("/v1/status")["block"]["number"]
    assert at_each_block(network, first, last) == []
    assert against_a_replay(network, last) == []


def test_demo__empty_prompt__is_one_clear_line() -> None:
    done = subprocess.run([FUNCNET, "demo", "--prompt", " "], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "funcnet: the prompt is empty; give --prompt some words\n"


def test_demo__interrupted__leaves_no_process(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "models").symlink_to(Path(".funcnet/models").resolve())
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    # A shell that runs the tests in the background has its children ignore interrupts.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([FUNCNET, "demo", "--root", str(root)], preexec_fn=heard, **silent)
    time.sleep(9)
    assert mentions(str(root)) or mentions("anvil")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(40) == 130
    assert mentions(str(root)) == []


def mentions(text: str) -> list[str]:
    """Command lines and environments of live processes that name ``text``, ours left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told and folder.name != str(os.getpid()):
            found.append(folder.name)
    return found
