"""Prompts on one agent and what follows on another, against both on one: how long a client waits for its first token while others bring long prompts.

Agents have the whole model and a core each. What is compared is one machine with two that share the work by its kind, as their operator may do.
"""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench._live import Stream, ask, row, running, text
from funcnet.network import Network, ProviderPlan

BOTH, PROMPTS, ANSWERS = "both", "prompts", "answers"
ONE, TWO = (BOTH,), (PROMPTS, ANSWERS)
PLANS = (
    ProviderPlan(BOTH, "0-30"),
    ProviderPlan(PROMPTS, "0-30"),
    # What it does not run costs nothing there: a gateway goes on where that costs no more.
    ProviderPlan(ANSWERS, "0-30", cached_price=0),
)
CLIENTS, ROUNDS, SECONDS, WORDS, MAX_TOKENS = 4, 3, 40, 300, 48


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench handover`` prints; ratios within a round, medians over rounds."""
    waits: dict[tuple[str, ...], list[float]] = {ONE: [], TWO: []}
    gaps: dict[tuple[str, ...], list[float]] = {ONE: [], TWO: []}
    served = handed = 0
    with running(PLANS) as network:
        network.restart_provider(ANSWERS, kv_from=network.address(PROMPTS))
        network.restart_provider(PROMPTS, standby=network.address(ANSWERS), hand_over=True)
        for name, core in ((BOTH, 0), (PROMPTS, 0), (ANSWERS, 1)):
            _pin(network, name, core)
        network.wait(lambda: ask(network, text(0, WORDS), 2, by=TWO).replaced, 120, "a job that is handed over")
        for number in range(1 if quick else ROUNDS):
            for by in waits:
                streams = _load(network, by, number)
                if faults := [stream.fault for stream in streams if stream.fault]:
                    raise RuntimeError(f"{len(faults)} of {len(streams)} answers failed: {faults[0]}")
                waits[by].append(statistics.median(stream.first for stream in streams))
                gaps[by].append(statistics.median(stream.longest_gap for stream in streams))
                if by == TWO:
                    served, handed = served + len(streams), handed + sum(stream.replaced for stream in streams)
    rows = [
        row("prompts and answers on two agents / one, time to the first token", waits[ONE], waits[TWO], 1.0),
        row("of the same, longest time between two tokens", gaps[ONE], gaps[TWO], None),
        {"name": "of the jobs on two, handed over", "value": handed / served, "bar": None, "unit": "ratio", "holds": True},
    ]
    return {"rows": rows, "answers": served}


def _load(network: Network, by: tuple[str, ...], number: int) -> list[Stream]:
    """Clients that each ask again once they are answered, always with words that nobody has asked before."""
    until, streams = time.monotonic() + SECONDS, list[Stream]()

    def client(which: int) -> None:
        count = 0
        while time.monotonic() < until:
            count += 1
            question = text(1_000_000 * (1 + 2 * number + len(by)) + 10_000 * which + count, WORDS)
            streams.append(ask(network, f"{question}. Tell a story with these words.", MAX_TOKENS, by=by))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return streams


def _pin(network: Network, name: str, core: int) -> None:
    """Every thread of an agent on one core."""
    for thread in Path(f"/proc/{network.supervisor.processes[name].pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
