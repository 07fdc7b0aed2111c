"""Clients at once against one client, and a prompt that begins like an earlier one against one that does not, over a whole local network: HTTP,
gateway, three agents, TLS, hashes, receipts."""

import statistics
import time
from typing import Any

from bench._live import ask, ask_all, row, running, story, text
from funcnet.network import Network

CLIENTS, ROUNDS, MAX_TOKENS = (1, 4, 16), 3, 48
WORDS = (150, 600, 1500)
"""Lengths of the beginning that two prompts share."""


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench serving`` prints; ratios within a round, medians over rounds."""
    speed: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    first: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    again: dict[int, list[float]] = {words: [] for words in WORDS}
    anew: dict[int, list[float]] = {words: [] for words in WORDS}
    with running() as network:
        ask_all(network, [story(0)], MAX_TOKENS)
        for number in range(1 if quick else ROUNDS):
            for clients in CLIENTS:
                start = time.monotonic()
                streams = ask_all(network, [story(number * 100 + i) for i in range(clients)], MAX_TOKENS)
                if faults := [stream.fault for stream in streams if stream.fault]:
                    raise RuntimeError(f"{len(faults)} of {clients} answers failed: {faults[0]}")
                speed[clients].append(sum(len(stream.tokens) for stream in streams) / (time.monotonic() - start))
                first[clients].append(statistics.median(stream.first for stream in streams))
            for words in WORDS:
                shared = text(number * 10_000 + words, words)
                anew[words].append(_first(network, f"{shared}. Which word came first?"))
                again[words].append(_first(network, f"{shared}. Which word came last?"))
    rows = [row(f"{clients} clients / one, tokens a second", speed[1], speed[clients]) for clients in CLIENTS[1:]]
    rows += [row(f"{clients} clients / one, time to the first token", first[1], first[clients]) for clients in CLIENTS[1:]]
    rows += [row(f"{words} words that an earlier prompt began with / others, time to a token", anew[words], again[words]) for words in WORDS]
    return {"rows": rows}


def _first(network: Network, question: str) -> float:
    """Seconds for an answer of one token, be it text or the end."""
    stream = ask(network, question, 1)
    if stream.fault:
        raise RuntimeError(stream.fault)
    return stream.ended - stream.began
