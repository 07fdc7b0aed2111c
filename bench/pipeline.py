"""Three stages in one process against transformers' ``generate`` on the same model and cores, greedy, one session; and what hashing rows costs.

Every value is a ratio measured in this run: medians of interleaved rounds.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from inference.classes import rows_to_bytes
from inference.executor import StageExecutor
from inference.loader import load_stage
from protocol.rows import row_leaf
from protocol.trees import RowTree
from protocol.units import LayerRange

FOLDER = Path(".funcnet/models/smollm2-135m-instruct")
ROUNDS, PROMPT_TOKENS, NEW_TOKENS = 5, 64, 48


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench pipeline`` prints."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    prompt = torch.randint(0, 40_000, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(1))
    whole = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    stages = [StageExecutor(load_stage(FOLDER, LayerRange(*cut), torch.float32)) for cut in ((0, 10), (10, 20), (20, 30))]
    hashing: list[float] = []

    def peer() -> None:
        with torch.inference_mode():
            whole.generate(prompt[None], attention_mask=torch.ones_like(prompt)[None], max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)

    def ours() -> None:
        hashing.append(_decode(stages, prompt))

    peer()
    ours()
    theirs, mine = [], []
    for _ in range(ROUNDS):
        theirs.append(_seconds(peer))
        mine.append(_seconds(ours))
    ratio = statistics.median(theirs) / statistics.median(mine)
    share = statistics.median(hashing[1:]) / statistics.median(mine)
    rows = [
        _row("three stages, one session / generate, float32", ratio, statistics.median(theirs), 0.92, "ratio", ratio >= 0.92),
        _row("hashing rows: share of the stages' time", share, statistics.median(mine), 0.01, "ratio", share <= 0.01),
    ]
    return {"rows": rows}


def _decode(stages: list[StageExecutor], prompt: torch.Tensor) -> float:
    """Greedy decoding with every boundary row hashed; the seconds that hashing took."""
    sessions, trees, spent = [stage.open_session() for stage in stages], [RowTree() for _ in stages], 0.0
    feed, salt = prompt, bytes(32)
    for _ in range(NEW_TOKENS):
        rows = feed
        for stage, session, tree in zip(stages, sessions, trees, strict=True):
            out = stage.forward(session, rows)
            rows = out.rows
            start = time.perf_counter()
            for payload in rows_to_bytes(rows):
                tree.append(row_leaf(salt, 0, tree.count, "float32", payload))
            spent += time.perf_counter() - start
        assert out.logits is not None
        feed = out.logits[-1].argmax()[None]
    return spent


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(name: str, value: float, reference: float, bar: float, unit: str, holds: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "reference": reference, "bar": bar, "unit": unit, "holds": holds}
