"""A local network for the benchmarks that need one, and clients that load it."""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from funcnet import model
from funcnet.network import PLANS, Network, ProviderPlan
from funcnet.processes import free_ports
from protocol.units import FUNC

SPARES = tuple(ProviderPlan(f"spare-{plan.layers}", plan.layers, 110 * FUNC, 220 * FUNC) for plan in PLANS[:3])
MODEL, END = "smollm2-135m-instruct", 2
"""The model, and its token that ends an answer."""


@contextmanager
def running(plans: Sequence[ProviderPlan] = PLANS[:3], model_dir: Path | None = None, proxied: bool = False) -> Iterator[Network]:
    """Chain, database, indexer, gateway and providers, without verifiers: their replays would take the cores that are measured. ``proxied``: the
    caller puts proxies where the providers say that they are."""
    model_dir = model_dir or model.prepare_bundled(Path(".funcnet"), print).resolve()
    with tempfile.TemporaryDirectory(prefix="funcnet-bench-") as root:
        behind = dict(zip((plan.name for plan in plans), free_ports(len(plans)), strict=True)) if proxied else {}
        network = Network(Path(root), model_dir, print, tuple(plans), verifiers=0, behind=behind)
        try:
            network.start()
            yield network
        finally:
            network.stop()


@dataclass
class Stream:
    """One streamed answer as its client saw it. ``arrivals``: monotonic seconds of each chunk with text."""

    began: float
    arrivals: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    replaced: int = 0
    stages: int = 0
    fault: str = ""
    ended: float = 0.0

    @property
    def first(self) -> float:
        """Seconds to the first text."""
        return self.arrivals[0] - self.began

    @property
    def longest_gap(self) -> float:
        return max(later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False))


def ask(network: Network, question: str, max_tokens: int, leave_after: int | None = None, by: Sequence[str] = (), endless: bool = False) -> Stream:
    """Stream a greedy answer by the providers of those names alone, or else by the stages that are planned first, not by spares that have such a
    prompt's rows; go away after so many chunks, where a number is given. ``endless``: no answer ends before ``max_tokens``."""
    order = [network.address(name) for name in by or [plan.name for plan in network.plans[:3]]]
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=300)
    stream = Stream(time.monotonic())
    try:
        messages: Any = [{"role": "user", "content": question}]
        chunks = client.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
            logit_bias={str(END): -100} if endless else {},
            extra_body={"provider": {"order": order, **({"only": order} if by else {})}},
        )
        for chunk in chunks:
            told = (chunk.model_extra or {}).get("function_network")
            if told:
                stream.tokens, stream.replaced = list(told["token_ids"]), len(told["replaced"])
                stream.stages = len(told["receipts"])
            if chunk.choices and chunk.choices[0].delta.content:
                stream.arrivals.append(time.monotonic())
            if leave_after is not None and len(stream.arrivals) >= leave_after:
                chunks.close()
                break
    except openai.APIError as error:
        stream.fault = str(error)
    stream.ended = time.monotonic()
    return stream


def ask_all(network: Network, questions: Sequence[str], max_tokens: int) -> list[Stream]:
    """All at once, each by a client of its own."""
    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(lambda question: ask(network, question, max_tokens), questions))


def row(name: str, one: Sequence[float], other: Sequence[float], bar: float | None = None) -> dict[str, Any]:
    """The median of ``other / one`` with its spread, to be below the bar; without one it is there to compare with."""
    ratios = [value / alone for alone, value in zip(one, other, strict=True)]
    value = statistics.median(ratios)
    spread = {"least": min(ratios), "most": max(ratios)}
    return {"name": name, "value": value, **spread, "bar": bar, "unit": "ratio", "holds": bar is None or value < bar}


def text(number: int, words: int) -> str:
    """Words without a meaning, others from the first one on for each number."""
    source = random.Random(number)
    return " ".join(source.choice(("river", "stone", "winter", "letter", "window", "garden", "silver", "morning")) for _ in range(words))


def story(number: int) -> str:
    """A question with a long answer, and another one for each number."""
    return f"Tell me a very long story about {random.Random(number).choice(('a fox', 'a king', 'the sea', 'two brothers'))}, number {number}."
