"""What the gateway adds to a request, against LiteLLM's proxy in the same run.

Each stands before an upstream that answers at once: LiteLLM before a server that says the same four tokens to everybody, our gateway before a
provider that really runs a model, of three tiny layers, and signs for it. What either adds is a request's time less that of its upstream, which is
measured by itself: for LiteLLM by asking the server directly, for ours by the time that a job waits for the stage's answers.

Ours does more: it keeps keys, budgets and rates in PostgreSQL, reserves and settles money, signs an offer and a voucher, and checks a receipt.
LiteLLM runs without a database, as it is fastest.
"""

import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import requests

from api.budget import Budget, LegKey
from api.pipeline import JobSpec, Pipeline
from api.routing import Router
from api.signing import LocalSigner
from api.text import TextModel
from bench._live import running
from bench._load import MAX_TOKENS
from funcnet import FuncnetError, actors, model
from funcnet.network import Network, ProviderPlan
from funcnet.processes import Supervisor, free_ports
from protocol.receipts import SessionOffer, job_id, request_hash
from protocol.sampling import SamplingParameters, session_seed
from protocol.stage_rpc import StageClient, StageClients
from protocol.typed import Signed
from protocol.units import FUNC, LayerRange
from protocol.wire import CloseReply, RouteStop

R = TypeVar("R")
LITELLM = "litellm[proxy]==1.108.7"
ROOT = Path(".funcnet/bench")
SECONDS, ROUNDS, MANY, WARM = 8.0, 3, 32, 1.5


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench gateway`` prints: medians over interleaved rounds."""
    seconds, rounds = (4.0, 1) if quick else (SECONDS, ROUNDS)
    ROOT.mkdir(parents=True, exist_ok=True)
    proxy = _litellm()
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with running((ProviderPlan("provider-1", "0-3"),), _tiny()) as network, _peers(proxy, network.root) as (instant, litellm):
        key = _key_without_a_limit(network)
        ours, theirs, direct = (network.gateway_url, key, network.model_dir.name), (litellm, "sk-bench", "instant"), (instant, "sk", "instant")
        for target in (ours, theirs):
            _load(target, MANY, WARM, False)
        for _ in range(rounds):
            waits = asyncio.run(_stage_waits(network, 100 if quick else 300))
            for stream in (False, True):
                kind = "streaming" if stream else "whole"
                base = _load(direct, 1, seconds / 4, stream)
                for who, target, upstream in (("ours", ours, waits), ("litellm", theirs, base)):
                    told = _load(target, 1, seconds, stream)
                    for at in ("first", "whole") if stream else ("whole",):
                        for name, point in (("p50", 0.5), ("p99", 0.99)):
                            note(f"{who} {kind} {at} {name}", 1000 * (_at(told[at], point) - _at(upstream[at], 0.5)))
                    busy = _load(target, MANY, seconds, stream)
                    note(f"{who} {kind} rate 1", len(told["whole"]) / told["seconds"])
                    note(f"{who} {kind} rate {MANY}", len(busy["whole"]) / busy["seconds"])
    value = {name: statistics.median(values) for name, values in found.items()}
    rows = []
    for kind in ("whole", "streaming"):
        ours_adds, theirs_adds = value[f"ours {kind} whole p50"], value[f"litellm {kind} whole p50"]
        rows.append(_row(f"added to a {kind} answer, p50 / LiteLLM's", ours_adds / theirs_adds, 0.5, "ratio", most=True))
        for clients in (1, MANY):
            ratio = value[f"ours {kind} rate {clients}"] / value[f"litellm {kind} rate {clients}"]
            rows.append(_row(f"{kind} answers a second, {clients} clients / LiteLLM's", ratio, 2, "ratio"))
    rows.append(_row("added to the first token, p50", value["ours streaming first p50"], 5, "ms", most=True))
    rows += [_row(f"{name} [ms added, or answers/s]", amount, None, "") for name, amount in sorted(value.items())]
    return {"rows": rows, "peer": LITELLM, "tokens": MAX_TOKENS}


def _row(name: str, value: float, bar: float | None, unit: str, most: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "bar": bar, "unit": unit, "holds": bar is None or (value <= bar if most else value >= bar)}


def _at(values: list[float], point: float) -> float:
    return sorted(values)[min(len(values) - 1, int(point * len(values)))]


def _load(target: tuple[str, str, str], clients: int, seconds: float, stream: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench._load", *target, str(clients), str(seconds), str(int(stream))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FuncnetError(f"the load did not go through: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))


# the peers


def _litellm() -> Path:
    """LiteLLM's proxy in an environment of its own, installed once."""
    home = ROOT / "litellm"
    if not (home / ".ready").is_file():
        print(f"installing {LITELLM}")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin/pip"), "install", "-qq", LITELLM], check=True)
        (home / ".ready").touch()
    return (home / "bin/litellm").absolute()


@contextmanager
def _peers(proxy: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Addresses of the upstream that answers at once, and of LiteLLM before it."""
    upstream, port = free_ports(2)
    config = root / "litellm.yaml"
    params = {"model": "openai/instant", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk"}
    listed = {"model_list": [{"model_name": "instant", "litellm_params": params}], "general_settings": {"master_key": "sk-bench"}}
    config.write_text(json.dumps({**listed, "litellm_settings": {"telemetry": False}}))
    supervisor = Supervisor(root / "logs")
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    supervisor.start("instant", [sys.executable, "-m", "bench._instant", str(upstream)])
    supervisor.start("litellm", [str(proxy), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"], environment)
    urls = f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{port}"
    try:
        supervisor.wait("litellm", lambda: _answers(f"{urls[1]}/health/liveliness"), 90, "an answer")
        yield urls
    finally:
        for name in ("litellm", "instant"):
            supervisor.stop(name)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


# our own upstream


def _tiny() -> Path:
    """A model whose compute takes next to nothing: three layers of random weights under the bundled model's tokenizer."""
    target = (ROOT / "tiny").absolute()
    if not (target / "tolerance.json").is_file():
        bundled = model.prepare_bundled(Path(".funcnet"), print)
        source = ROOT / "tiny-source"
        subprocess.run([sys.executable, "-c", MAKE_TINY, str(bundled), str(source)], check=True)
        model.run_prepare(source, target)
    return target


MAKE_TINY = """
import shutil, sys
from pathlib import Path
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
bundled, source = map(Path, sys.argv[1:])
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(bundled)
size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2)
config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, eos_token_id=tokenizer.eos_token_id, **size)
LlamaForCausalLM(config).save_pretrained(source)
tokenizer.save_pretrained(source)
"""


def _key_without_a_limit(network: Network) -> str:
    body = {"payer": network.address("payer"), "requests_per_minute": 1_000_000}
    headers = {"authorization": f"Bearer {network.secrets['admin']}"}
    return str(requests.post(f"{network.gateway_url}/v1/keys", json=body, headers=headers, timeout=30).json()["key"])


class _NoBooks(Budget):
    """Vouchers add up, and nothing is written."""

    def __init__(self) -> None:
        self.cumulative = 0

    async def add_leg(self, key: LegKey, offer: SessionOffer, signed: Signed, stop: RouteStop) -> None: ...

    async def issue(self, key: LegKey, completion_tokens: int, amount: int) -> int:
        self.cumulative += amount
        return self.cumulative

    async def close_leg(self, key: LegKey, reply: CloseReply) -> None: ...


class _TimedClient(StageClient):
    """Counts the seconds in which its caller waits for the stage."""

    waited = 0.0

    async def call(self, method: str, request: msgspec.Struct, reply: type[R], timeout: float = 20) -> R:
        began = time.perf_counter()
        try:
            return await super().call(method, request, reply, timeout)
        finally:
            _TimedClient.waited += time.perf_counter() - began

    async def stream(self, method: str, request: msgspec.Struct, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        began = time.perf_counter()
        async for message in super().stream(method, request, timeout):
            _TimedClient.waited += time.perf_counter() - began
            yield message
            began = time.perf_counter()


class _TimedClients(StageClients):
    async def to(self, stop: RouteStop) -> StageClient:
        client = await super().to(stop)
        return _TimedClient(client.channel, client.endpoint)


async def _stage_waits(network: Network, jobs: int) -> dict[str, list[float]]:
    """Seconds for which jobs wait for their stage, to the first token and in all."""
    name = f"bench-{secrets.token_hex(4)}"
    wallet, chain, gateway = network.wallet(name), network.chain, network.wallet("gateway").account()
    actors.give_gas(chain, network.address(name))
    actors.give_func(chain, network.wallet("treasury").account(), network.address(name), 100)
    actors.fund_payer(chain, wallet.account(), gateway.address, 50 * FUNC, 50 * FUNC)
    text = TextModel.load("tiny", network.manifest.model_id, network.model_dir)
    prompt = text.encode_chat([{"role": "user", "content": "Say something."}])
    router, budget = Router(chain, clients=_TimedClients()), _NoBooks()
    router.backed = {network.address("provider-1")}
    route = router.choose(text.model_id, LayerRange(0, 3), len(prompt), MAX_TOKENS)
    first: list[float] = []
    whole: list[float] = []
    for i in range(jobs + 20):
        _TimedClient.waited = 0.0
        name_of_job = job_id(gateway.address, 2**63 + secrets.randbits(60), request_hash(secrets.token_bytes(32), b""))
        sampling = SamplingParameters(temperature=1.0, seed=session_seed(i, text.model_id, 0), stop_tokens=list(text.stop_tokens))
        spec = JobSpec(name_of_job, network.address(name), text.model_id, LayerRange(0, 3), prompt, MAX_TOKENS, sampling)
        pipeline = Pipeline(chain, LocalSigner(gateway), budget, router, spec)
        await pipeline.open(route)
        async for _ in pipeline.tokens(lambda token: token in text.stop_tokens):
            if len(pipeline.received) == 1:
                at = _TimedClient.waited
        await pipeline.close()
        first.append(at)
        whole.append(_TimedClient.waited)
    await router.clients.close()
    return {"first": first[20:], "whole": whole[20:]}
