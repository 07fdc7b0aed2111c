"""A pipeline over slow links against the same one without: three agents, each behind a proxy that delivers what it gets later, in order, with jitter.

A token passes four links, so that one session alone waits two round trips for each. What makes up for that is how many sessions are in flight.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench._live import ask_all, running, story
from funcnet.network import PLANS, Network

ROUND_TRIP, JITTER = 100.0, 20.0
"""Milliseconds between any two parties, and by how much it varies."""
CLIENTS, ROUNDS, MAX_TOKENS = (1, 16, 24), 3, 48


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench links`` prints; ratios within a round, medians over rounds."""
    with running(PLANS[:3], proxied=True) as network, _links(network) as delay:
        ask_all(network, [story(0)], MAX_TOKENS)
        found: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        for number in range(1 if quick else ROUNDS):
            for clients in CLIENTS:
                speeds = []
                for round_trip, jitter in ((0.0, 0.0), (ROUND_TRIP, JITTER)):
                    delay(round_trip / 2, jitter / 2)
                    speeds.append(_speed(network, clients, number))
                found[clients].append(speeds[1] / speeds[0])
    rows = []
    for clients, ratios in found.items():
        value, bar = statistics.median(ratios), 0.6 if clients == 16 else None
        name = f"{clients} sessions, {ROUND_TRIP:.0f} ms round trips and {JITTER:.0f} ms jitter / without"
        spread = {"least": min(ratios), "most": max(ratios)}
        rows.append({"name": name, "value": value, **spread, "bar": bar, "unit": "ratio", "holds": bar is None or value >= bar})
    return {"rows": rows}


def _speed(network: Network, clients: int, number: int) -> float:
    """Tokens a second, of all clients together."""
    began = time.monotonic()
    streams = ask_all(network, [story(number * 100 + i) for i in range(clients)], MAX_TOKENS)
    if faults := [stream.fault for stream in streams if stream.fault]:
        raise RuntimeError(f"{len(faults)} of {clients} answers failed: {faults[0]}")
    return sum(len(stream.tokens) for stream in streams) / (time.monotonic() - began)


@contextmanager
def _links(network: Network) -> Iterator[Any]:
    """Sets the milliseconds of one way, and their jitter."""
    pairs = [f"{network.ports[name]}={port}" for name, port in network.behind.items()]
    with subprocess.Popen([sys.executable, "-m", "bench._delay", *pairs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxies:
        assert proxies.stdin is not None
        assert proxies.stdout is not None

        def delay(one_way: float, jitter: float) -> None:
            print(one_way, jitter, file=proxies.stdin, flush=True)
            proxies.stdout.readline()  # type: ignore[union-attr]

        try:
            yield delay
        finally:
            proxies.kill()
