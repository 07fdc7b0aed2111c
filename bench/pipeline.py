"""Stages in one process against transformers' ``generate`` on the same model and cores, greedy; many sessions against one; what hashing costs.

Every value is a ratio measured in this run: medians of interleaved rounds.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from inference.classes import rows_to_bytes
from inference.executor import SessionState, StageExecutor
from inference.loader import load_stage
from protocol.rows import row_leaf
from protocol.trees import RowTree
from protocol.units import LayerRange

FOLDER = Path(".funcnet/models/smollm2-135m-instruct")
CUTS = ((0, 10), (10, 20), (20, 30))
ROUNDS, PROMPT_TOKENS, NEW_TOKENS, MANY = 5, 64, 32, 16
JOINING, JOIN_EVERY = 8, 6
"""Sessions of the run in which they join and leave: one each so many steps, with prompts and answers of different lengths."""


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench pipeline`` prints; ``quick`` leaves bfloat16 out and takes fewer rounds."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    rows = _measure(torch.float32, 0.92, 3 if quick else ROUNDS)
    return {"rows": rows if quick else [*rows, *_measure(torch.bfloat16, 0.85, ROUNDS)]}


def _measure(dtype: torch.dtype, bar: float, rounds: int) -> list[dict[str, Any]]:
    whole = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=dtype).eval()
    stages = [StageExecutor(load_stage(FOLDER, LayerRange(*cut), dtype)) for cut in CUTS]
    one_stage = [StageExecutor(load_stage(FOLDER, LayerRange(0, 30), dtype))]
    assert all(stage.pack() for stage in (*stages, *one_stage))
    prompts = torch.randint(0, 40_000, (MANY, PROMPT_TOKENS), generator=torch.Generator().manual_seed(1))
    hashing: list[float] = []
    decoding: dict[str, list[float]] = {"1": [], "3": [], f"{MANY}": []}

    def generate(count: int) -> None:
        with torch.inference_mode():
            ids = prompts[:count]
            whole.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)

    runs: dict[str, Callable[[], object]] = {
        "generate, 1": lambda: generate(1),
        f"generate, {MANY}": lambda: generate(MANY),
        "stages, 1": lambda: decoding["1"].append(_decode(stages, list(prompts[:1]), hashing)),
        "one stage, 1": lambda: _decode(one_stage, list(prompts[:1])),
        "stages, 3": lambda: decoding["3"].append(_decode(stages, list(prompts[:3]))),
        f"stages, {MANY}": lambda: decoding[f"{MANY}"].append(_decode(stages, list(prompts))),
        "joining": lambda: _join_and_leave(stages, prompts),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, work in runs.items():
            times[name].append(_seconds(work))
    # The first round warms up. Ratios within a round, since these machines slow down and speed up.
    took = {name: values[1:] for name, values in times.items()}
    name = str(dtype).removeprefix("torch.")
    alone, three, many = (values[1:] for values in decoding.values())
    joining = sum(_answer(i) for i in range(JOINING)) / NEW_TOKENS
    return [
        _row(f"three stages, one session / generate, {name}", took["generate, 1"], took["stages, 1"], 1, bar),
        _row(f"the whole model in one stage, one session / generate, {name}", took["generate, 1"], took["one stage, 1"], 1, 1.0),
        _row(f"three sessions / one, decoding, {name}", alone, three, 3, 1.9),
        _row(f"{JOINING} sessions that join and leave / one, {name}", took["stages, 1"], took["joining"], joining, 5),
        _row(f"{MANY} sessions / one, decoding, {name}", alone, many, MANY, 8),
        _row(
            f"of the same, generate with a batch of {MANY} / one, whole answers, {name}", took["generate, 1"], took[f"generate, {MANY}"], MANY, None
        ),
        _row(f"{MANY} sessions / generate with a batch of {MANY}, {name}", took[f"generate, {MANY}"], took[f"stages, {MANY}"], 1, 0.85),
        _row(f"hashing rows: share of the stages' time, {name}", hashing[1:], took["stages, 1"], 1, 0.01, at_most=True),
    ]


def _decode(stages: Sequence[StageExecutor], prompts: list[torch.Tensor], hashing: list[float] | None = None) -> float:
    """Greedy decoding, all sessions in step; the seconds from the first token on. With ``hashing``, each boundary row is hashed and the seconds for
    it are noted."""
    sessions = [[stage.open_session(PROMPT_TOKENS + NEW_TOKENS) for stage in stages] for _ in prompts]
    trees, spent, feeds = [RowTree() for _ in stages], 0.0, prompts
    start = 0.0
    for step in range(NEW_TOKENS):
        start = time.perf_counter() if step == 1 else start
        rows = feeds
        for number, stage in enumerate(stages):
            outs = stage.step([(own[number], part) for own, part in zip(sessions, rows, strict=True)])
            rows = [out.rows for out in outs]
            if hashing is not None:
                spent += _seconds(lambda rows=rows, tree=trees[number]: [_hash(tree, part) for part in rows])  # type: ignore[misc]
        feeds = [_greedy(out.logits) for out in outs]
    if hashing is not None:
        hashing.append(spent)
    return time.perf_counter() - start


def _join_and_leave(stages: Sequence[StageExecutor], prompts: torch.Tensor) -> None:
    feeds: list[torch.Tensor] = [prompts[i, : PROMPT_TOKENS - 4 * i] for i in range(JOINING)]
    left = [_answer(i) for i in range(JOINING)]
    sessions: list[list[SessionState]] = [[stage.open_session(PROMPT_TOKENS + left[i]) for stage in stages] for i in range(JOINING)]
    step = 0
    while any(left):
        active = [i for i in range(JOINING) if step >= JOIN_EVERY * i and left[i]]
        rows = [feeds[i] for i in active]
        for number, stage in enumerate(stages):
            outs = stage.step([(sessions[i][number], part) for i, part in zip(active, rows, strict=True)])
            rows = [out.rows for out in outs]
        for i, out in zip(active, outs, strict=True):
            feeds[i], left[i] = _greedy(out.logits), left[i] - 1
        step += 1


def _answer(session: int) -> int:
    """New tokens of a session that joins: enough that all of them meet, and leave one after another."""
    return NEW_TOKENS + JOIN_EVERY * (JOINING - session)


def _greedy(logits: torch.Tensor | None) -> torch.Tensor:
    assert logits is not None
    return logits[-1].argmax()[None]


def _hash(tree: RowTree, rows: torch.Tensor) -> None:
    for payload in rows_to_bytes(rows):
        tree.append(row_leaf(bytes(32), 0, tree.count, "float32", payload))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(name: str, base: list[float], ours: list[float], units: float, bar: float | None, at_most: bool = False) -> dict[str, Any]:
    """The median of ``units * base / ours`` with its spread; without a bar it is there to compare with."""
    ratios = [units * one / other for one, other in zip(base, ours, strict=True)]
    value = statistics.median(ratios)
    holds = bar is None or (value <= bar if at_most else value >= bar)
    return {"name": name, "value": value, "least": min(ratios), "most": max(ratios), "bar": bar, "unit": "ratio", "holds": holds}
