"""Prompts on one agent and what follows on another, against both on one: how long a client waits for its first token while others bring long prompts.

Agents have the whole model. Whoever serves prompts has a core of its own; the other core has all else: gateway, chain, clients and, where there are
two, the agent that goes on. Requests come at the same times in both, however long earlier ones take: clients that wait for an answer before they ask
again would bring most to whom answers soonest.
"""

import itertools
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
ROUNDS, SECONDS, WORDS, MAX_TOKENS = 3, 40, 300, 48
LOADS = {1.0: "as many requests as one agent can serve", 2.0: "half as many"}
"""Seconds between two requests, in the mean."""
PROMPT_CORE, OTHER_CORE = 0, 1


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench handover`` prints; ratios within a round, medians over rounds."""
    waits: dict[tuple[float, tuple[str, ...]], list[float]] = defaultdict(list)
    gaps: dict[tuple[float, tuple[str, ...]], list[float]] = defaultdict(list)
    served = handed = 0
    with _on(OTHER_CORE), running(PLANS) as network:
        network.restart_provider(ANSWERS, kv_from=network.address(PROMPTS))
        network.restart_provider(PROMPTS, standby=network.address(ANSWERS), hand_over=True)
        for name in (BOTH, PROMPTS):
            _pin(network.supervisor.processes[name].pid, PROMPT_CORE)
        network.wait(lambda: ask(network, text(0, WORDS), 2, by=TWO).replaced, 120, "a job that is handed over")
        prompts = itertools.count(1)
        for number, every, by in itertools.product(range(1 if quick else ROUNDS), LOADS, (ONE, TWO)):
            streams = _load(network, by, every, number, prompts)
            if faults := [stream.fault for stream in streams if stream.fault]:
                raise RuntimeError(f"{len(faults)} of {len(streams)} answers failed: {faults[0]}")
            waits[every, by].append(statistics.median(stream.first for stream in streams))
            gaps[every, by].append(statistics.median(stream.longest_gap for stream in streams))
            if by == TWO:
                served, handed = served + len(streams), handed + sum(stream.replaced for stream in streams)
    rows = []
    for every, words in LOADS.items():
        name = f"prompts and answers on two agents / one, {words}, time to the first token"
        rows.append(row(name, waits[every, ONE], waits[every, TWO], 1.0 if every == min(LOADS) else None))
        rows.append(row("of the same, longest time between two tokens", gaps[every, ONE], gaps[every, TWO]))
    rows.append({"name": "of the jobs on two, handed over", "value": handed / served, "bar": None, "unit": "ratio", "holds": True})
    return {"rows": rows, "answers": served}


def _load(network: Network, by: tuple[str, ...], every: float, number: int, prompts: Iterator[int]) -> list[Stream]:
    """Requests at random times, the same ones for the same ``number``, with words that nobody has asked before."""
    source = random.Random(number)
    waits = [source.expovariate(1 / every) for _ in range(int(SECONDS / every))]
    began = time.monotonic()

    def client(at: float, prompt: int) -> Stream:
        time.sleep(max(0.0, began + at - time.monotonic()))
        return ask(network, f"{text(prompt, WORDS)}. Tell a story with these words.", MAX_TOKENS, by=by, endless=True)

    with ThreadPoolExecutor(len(waits)) as pool:
        return list(pool.map(client, itertools.accumulate(waits), prompts))


@contextmanager
def _on(core: int) -> Iterator[None]:
    """This thread, and what it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pin(process: int, core: int) -> None:
    """Every thread of a process on one core."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
