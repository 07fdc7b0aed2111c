"""Load for minutes by clients that come with prompts of any length and go away at random: what is held must come back to where it began."""

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import Any

from bench._live import ask, running, story
from funcnet.network import Network
from protocol.chain import struct_values
from protocol.stage_rpc import StageClient
from protocol.wire import StageStatus, StatusRequest

CLIENTS, MOST_WORDS, MOST_TOKENS = 8, 400, 64
WARM_SECONDS, IDLE_SECONDS = 60, 120
KV_BYTES = 128_000_000
"""What each agent may hold of keys and values: enough for all clients at once, and so little that a minute of ended sessions, which are kept while
there is room, fills it before memory is looked at."""
GROWTH = 1.1
"""Memory may be larger by a tenth: allocators keep some of what was freed."""


def run(quick: bool = False, minutes: float = 10) -> dict[str, Any]:
    """What ``funcnet bench soak`` prints; ``quick``: one minute."""
    minutes = 1 if quick else minutes
    with running() as network:
        for plan in network.plans:
            network.restart_provider(plan.name, kv_bytes=KV_BYTES)
        load = Load(network)
        load.run(WARM_SECONDS)
        _wait_idle(network)
        before = _memory(network)
        load.run(minutes * 60)
        left = _wait_idle(network)
        after = _memory(network)
    growth = {name: after[name] / before[name] for name in before}
    sessions, reserved = sum(status.sessions for status in left), sum(status.kv_reserved for status in left)
    rows = [
        {"name": "sessions left", "value": sessions, "bar": 0, "unit": "sessions", "holds": sessions == 0},
        {"name": "KV cache reserved", "value": reserved, "bar": 0, "unit": "bytes", "holds": reserved == 0},
        *(
            {"name": f"memory after / before, {name}", "value": ratio, "bar": GROWTH, "unit": "ratio", "holds": ratio <= GROWTH}
            for name, ratio in growth.items()
        ),
        {"name": "answers that failed", "value": len(load.faults), "bar": 0, "unit": "answers", "holds": not load.faults},
    ]
    return {"rows": rows, "minutes": minutes, "answers": load.answers, "left_early": load.left, "faults": sorted(set(load.faults))[:5]}


class Load:
    """Clients, each in a thread; half of them go away in the middle."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.answers = self.left = 0
        self.faults: list[str] = []
        self._counting = threading.Lock()

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(random.Random(number), until)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, source: random.Random, until: float) -> None:
        while time.monotonic() < until:
            words = " word" * source.choice((0, 5, 50, source.randrange(MOST_WORDS)))
            leave = source.randrange(1, MOST_TOKENS) if source.random() < 0.5 else None
            stream = ask(self.network, story(source.randrange(1000)) + words, source.randrange(1, MOST_TOKENS), leave)
            with self._counting:
                self.answers += 1
                self.left += not stream.tokens
                self.faults += [stream.fault] if stream.fault else []


def _memory(network: Network) -> dict[str, int]:
    """Resident bytes of the gateway and the agents."""
    pids = {name: network.supervisor.processes[name].pid for name in ("gateway", *(plan.name for plan in network.plans))}
    return {name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for name, pid in pids.items()}


def _wait_idle(network: Network) -> list[StageStatus]:
    """The stages' status once nothing is open, or after two minutes in which something stays so."""
    deadline = time.monotonic() + IDLE_SECONDS
    while True:
        found = asyncio.run(_statuses(network))
        if not any(status.sessions for status in found) or time.monotonic() > deadline:
            return found
        time.sleep(1)


async def _statuses(network: Network) -> list[StageStatus]:
    return [await _status(network, plan.name) for plan in network.plans]


async def _status(network: Network, name: str) -> StageStatus:
    info = struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", network.address(name)))
    client = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        return await client.call("Status", StatusRequest(), StageStatus)
    finally:
        await client.close()
