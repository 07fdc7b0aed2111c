"""``funcnet up``, ``down``, ``status`` and ``logs``: a network that stays."""

import json
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import requests
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from funcnet import FuncnetError
from funcnet import model as models
from funcnet.local import Root, home, running
from funcnet.network import Network
from funcnet.state import NetworkState
from protocol.units import format_func

REFRESH_SECONDS = 2.0
DOWN_SECONDS = 40
MAX_STARTS, CRASH_SECONDS = 5, 60


def up(as_json: Annotated[bool, typer.Option("--json", help="print one line when ready")] = False, root: Root = Path(".funcnet")) -> None:
    """Start the demo's network and keep it running; Ctrl-C stops it, and the next start goes on where it stopped."""
    console = Console(stderr=as_json, highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    here = home(root)
    if (pid := running(root)) is not None:
        raise FuncnetError(f"a network runs already (process {pid}); see `funcnet status`, or end it with `funcnet down`")
    folder = models.prepare_bundled(root, console.print).resolve()
    network = Network(here, folder, console.print, keep=True)
    try:
        (here / "up.pid").write_text(str(os.getpid()))
        told = {"rpc_url": network.rpc_url, "deployment": str(network.deployment_file), "models_dir": str(folder.parent)}
        (here / "settings.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
        network.start()
        _note_pids(network)
        if as_json:
            print(json.dumps(_told(network)), flush=True)
        _watch(network, console)
    except KeyboardInterrupt:
        console.print("stopping; everything is kept")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        network.stop()
        for file in ("up.pid", "pids.json"):
            (here / file).unlink(missing_ok=True)


def down(root: Root = Path(".funcnet")) -> None:
    """Stop the network that `funcnet up` runs; its state stays."""
    pid = running(root)
    if pid is None:
        raise FuncnetError("no network runs here; start one with `funcnet up`")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while running(root) is not None:
        if time.monotonic() > deadline:
            raise FuncnetError(f"process {pid} still runs after {DOWN_SECONDS} s; see `funcnet logs`")
        time.sleep(0.2)
    print("stopped")


def status(root: Root = Path(".funcnet"), as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False) -> None:
    """Whether the network runs, where its parts are, and their processes."""
    if not (home(root) / "network.json").is_file():
        raise FuncnetError(f"there is no network below {root}; start one with `funcnet up`")
    state = NetworkState.load(home(root), ())
    gateway = f"http://127.0.0.1:{state.ports['gateway']}"
    body = {"running": running(root), "ready": _ready(gateway), "gateway": gateway, "indexer": f"http://127.0.0.1:{state.ports['indexer']}"}
    noted = home(root) / "pids.json"
    pids = json.loads(noted.read_text()) if noted.is_file() else {}
    if as_json:
        print(json.dumps({**body, "pids": pids}))
        return
    for name, value in body.items():
        print(f"{name:18} {value if value is not None else 'no'}")
    for name, pid in pids.items():
        print(f"{name:18} process {pid}")


def logs(
    name: Annotated[str, typer.Argument(help="a process, such as gateway or provider-1")],
    lines: Annotated[int, typer.Option("-n", min=1, help="how many lines")] = 40,
    root: Root = Path(".funcnet"),
) -> None:
    """The end of a process's log."""
    folder = home(root) / "logs"
    known = sorted(file.stem for file in folder.glob("*.log"))
    if name not in known:
        raise FuncnetError(f"there is no log of {name!r}; known: {', '.join(known) or 'none yet'}")
    print("\n".join((folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:]))


def _note_pids(network: Network) -> None:
    """For `funcnet status`."""
    (network.root / "pids.json").write_text(json.dumps(_pids(network)))


def _pids(network: Network) -> dict[str, int]:
    return {name: process.pid for name, process in network.supervisor.processes.items()}


def _told(network: Network) -> dict[str, Any]:
    return {
        "gateway": network.gateway_url,
        "indexer": network.indexer_url,
        "rpc": network.rpc_url,
        "api_key": network.api_key,
        "model": network.model_dir.name,
        "pids": _pids(network),
    }


def _watch(network: Network, console: Console) -> None:
    """Show the network until interrupted; a process that ends by itself is started again, unless it keeps ending."""
    body = {"model": network.model_dir.name, "messages": [{"role": "user", "content": "Hello"}]}
    gateway = network.gateway_url
    told = {"chat": f"{gateway}/#key={network.api_key}", "network": f"{gateway}/network", "gateway": f"{gateway}/v1"}
    told |= {
        "settings": f"export FUNCNET_SETTINGS={network.root / 'settings.toml'}",
        "indexer": network.indexer_url,
        "rpc": network.rpc_url,
        "api key": network.api_key,
    }
    for name, value in told.items():
        console.print(f"{name:8} {value}", soft_wrap=True, markup=False)
    console.print(
        f"\ncurl {gateway}/v1/chat/completions -H 'authorization: Bearer {network.api_key}' "
        f"-H 'content-type: application/json' -d '{json.dumps(body)}'\n",
        soft_wrap=True,
        markup=False,
    )
    starts: dict[str, list[float]] = {}
    with Live(_table(network), console=console, refresh_per_second=1, transient=True) as live:
        while True:
            time.sleep(REFRESH_SECONDS)
            for name in network.heal():
                now = time.monotonic()
                starts[name] = [*(at for at in starts.get(name, []) if at > now - CRASH_SECONDS), now]
                if len(starts[name]) > MAX_STARTS:
                    raise FuncnetError(f"{name} ended {MAX_STARTS} times within {CRASH_SECONDS} s; see `funcnet logs {name}`")
                _note_pids(network)
                console.print(f"{name} ended and was started again; see `funcnet logs {name}`")
            live.update(_table(network))


def _table(network: Network) -> Table:
    try:
        live = requests.get(f"{network.gateway_url}/v1/network/live", timeout=5).json()
        providers = network.indexed("/v1/providers")["data"]
        jobs, totals = len(network.indexed("/v1/jobs?limit=1000")["data"]), live["totals"]
        done = f"{jobs} jobs, {totals.get('batches', 0)} batches, {totals.get('checks', 0)} checks"
        title = f"block {live['block']}: {done}, {live['tokens_per_second']:.1f} tokens/s"
    except (requests.RequestException, FuncnetError, KeyError) as error:
        return Table(title=f"gateway or indexer does not answer: {error}")
    table = Table(title=title)
    for heading in ("provider", "layers", "sessions", "receipts", "stake", "paid", "state"):
        table.add_column(heading)
    for entry in providers:
        layers = ", ".join(f"{offer['firstLayer']}-{offer['endLayer']}" for offer in entry["offers"])
        state = "jailed" if entry["jailed"] else "resting" if entry["provider"] in live["resting"] else "serving"
        sessions = str(live["sessions"].get(entry["provider"], 0))
        stake, paid = format_func(int(entry["stake"])), format_func(int(entry["paid"]))
        table.add_row(entry["provider"][:12], layers, sessions, str(entry["receipts"]), stake, paid, state)
    return table


def _ready(gateway: str) -> bool:
    try:
        return requests.get(f"{gateway}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
