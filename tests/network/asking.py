"""How the tests ask the shared network, and what they make of its answers."""

import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai
import requests

from funcnet import actors
from funcnet.network import Network, ProviderPlan
from protocol.receipts import StageReceipt
from protocol.units import FUNC

MODEL = "smollm2-135m-instruct"
ENCODER_PRICE = 10 * FUNC
QUESTION = [{"role": "user", "content": "Name three colours."}]


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "max_tokens": 12, "temperature": 0, **options})


def extra(answer: Any) -> dict[str, Any]:
    return dict(answer.model_extra["function_network"])


def reference(network: Network, max_tokens: int, messages: list[dict[str, str]] = QUESTION) -> dict[str, Any]:
    command = [sys.executable, "-m", "inference.reference", str(network.model_dir)]
    request = json.dumps({"messages": messages, "max_tokens": max_tokens})
    return dict(json.loads(subprocess.run(command, input=request, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))


def receipts_of(told: Mapping[str, Any]) -> list[StageReceipt]:
    """Of an answer's ``extra``, or of a job as the gateway tells it."""
    return [StageReceipt.from_json(entry["receipt"]["message"]) for entry in told["receipts"]]


def providers_asked_afresh(client: openai.OpenAI) -> set[str]:
    """Who serves a question that begins like no other: one that does not would go to the stages that have its rows."""
    asked = [{"role": "user", "content": f"{secrets.token_hex(8)} is what?"}]
    return {receipt.provider for receipt in receipts_of(extra(ask(client, messages=asked, max_tokens=1)))}


def payer_of_its_own(network: Network, name: str) -> str:
    """A payer that nothing links to the treasury's own; its API key."""
    wallet, chain = network.wallet(name), network.chain
    actors.give_gas(chain, network.address(name))
    actors.give_func(chain, network.wallet("treasury").account(), network.address(name), 100)
    actors.fund_payer(chain, wallet.account(), network.address("gateway"), 50 * FUNC, 50 * FUNC)
    return str(network.create_key(name, payer=name)["key"])


def job_once(network: Network, job_id: str, status: str) -> dict[str, Any]:
    """What the gateway says of a job once all of its receipts are anchored, and verified where ``status`` is that."""

    def look() -> Any:
        answer = requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers={"authorization": f"Bearer {network.api_key}"}, timeout=10)
        body = answer.json()
        return body if body["status"] in (status, "verified") and all(entry["anchor"] for entry in body["receipts"]) else None

    return dict(network.wait(look, 60, f"{status}: job {job_id}"))


def wait_for_sellers(network: Network, model: str = MODEL) -> str:
    """The price of a check, once verifiers sell some: a new network's count from the third epoch on, and each tries the model's table first."""
    headers = {"authorization": f"Bearer {network.api_key}"}

    def price() -> str | None:
        return requests.get(f"{network.gateway_url}/v1/models/{model}", headers=headers, timeout=10).json()["check_price"]  # type: ignore[no-any-return]

    return str(network.wait(price, 120, "verifiers that sell checks"))


def serve_encoder(network: Network, folder: Path) -> str:
    """Have a provider of its own serve a model that makes vectors, if none does; its name."""
    if folder.name not in {plan.model_dir.name for plan in network.plans if plan.model_dir}:
        network.add_model(folder)
        network.add_provider(ProviderPlan("embedder", "0-6", ENCODER_PRICE, ENCODER_PRICE, folder))
    url, headers = f"{network.gateway_url}/v1/models/{folder.name}", {"authorization": f"Bearer {network.api_key}"}
    network.wait(lambda: requests.get(url, headers=headers, timeout=10).json()["pricing"], 60, "an offer of vectors")
    return folder.name


def sign_for_each(network: Network, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Have a party pay the gateway as its user would, by `funcnet wallet pay`."""
    wallet = network.wallet(name)
    command = [str(Path(sys.executable).parent / "funcnet"), "wallet", "pay", network.address("gateway"), "--deposit", "50", "--per-day", "50"]
    command += ["--keystore", str(wallet.path), "--keystore-password-file", str(wallet.password_file)]
    command += ["--rpc-url", network.rpc_url, "--deployment", str(network.deployment_file), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(network: Network, file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "funcnet"), "verify", str(file), "--deployment", str(network.deployment_file), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def replaying(network: Network, by: str = "payer") -> list[str]:
    """Options with which `funcnet verify` replays."""
    return ["--rpc", network.rpc_url, "--replay", "--keystore", str(network.wallet(by).path), "--model-dir", str(network.model_dir)]
