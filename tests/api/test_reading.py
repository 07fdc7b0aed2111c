"""What a gateway makes of the rows that a stage sends back: nothing that is not what was ordered."""

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from api.pipeline import JobSpec, StageFailed
from api.reading import Reading
from protocol.receipts import execution_class_id
from protocol.rows import row_leaf
from protocol.sampling import SamplingParameters
from protocol.trees import row_tree_root
from protocol.units import LayerRange
from protocol.wire import Frame, Kind

SPEC = JobSpec(b"j" * 32, "0xp", b"m" * 32, LayerRange(0, 6), [1, 7, 2, 1, 8, 2], 0, SamplingParameters())
ROWS = np.arange(6 * 4, dtype="<f4").reshape(6, 4)
PAYLOADS = [row.tobytes() + (-1).to_bytes(8, "little", signed=True) for row in ROWS]


def frame(first: int, payloads: list[bytes], **change: Any) -> bytes:
    rows = Frame(Kind.ROWS, SPEC.job_id, b"".join(payloads), "float32", position=first, rows=len(payloads), hidden=4)
    return replace(rows, **change).encode()


async def read(frames: list[bytes], execution: str = "float32/sdpa", width: int = 4) -> Reading:
    """A job for which a stage sends these frames."""
    nothing: Any = None
    reading = Reading(nothing, nothing, nothing, nothing, SPEC)

    async def sent() -> AsyncIterator[bytes]:
        for one in frames:
            yield one

    async def taken(_: bytes) -> None:
        return

    reading.legs = [SimpleNamespace(provider="0xs")]  # type: ignore[list-item]
    reading._rows, reading._frames, reading._class = SimpleNamespace(write=taken), sent(), execution_class_id(execution)  # type: ignore[assignment]
    reading.numbers = await reading.read([SPEC.prompt[:3], SPEC.prompt[3:]], width)  # type: ignore[attr-defined]
    return reading


async def test_read__rows_in_frames_beside_checkpoints__are_the_numbers_and_their_root() -> None:
    reading = await read([frame(0, PAYLOADS[:3]), Frame(Kind.CHECKPOINT, SPEC.job_id, b"{}").encode(), frame(3, PAYLOADS[3:])])
    assert np.array_equal(reading.numbers, ROWS)  # type: ignore[attr-defined]
    assert reading.earned
    assert reading.rows_root() == row_tree_root([row_leaf(reading._salt, 6, at, "float32", payload) for at, payload in enumerate(PAYLOADS)])


async def test_read__bfloat16__is_widened() -> None:
    halves = [(row.view("<u4") >> 16).astype("<u2").tobytes() + bytes(8) for row in ROWS]
    reading = await read([frame(0, halves)], "bfloat16/sdpa")
    assert np.array_equal(reading.numbers, ROWS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("frames", "width", "words"),
    [
        ([frame(0, PAYLOADS[:3])], 4, "ended its stream"),
        ([frame(1, PAYLOADS[:3])], 4, "those from 0 on were to"),
        ([frame(0, PAYLOADS[:3]), frame(0, PAYLOADS[:3])], 4, "those from 3 on were to"),
        ([frame(0, [*PAYLOADS, PAYLOADS[0]])], 4, "7 rows from 0 on came"),
        ([frame(0, PAYLOADS, rows=0)], 4, "0 rows from 0 on came"),
        ([frame(0, PAYLOADS, payload=b"x" * 7)], 4, "6 rows from 0 on came"),
        ([frame(0, PAYLOADS)], 5, "reshape"),
        ([frame(0, [payload[1:] for payload in PAYLOADS])], 4, "multiple of element size"),
        ([frame(0, [np.full(4, np.nan, dtype="<f4").tobytes() + bytes(8)] * 6)], 4, "not all finite"),
        ([b"short"], 4, "shorter than its"),
    ],
)
async def test_read__anything_else__fails_the_stage_and_earns_nothing(frames: list[bytes], width: int, words: str) -> None:
    with pytest.raises(StageFailed, match=words):
        await read(frames, width=width)
