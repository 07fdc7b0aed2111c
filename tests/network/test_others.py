"""Clients and testers of others against the shared network: LiteLLM, schemathesis, and requests that no client would send."""

import json
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from funcnet.network import Network
from tests.network.asking import MODEL, QUESTION, serve_encoder

pytestmark = pytest.mark.slow
FOLDER = Path("tests/clients").resolve()
ROOT = Path(".funcnet/clients").resolve()


@pytest.fixture(scope="module")
def others() -> Path:
    """The programs of an environment that has them, made once for each list of requirements."""
    wanted, made = (FOLDER / "requirements.txt").read_text(), ROOT / "requirements.txt"
    if not made.is_file() or made.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ROOT)], check=True)
        subprocess.run([str(ROOT / "bin/pip"), "install", "-qq", "-r", str(FOLDER / "requirements.txt")], check=True)
        made.write_text(wanted)
    return ROOT / "bin"


def test_litellm__as_a_client__chats_streams_calls_tools_embeds_and_understands_errors(network: Network, others: Path, encoder_dir: Path) -> None:
    encoder = serve_encoder(network, encoder_dir)
    command = [str(others / "python"), str(FOLDER / "with_litellm.py"), network.gateway_url, network.api_key, MODEL, encoder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["whole"] == told["streamed"]
    assert (told["usage"], told["stream_usage"], told["logprobs"]) == (8, 8, 2)
    assert told["call"]["city"] in ("Oslo", "Rome")
    assert (told["finish"], told["fitted"]) == ("tool_calls", {"n": 7})
    assert told["vectors"] == [384, 384]
    assert told["faults"] == ["NotFoundError", "AuthenticationError", "BadRequestError"]


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("api", "by"), [("gateway", "key"), ("gateway", "admin"), ("indexer", "anybody")])
def test_schemathesis__whatever_it_makes_up__gets_a_documented_answer_and_no_server_error(
    network: Network, others: Path, api: str, by: str, tmp_path: Path
) -> None:
    # A key that can pay for nothing: what is well-formed is refused at the last step, and no text is generated.
    token = network.create_key("schemathesis", budget=0)["key"] if by == "key" else network.secrets["admin"]
    url = network.gateway_url if api == "gateway" else network.indexer_url
    command = [str(others / "schemathesis"), "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {token}", "--checks", CHECKS]
    command += ["--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--exclude-path-regex", "/v1/events|/readyz|/livez"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]


def sessions(network: Network) -> tuple[int, dict[str, Any]]:
    live = requests.get(f"{network.gateway_url}/v1/network/live", timeout=10).json()
    return live["jobs_open"], live["sessions"]


def memory(network: Network) -> int:
    """Resident bytes of the gateway."""
    return int(Path(f"/proc/{network.supervisor.processes['gateway'].pid}/statm").read_text().split()[1]) * 4096


def raw(network: Network, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", urlsplit(network.gateway_url).port or 0), timeout=20)
    connection.sendall(data)
    return connection


def request(network: Network, body: bytes, length: int | None = None) -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {network.api_key}\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe\x00",
    b'{"model": 5}',
    b'{"model": "' + b"a" * 100_000 + b'"}',
    b"[" * 100_000,
    b'{"a": ' * 5_000 + b"1" + b"}" * 5_000,
    json.dumps({"model": MODEL, "messages": QUESTION, "max_tokens": 1e400}).encode(),
    json.dumps({"model": MODEL, "messages": QUESTION, "seed": 10**400}).encode(),
    json.dumps({"model": MODEL, "messages": QUESTION, "logit_bias": {str(10**30): 1}}).encode(),
    json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "\ud800"}]}).encode(),
    json.dumps({"model": "\ud800", "messages": QUESTION}).encode(),
    json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "\0"}], "max_tokens": 1, "stop": ["\0"]}).encode(),
    json.dumps({"model": MODEL, "messages": QUESTION * 20_000, "max_tokens": 1}).encode(),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_body__that_makes_no_sense__is_refused_and_nothing_breaks(network: Network, body: bytes) -> None:
    headers = {"authorization": f"Bearer {network.api_key}", "content-type": "application/json"}
    answer = requests.post(f"{network.gateway_url}/v1/chat/completions", data=body, headers=headers, timeout=60)
    assert answer.status_code in (200, 400, 404, 413), answer.text[:500]
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert len(answer.text) < 2_000
    assert requests.get(f"{network.gateway_url}/readyz", timeout=10).status_code == 200


def test_clients__that_are_slow_half_open_or_gone__leave_nothing_behind(network: Network) -> None:
    whole = json.dumps({"model": MODEL, "messages": QUESTION, "max_tokens": 40, "stream": True}).encode()
    requests.post(f"{network.gateway_url}/v1/chat/completions", data=whole, headers={"authorization": f"Bearer {network.api_key}"}, timeout=60)
    before = memory(network)
    connections = []
    for _ in range(6):
        connections.append(raw(network, request(network, whole)))  # never reads
        connections.append(raw(network, request(network, whole[:20], len(whole))))  # never ends
        connections.append(raw(network, request(network, whole)[:50]))  # not even its head
        gone = raw(network, request(network, whole))
        gone.recv(200)
        gone.close()
        connections.append(raw(network, b"GET /" + secrets.token_bytes(200) + b"\r\n\r\n"))
    time.sleep(3)
    for connection in connections:
        connection.close()
    network.wait(lambda: sessions(network) == (0, {}), 60, "the end of all jobs")
    assert memory(network) - before < 64 << 20
    assert requests.get(f"{network.gateway_url}/readyz", timeout=10).status_code == 200
