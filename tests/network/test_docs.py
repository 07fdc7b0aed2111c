"""The examples of docs/api.md, each run as it stands, and its table of metrics."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from api.metrics import METRICS
from funcnet import actors
from funcnet.network import Network
from tests.network.asking import serve_encoder, sign_for_each, wait_for_sellers

pytestmark = pytest.mark.slow

PAGE = Path("docs/api.md")
BLOCKS = [(language, code) for language, code in re.findall(r"```(bash|python|js)\n(.*?)```", PAGE.read_text(), re.S)]


PAYER = "docs-payer"


@pytest.fixture(scope="module", autouse=True)
def all_there(network: Network, encoder_dir: Path) -> None:
    """What the examples ask for: vectors, verifiers in their seats, and a payer that signs."""
    serve_encoder(network, encoder_dir)
    actors.give_gas(network.chain, network.address(PAYER))
    actors.give_func(network.chain, network.wallet("treasury").account(), network.address(PAYER), 50)
    done = sign_for_each(network, PAYER, "--signed")
    assert done.returncode == 0, done.stderr
    wait_for_sellers(network)


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[f"{i}-{language}" for i, (language, _) in enumerate(BLOCKS)])
def test_example__as_it_stands__works(network: Network, tmp_path: Path, language: str, code: str) -> None:
    environment = {
        **os.environ,
        "URL": network.gateway_url,
        "KEY": network.api_key,
        "RPC": network.rpc_url,
        "DEPLOYMENT": str(network.deployment_file),
        "ADMIN": network.secrets["admin"],
        "PAYER": network.address("payer"),
        "KEYSTORE": str(network.wallet(PAYER).path),
        "PASSWORD_FILE": str(network.wallet(PAYER).password_file),
        "GATEWAY": network.address("gateway"),
        "RANDOM_NAME": secrets.token_hex(4),
        "PYTHONPATH": str(Path.cwd()),
    }
    if language == "js":
        (tmp_path / "node_modules").symlink_to(Path("node_modules").resolve())
    file = tmp_path / {"bash": "example.sh", "python": "example.py", "js": "example.mjs"}[language]
    file.write_text(code)
    command = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable], "js": ["node"]}[language]
    done = subprocess.run([*command, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_metrics__with_the_token__are_those_that_the_page_lists(network: Network) -> None:
    assert requests.get(f"{network.gateway_url}/metrics", timeout=10).status_code == 401
    assert requests.get(f"{network.gateway_url}/metrics", headers={"authorization": f"Bearer {network.api_key}"}, timeout=10).status_code == 401
    headers = {"authorization": f"Bearer {network.secrets['admin']}"}
    text = requests.get(f"{network.gateway_url}/metrics", headers=headers, timeout=10).text
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert {name for name in shown if not name.endswith("_created")} == set(METRICS)
    assert all(f"| `{name}` | {words} |" in PAGE.read_text() for name, words in METRICS.items())
    assert 'route="/v1/keys",status="201"' in text
