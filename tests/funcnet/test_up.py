"""``funcnet up`` as its user runs it: started, used, stopped, started again on everything it had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from funcnet import FuncnetError
from funcnet.model import fetch
from funcnet.processes import free_ports
from tests.network.asking import extra

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
FUNCNET = str(BIN / "funcnet")
MODEL = "smollm2-135m-instruct"


def start(root: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen([FUNCNET, "up", "--json", "--root", str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process, dict(json.loads(line))


def stop(process: subprocess.Popen[str], root: Path) -> None:
    done = subprocess.run([FUNCNET, "down", "--root", str(root)], capture_output=True, text=True, check=False)
    assert done.stdout == "stopped\n", done.stderr
    process.communicate(timeout=30)
    assert process.returncode == 0


def ask(told: dict[str, Any]) -> Any:
    with openai.OpenAI(base_url=f"{told['gateway']}/v1", api_key=told["api_key"], max_retries=0) as client:
        return client.chat.completions.create(model=told["model"], messages=[{"role": "user", "content": "Hello"}], max_tokens=6, temperature=0)


@dataclass
class Twice:
    """A network that was started, used, stopped and started again."""

    root: Path
    process: subprocess.Popen[str]
    first: dict[str, Any]
    second: dict[str, Any]
    before: Any


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Twice]:
    root = tmp_path_factory.mktemp("up")
    shutil.copytree(model_dir, root / "models" / MODEL)
    process, first = start(root)
    try:
        before = ask(first)
        again = subprocess.run([FUNCNET, "up", "--root", str(root)], capture_output=True, text=True, check=False)
        assert again.returncode == 1
        assert "runs already" in again.stderr
    finally:
        stop(process, root)
    process, second = start(root)
    try:
        yield Twice(root, process, first, second, before)
    finally:
        stop(process, root)


def test_up__stopped_and_started_again__keeps_key_chain_and_books(twice: Twice) -> None:
    after = ask(twice.second)
    assert after.choices[0].message.content == twice.before.choices[0].message.content
    for name in ("gateway", "indexer", "rpc", "api_key"):
        assert twice.first[name] == twice.second[name]
    assert receipts(twice.second, extra(twice.before)["job_id"])["state"] == "done"
    command = [FUNCNET, "status", "--json", "--root", str(twice.root)]
    state = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert state["running"] == twice.process.pid
    assert state["ready"] is True
    assert state["pids"] == twice.second["pids"]
    log = subprocess.run([FUNCNET, "logs", "provider-1", "--root", str(twice.root)], capture_output=True, text=True, check=True)
    assert "event=ready" in log.stdout


def test_up__provider_killed_in_mid_stream__is_replaced_and_started_again(twice: Twice) -> None:
    told, last = twice.second, {}
    with openai.OpenAI(base_url=f"{told['gateway']}/v1", api_key=told["api_key"], max_retries=0) as client:
        stream = client.chat.completions.create(
            model=told["model"], messages=[{"role": "user", "content": "Tell me a very long story."}], max_tokens=40, temperature=0, stream=True
        )
        for count, chunk in enumerate(stream):
            if count == 10:
                os.kill(told["pids"]["provider-2"], signal.SIGKILL)
            last = (chunk.model_extra or {}).get("function_network") or last
    assert len(last["replaced"]) == 1
    assert len(last["token_ids"]) == 40

    def rested() -> bool:
        return last["replaced"][0] not in requests.get(f"{told['gateway']}/v1/network/live", timeout=10).json()["resting"]

    wait(rested, "the return of the provider")


def test_up__own_model__is_added_served_and_verified_step_by_step(twice: Twice) -> None:
    """A second architecture in the running network, by a provider of its own, as docs/using.md says."""
    root, told = twice.root, twice.second
    environment = {**os.environ, "FUNCNET_SETTINGS": str(root / "network" / "settings.toml"), "HF_HUB_OFFLINE": "1"}

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run([str(BIN / command[0]), *command[1:]], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    run("python", "-m", "tests.tiny", str(root / "models" / MODEL), str(root / "tiny-qwen3"))
    assert "0-12" in run("funcnet", "model", "add", str(root / "tiny-qwen3"), "--root", str(root))
    mine, port = str(root / "mine"), str(free_ports(1)[0])
    keys = json.loads(run("provider-agent", "init", "--data-dir", mine, "--light", "--json"))
    run("funcnet", "wallet", "fund", keys["owner"], keys["operator"], "--root", str(root))
    stage = ("--data-dir", mine, "--model", "tiny-qwen3", "--port", port)
    assert "run `provider-agent register`" in run("provider-agent", "start", *stage, "--owner", keys["owner"], code=1)
    best = json.loads(run("provider-agent", "plan", "--model", "tiny-qwen3", "--json"))["choices"][0]
    assert (best["layers"], best["fits"], best["gain"], best["missing"]) == ("0-12", True, None, 0)
    run("provider-agent", "register", *stage)
    with (root / "mine.log").open("w") as log, subprocess.Popen([str(BIN / "provider-agent"), "start", *stage], env=environment, stderr=log) as agent:
        try:
            job = extra(wait(lambda: answer(told, "tiny-qwen3"), "an answer of the second model"))["job_id"]
            wait(lambda: receipts(told, job)["status"] == "verified", "the verification of the second model's job")
        finally:
            agent.terminate()


def receipts(told: dict[str, Any], job: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {told['api_key']}"}
    return dict(requests.get(f"{told['gateway']}/v1/receipts/{job}", headers=headers, timeout=10).json())


def answer(told: dict[str, Any], model: str) -> Any:
    try:
        return ask({**told, "model": model})
    except openai.InternalServerError:
        return None


def wait(happened: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.5)
    return found


def test_model_add__bad_source_or_no_network__says_what_to_do(tmp_path: Path) -> None:
    for source, words in (("nothing-here", "no network runs"), (str(tmp_path), "no network runs")):
        done = subprocess.run([FUNCNET, "model", "add", source, "--root", str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert words in done.stderr
    with pytest.raises(FuncnetError, match="no hub id"):
        fetch("nothing-here", tmp_path)
    with pytest.raises(FuncnetError, match="could not be downloaded from the hub"):
        fetch("nobody/no-such-model", tmp_path)


def test_down_and_logs__nothing_there__say_what_to_do(tmp_path: Path) -> None:
    for verb in (["down"], ["status"], ["logs", "gateway"]):
        done = subprocess.run([FUNCNET, *verb, "--root", str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("funcnet: ")
        assert len(done.stderr.splitlines()) == 1
