"""What another stage costs by being another: the time between two tokens over three agents, against one agent with the whole model.

A client streams from a whole local network: HTTP, gateway, TLS between agents, hashes, receipts. The passes of three stages together run the same
layers as one, so what is between is two hops more.
"""

import statistics
from typing import Any

from bench._live import ask, running, text
from funcnet.network import PLANS, Network, ProviderPlan

ONE, THREE = ("whole",), tuple(plan.name for plan in PLANS[:3])
HOPS = len(THREE) - len(ONE)
ROUNDS, WORDS, MAX_TOKENS = 10, 30, 64
BAR = 1.0
"""Milliseconds."""


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench hop`` prints: differences within a round, their median over rounds."""
    found: dict[tuple[str, ...], list[float]] = {ONE: [], THREE: []}
    with running((*PLANS[:3], ProviderPlan(ONE[0], "0-30"))) as network:
        for number in range(1 + (3 if quick else ROUNDS)):
            for by in found:
                found[by].append(_between_tokens(network, by, number))
    # The first round warms up.
    one, three = (1000 * statistics.median(values[1:]) for values in found.values())
    added = [1000 * (b - a) / HOPS for a, b in zip(found[ONE][1:], found[THREE][1:], strict=True)]
    value, spread = statistics.median(added), {"least": min(added), "most": max(added)}
    return {
        "rows": [
            {"name": "added by a hop while decoding", "value": value, **spread, "bar": BAR, "unit": "ms", "holds": value <= BAR},
            {"name": "between two tokens, three agents / one", "value": three / one, "bar": None, "unit": "ratio", "holds": True},
        ]
    }


def _between_tokens(network: Network, by: tuple[str, ...], number: int) -> float:
    """Seconds, in the median of one answer."""
    question = f"{text(1000 * number + len(by), WORDS)}. Tell a long story with these words."
    stream = ask(network, question, MAX_TOKENS, by=by, endless=True)
    if stream.fault or stream.stages != len(by):
        raise RuntimeError(stream.fault or f"{stream.stages} stages served, not {', '.join(by)}")
    return statistics.median(later - earlier for earlier, later in zip(stream.arrivals, stream.arrivals[1:], strict=False))
