"""Replay one stage from its committed rows in: one teacher-forced pass from position 0. Design section 4, "Replay"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from inference.compare import WINSOR_CAP, Rows
from inference.executor import StageExecutor
from protocol.sampling import Logits, SamplingParameters, token_margin


@dataclass(frozen=True)
class Replay:
    """``rows``: float32 [n, hidden], one for each position. ``logits``: float32 [n, vocab] on the last stage."""

    rows: Rows
    logits: Logits | None


def replay_stage(executor: StageExecutor, rows_in: torch.Tensor) -> Replay:
    """Run all rows in, [n] token ids or [n, hidden], at once."""
    out = executor.forward(executor.open_session(), rows_in, logits_for=0)
    logits = None if out.logits is None else out.logits.numpy()
    return Replay(out.rows.float().numpy(), logits)


def mean_token_margin(logits: Logits, tokens: Sequence[int], first: int, parameters: SamplingParameters, before: Sequence[int] = ()) -> float:
    """Winsorised mean margin of the tokens; ``first`` is the position of the row that the first was sampled from, ``before`` the completion
    tokens that came before them."""
    history = [*before, *tokens]
    margins = [
        min(WINSOR_CAP, token_margin(logits[first + i], parameters, first + i, token, history[: len(before) + i])) for i, token in enumerate(tokens)
    ]
    return float(np.mean(margins)) if margins else 0.0
