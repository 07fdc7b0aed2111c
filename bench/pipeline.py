"""Stages in one process against transformers' ``generate`` on the same model and cores, greedy; many sessions against one; what receipts cost.

Every value is a ratio measured in this run: medians of interleaved rounds. What takes a whole network (hops, slow links, prompts on one agent and
answers on another, stages that are killed) has scripts of its own, of which the short run comes after, and last the sweep over architectures.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from bench import handover, hop, links, recovery
from bench._receipts import share_of_receipts
from inference.executor import SessionState, StageExecutor
from inference.loader import load_stage
from protocol.units import LayerRange

FOLDER = Path(".funcnet/models/smollm2-135m-instruct")
CUTS = ((0, 10), (10, 20), (20, 30))
ROUNDS, PROMPT_TOKENS, NEW_TOKENS, MANY = 5, 64, 32, 16
PLACES, JOINING = 8, 24
"""Sessions at a time in the run in which they join and leave, and of them in all: where one ends the next begins."""


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench pipeline`` prints; ``quick`` leaves bfloat16 and networks out and takes fewer rounds."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    rows = _measure(torch.float32, 0.92, 3 if quick else ROUNDS)
    if quick:
        return {"rows": rows}
    rows += _measure(torch.bfloat16, 0.85, ROUNDS)
    rows += [row for script in (hop, links, handover, recovery) for row in script.run(quick=True)["rows"]]
    return {"rows": [*rows, _architectures()]}


def _measure(dtype: torch.dtype, bar: float, rounds: int) -> list[dict[str, Any]]:
    whole = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=dtype).eval()
    stages = [StageExecutor(load_stage(FOLDER, LayerRange(*cut), dtype)) for cut in CUTS]
    one_stage = [StageExecutor(load_stage(FOLDER, LayerRange(0, 30), dtype))]
    assert all(stage.pack() for stage in (*stages, *one_stage))
    name = str(dtype).removeprefix("torch.")
    prompts = torch.randint(0, 40_000, (JOINING, PROMPT_TOKENS), generator=torch.Generator().manual_seed(1))
    shares: list[float] = []
    decoding: dict[str, list[float]] = {"1": [], "3": [], f"{MANY}": []}

    def generate(count: int) -> None:
        with torch.inference_mode():
            ids = prompts[:count]
            whole.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)

    runs: dict[str, Callable[[], object]] = {
        "generate, 1": lambda: generate(1),
        f"generate, {MANY}": lambda: generate(MANY),
        "stages, 1": lambda: decoding["1"].append(_decode(stages, list(prompts[:1]))),
        "one stage, 1": lambda: _decode(one_stage, list(prompts[:1])),
        "stages, 3": lambda: decoding["3"].append(_decode(stages, list(prompts[:3]))),
        f"stages, {MANY}": lambda: decoding[f"{MANY}"].append(_decode(stages, list(prompts[:MANY]))),
        "one by one": lambda: _join_and_leave(stages, prompts, 1),
        "joining": lambda: _join_and_leave(stages, prompts, PLACES),
        "receipts": lambda: shares.append(share_of_receipts(stages, prompts[0], NEW_TOKENS)),
    }
    times: dict[str, list[float]] = {work: [] for work in runs}
    for _ in range(rounds + 1):
        for of, work in runs.items():
            times[of].append(_seconds(work))
    # The first round warms up. Ratios within a round, since these machines slow down and speed up.
    took = {work: values[1:] for work, values in times.items()}
    alone, three, many = (values[1:] for values in decoding.values())
    rows = [
        _row(f"three stages, one session / generate, {name}", took["generate, 1"], took["stages, 1"], 1, bar),
        _row(f"the whole model in one stage, one session / generate, {name}", took["generate, 1"], took["one stage, 1"], 1, 1.0),
        _row(f"three sessions / one, decoding, {name}", alone, three, 3, 1.9),
        _row(f"{PLACES} sessions at a time that join and leave / the same one by one, {name}", took["one by one"], took["joining"], 1, 5),
        _row(f"{MANY} sessions / one, decoding, {name}", alone, many, MANY, 8),
        _row(
            f"of the same, generate with a batch of {MANY} / one, whole answers, {name}", took["generate, 1"], took[f"generate, {MANY}"], MANY, None
        ),
        _row(f"{MANY} sessions / generate with a batch of {MANY}, {name}", took[f"generate, {MANY}"], took[f"stages, {MANY}"], 1, 0.85),
        _row(f"rows hashed and kept, checkpoints signed: share of the stages' time, {name}", shares[1:], [1.0] * rounds, 1, 0.01, at_most=True),
    ]
    if dtype == torch.float32:  # bfloat16 rounds otherwise near ties when the number of rows changes
        rows.append(_row("tokens that are those of generate, float32", [_identical(whole, stages, prompts)], [1.0], 1, 1.0))
    return rows


def _decode(stages: Sequence[StageExecutor], prompts: list[torch.Tensor]) -> float:
    """Greedy decoding, all sessions in step; the seconds from the first token on."""
    sessions = [[stage.open_session(PROMPT_TOKENS + NEW_TOKENS) for stage in stages] for _ in prompts]
    feeds, start = prompts, 0.0
    for step in range(NEW_TOKENS):
        start = time.perf_counter() if step == 1 else start
        rows = feeds
        for number, stage in enumerate(stages):
            outs = stage.step([(own[number], part) for own, part in zip(sessions, rows, strict=True)])
            rows = [out.rows for out in outs]
        feeds = [_greedy(out.logits) for out in outs]
    return time.perf_counter() - start


def _join_and_leave(stages: Sequence[StageExecutor], prompts: torch.Tensor, places: int, chunk: int = PROMPT_TOKENS) -> list[list[int]]:
    """A session for each of ``prompts`` [sessions, PROMPT_TOKENS], of which it takes a part, up to ``chunk`` rows at once; the answers."""
    feeds: list[torch.Tensor] = [_prompt(prompts, i) for i in range(len(prompts))]
    answers: list[list[int]] = [[] for _ in prompts]
    waiting, active = list(range(len(prompts))), dict[int, list[SessionState]]()
    while waiting or active:
        for i in waiting[: places - len(active)]:
            active[i] = [stage.open_session(PROMPT_TOKENS + _answer(i)) for stage in stages]
            waiting.remove(i)
        rows = [feeds[i][:chunk] for i in active]
        for number, stage in enumerate(stages):
            outs = stage.step([(own[number], part) for own, part in zip(active.values(), rows, strict=True)])
            rows = [out.rows for out in outs]
        for i, out in zip(list(active), outs, strict=True):
            feeds[i] = feeds[i][chunk:]
            if not len(feeds[i]):
                feeds[i] = _greedy(out.logits)
                answers[i].append(int(feeds[i]))
            if len(answers[i]) == _answer(i):
                del active[i]
    return answers


def _prompt(prompts: torch.Tensor, session: int) -> torch.Tensor:
    """8 to 64 tokens, of another length for each of eight sessions."""
    return prompts[session, : PROMPT_TOKENS - 8 * (session % 8)]


def _answer(session: int) -> int:
    """New tokens of a session that joins, from half of ``NEW_TOKENS`` to one and a half."""
    return NEW_TOKENS // 2 + session * 13 % (NEW_TOKENS + 1)


def _architectures() -> dict[str, Any]:
    """How many architectures, built tiny and cut in three, give the bits of the whole: the sweep of the tests."""
    done = subprocess.run([sys.executable, "-m", "tests.inference.architectures"], capture_output=True, text=True, check=True)
    found = [outcome.split(":")[0] for outcome in json.loads(done.stdout).values()]
    value, built = sum(outcome in ("packed", "alone") for outcome in found), sum(outcome != "not built" for outcome in found)
    name = f"architectures whose three stages are bit-identical to the whole, of {built} built tiny"
    return {"name": name, "value": value, "bar": 107, "unit": "models", "holds": value >= 107}


def _identical(whole: Any, stages: Sequence[StageExecutor], prompts: torch.Tensor) -> float:
    """The share of tokens that are those of ``generate``: one session after another, sessions that join and leave, these with prompts in chunks."""
    expected = []
    for i in range(len(prompts)):
        ids, new = _prompt(prompts, i)[None], _answer(i)
        out = whole.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
        expected += out[0, ids.shape[1] :].tolist()
    served = [sum(_join_and_leave(stages, prompts, *how), list[int]()) for how in ((1,), (PLACES,), (PLACES, 7))]
    return statistics.mean(ours == theirs for tokens in served for ours, theirs in zip(tokens, expected, strict=True))


def _greedy(logits: torch.Tensor | None) -> torch.Tensor:
    assert logits is not None
    return logits[-1].argmax()[None]


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
