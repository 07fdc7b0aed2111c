"""``funcnet up`` as its user runs it: started, used, stopped, started again on everything it had."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import requests

FUNCNET = str(Path(sys.executable).parent / "funcnet")


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


def test_up__stopped_and_started_again__keeps_key_chain_and_books(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(Path(".funcnet/models").resolve())
    process, first = start(tmp_path)
    try:
        before = ask(first)
        twice = subprocess.run([FUNCNET, "up", "--root", str(tmp_path)], capture_output=True, text=True, check=False)
        assert twice.returncode == 1
        assert "runs already" in twice.stderr
    finally:
        stop(process, tmp_path)
    process, second = start(tmp_path)
    try:
        after = ask(second)
        assert after.choices[0].message.content == before.choices[0].message.content
        assert {name: first[name] for name in ("gateway", "indexer", "rpc", "api_key")} == {
            name: second[name] for name in ("gateway", "indexer", "rpc", "api_key")
        }
        job = before.model_extra["function_network"]["job_id"]
        kept = requests.get(f"{second['gateway']}/v1/receipts/{job}", headers={"authorization": f"Bearer {second['api_key']}"}, timeout=10)
        assert kept.json()["state"] == "done"
        state = json.loads(subprocess.run([FUNCNET, "status", "--json", "--root", str(tmp_path)], capture_output=True, text=True, check=True).stdout)
        assert state["running"] == process.pid
        assert state["ready"] is True
        log = subprocess.run([FUNCNET, "logs", "provider-1", "--root", str(tmp_path)], capture_output=True, text=True, check=True)
        assert "event=ready" in log.stdout
    finally:
        stop(process, tmp_path)


def test_down_and_logs__nothing_there__say_what_to_do(tmp_path: Path) -> None:
    for verb in (["down"], ["status"], ["logs", "gateway"]):
        done = subprocess.run([FUNCNET, *verb, "--root", str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("funcnet: ")
        assert len(done.stderr.splitlines()) == 1
