"""Stages killed with SIGKILL under many streams, with a warm spare for each: every stream has to end with the tokens that it has undisturbed.

Each kill is written down, so that a run that is cut off goes on with ``--kills`` where it stopped. Beside that, one stream by itself with a long
prompt: how long it stands still, against the first token of another such prompt, which is what asking anew would cost; where a spare runs the rows
again, and where it is a standby that has their keys and values.
"""

import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import requests
from prometheus_client.parser import text_string_to_metric_families

from bench._live import SPARES, Stream, ask, ask_all, row, running, story, text
from funcnet.network import PLANS, Network

STREAMS, MAX_TOKENS = 16, 48
ALONE, WORDS = 10, 500
"""Streams by themselves, and the length of their prompts."""
DONE = Path(".funcnet/bench/recovery.jsonl")
READY_SECONDS = 60
RUN, TAKEN = "rows run again", "keys and values at a standby"
REPLACING = "funcnet_gateway_replacement_seconds"


class Alone(NamedTuple):
    """Seconds: to the first token of a long prompt, of the gap in another one's answer, and of that since the gateway saw the stage fail."""

    first: float
    gap: float
    replacing: float


def run(quick: bool = False, kills: int = 100) -> dict[str, Any]:
    """What ``funcnet bench recovery`` prints. ``quick``: three kills, and nothing is written down."""
    rounds = [] if quick or not DONE.is_file() else [json.loads(line) for line in DONE.read_text().splitlines()]
    missing = max(0, (3 if quick else kills) - len(rounds))
    alone: dict[str, list[Alone]] = {}
    if missing:
        with running((*PLANS[:3], *SPARES)) as network:
            questions = [story(number) for number in range(STREAMS)]
            expected = [stream.tokens for stream in ask_all(network, questions, MAX_TOKENS)]
            alone[RUN] = [_kill_alone(network, number) for number in range(3 if quick else ALONE)]
            for _ in range(missing):
                rounds.append(_kill_once(network, questions, expected))
                if not quick:
                    DONE.parent.mkdir(parents=True, exist_ok=True)
                    with DONE.open("a") as file:
                        file.write(json.dumps(rounds[-1]) + "\n")
            _stand_by(network)
            alone[TAKEN] = [_kill_alone(network, ALONE + number) for number in range(3 if quick else ALONE)]
    gaps = [ratio for done in rounds for ratio in done["gap_over_first_token"]]
    totals = {key: sum(done[key] for done in rounds) for key in ("streams", "streams_completed", "replaced", "tokens_lost", "tokens_differ")}
    rows = [
        {"name": name, "value": totals[name], "bar": 0, "unit": "tokens", "holds": totals[name] == 0} for name in ("tokens_lost", "tokens_differ")
    ]
    rows.append(
        {"name": "longest gap / time to first token, p50", "value": statistics.median(gaps or [0]), "bar": None, "unit": "ratio", "holds": True}
    )
    for how, kills_alone in alone.items():
        firsts = [kill.first for kill in kills_alone]
        rows.append(
            row(
                f"one stream whose stage is killed, to the next token less detection, {how} / first token of such a prompt",
                firsts,
                [kill.replacing for kill in kills_alone],
                bar=0.45,
            )
        )
        rows.append(row("of the same, detection included", firsts, [kill.gap for kill in kills_alone]))
    return {"rows": rows, "kills": len(rounds), **totals}


def _stand_by(network: Network) -> None:
    """From now on each stage ships its keys and values to its spare."""
    for plan, spare in zip(PLANS, SPARES, strict=False):
        network.restart_provider(spare.name, kv_from=network.address(plan.name))
        network.restart_provider(plan.name, standby=network.address(spare.name))
        _wait_served(network, plan.name)


def _kill_alone(network: Network, number: int) -> Alone:
    """Kill a stage behind the first tokens of a long prompt's answer."""
    victim = PLANS[number % 3].name
    first = ask(network, text(2 * number, WORDS), 4, endless=True).first
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, network, f"{text(2 * number + 1, WORDS)}. Tell a very long story with these words.", 4 * MAX_TOKENS, endless=True)
        time.sleep(1.3 * first)
        before = _replacing(network)
        network.supervisor.kill(victim)
        stream = asked.result()
        replacing = _replacing(network) - before
    if stream.fault or not stream.replaced or len(stream.arrivals) < 2:
        raise RuntimeError(stream.fault or f"{victim} was killed before or after the answer of {len(stream.arrivals)} chunks")
    _heal(network, victim)
    return Alone(first, stream.longest_gap, replacing)


def _replacing(network: Network) -> float:
    """Seconds that streams have stood still at the gateway since it saw one of their stages fail, all together."""
    answer = requests.get(f"{network.gateway_url}/metrics", headers={"authorization": f"Bearer {network.secrets['admin']}"}, timeout=10)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {sample.name: sample.value for sample in families[REPLACING].samples}
    return samples[f"{REPLACING}_sum"]


def _kill_once(network: Network, questions: list[str], expected: list[list[int]]) -> dict[str, Any]:
    victim = random.choice(PLANS[:3]).name
    with ThreadPoolExecutor(len(questions)) as pool:
        asked = [pool.submit(ask, network, question, MAX_TOKENS) for question in questions]
        time.sleep(random.uniform(0.5, 6))
        network.supervisor.kill(victim)
        streams = [future.result() for future in asked]
    _heal(network, victim)
    pairs = list(zip(streams, expected, strict=True))
    return {
        "victim": victim,
        "streams": len(streams),
        "streams_completed": sum(not stream.fault for stream in streams),
        "replaced": sum(stream.replaced for stream in streams),
        "tokens_lost": sum(max(0, len(tokens) - len(stream.tokens)) for stream, tokens in pairs),
        "tokens_differ": sum(a != b for stream, tokens in pairs for a, b in zip(stream.tokens, tokens, strict=False)),
        "gap_over_first_token": [stream.longest_gap / stream.first for stream in streams if stream.replaced and len(stream.arrivals) > 1],
        "faults": sorted({stream.fault for stream in streams if stream.fault}),
    }


def _heal(network: Network, victim: str) -> None:
    network.heal()
    network.wait_provider(victim)
    _wait_served(network, victim)


def _wait_served(network: Network, name: str) -> None:
    """Until the gateway gives the provider work again."""
    deadline = time.monotonic() + READY_SECONDS
    before = _receipts(network, name)
    while _receipts(network, name) == before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} was given no work for {READY_SECONDS} s after its restart")
        _one(network)


def _one(network: Network) -> Stream:
    return ask(network, story(0), 1)


def _receipts(network: Network, name: str) -> int:
    provider = next(entry for entry in network.indexed("/v1/providers")["data"] if entry["provider"] == network.address(name))
    return int(provider["receipts"])
