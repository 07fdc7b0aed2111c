"""What a standby saves: keys and values of a prompt read from the file that was shipped, and the same rows run; and what shipping costs.

Ten layers of the bundled model on its own, medians of interleaved rounds.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from inference.encoder import open_stage
from inference.executor import SessionState, StageExecutor
from inference.portable import ROWS_OUT, BlockHashes, KvBlocks
from protocol.units import LayerRange

T = TypeVar("T")
FOLDER, LAYERS = Path(".funcnet/models/smollm2-135m-instruct"), LayerRange(10, 20)
ROWS, ROUNDS = (128, 512, 1024), 5


def run(quick: bool) -> dict[str, Any]:
    """Ratios for each number of rows; ``quick`` takes one round."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    stage = open_stage(FOLDER, LAYERS, torch.float32)
    stage.pack()
    rows = [row for count in ROWS for row in _rows(stage, count, 1 if quick else ROUNDS)]
    return {"rows": rows}


def _rows(stage: StageExecutor, count: int, rounds: int) -> list[dict[str, Any]]:
    rows = torch.randn(count, stage.hidden_size, generator=torch.Generator().manual_seed(count))
    payloads = [row.numpy().tobytes() for row in rows]
    took: dict[str, list[float]] = {"run": [], "ship": [], "take": []}
    _run(stage, rows)
    for _ in range(rounds):
        session, out = _timed(took["run"], lambda: _run(stage, rows))
        file = _timed(took["ship"], lambda: _ship(stage, session, out, payloads))  # noqa: B023  # called at once
        _timed(took["take"], lambda: _take(stage, file, payloads))  # noqa: B023
    size = sum(map(len, payloads))
    return [
        _row(f"{count} rows: taken from a file / run", [b / a for a, b in zip(took["run"], took["take"], strict=True)], 0.1),
        _row(f"{count} rows: hashed and written to a file / run", [b / a for a, b in zip(took["run"], took["ship"], strict=True)], None),
        _row(f"{count} rows: bytes of the file / of the rows in", [len(file) / size], None),
    ]


def _run(stage: StageExecutor, rows: torch.Tensor) -> tuple[SessionState, torch.Tensor]:
    session = stage.open_session(len(rows))
    return session, stage.forward(session, rows).rows


def _hashes(payloads: list[bytes]) -> tuple[bytes, ...]:
    hashes = BlockHashes(bytes(32), LAYERS, "float32")
    hashes.add(payloads)
    return tuple(hashes.found)


def _ship(stage: StageExecutor, session: SessionState, out: torch.Tensor, payloads: list[bytes]) -> bytes:
    states = {**stage.export(session, 0, len(payloads)), ROWS_OUT: out}
    return KvBlocks(bytes(32), LAYERS, "float32", 0, _hashes(payloads), states).encode()


def _take(stage: StageExecutor, file: bytes, payloads: list[bytes]) -> None:
    blocks = KvBlocks.decode(file)
    assert blocks.hashes == _hashes(payloads)
    stage.extend(stage.open_session(len(payloads)), blocks.tensors, len(payloads))


def _timed(into: list[float], work: Callable[[], T]) -> T:
    began = time.perf_counter()
    result = work()
    into.append(time.perf_counter() - began)
    return result


def _row(name: str, ratios: list[float], bar: float | None) -> dict[str, Any]:
    value = statistics.median(ratios)
    spread = [min(ratios), max(ratios)]
    return {
        "name": name,
        "value": value,
        "reference": 1.0,
        "spread": spread,
        "bar": bar,
        "unit": "ratio",
        "holds": None if bar is None else value <= bar,
    }
