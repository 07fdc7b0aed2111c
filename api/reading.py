"""A job whose rows come back to the gateway: those of a model that makes vectors, which one stage serves whole."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from api.pipeline import FIRST_TOKEN_SECONDS, Pipeline, StageFailed
from protocol.receipts import EXECUTION_CLASSES, wire_dtype_of
from protocol.rows import TOKEN_BYTES, row_leaf, token_payload
from protocol.stage_rpc import StageRefused, StageUnavailable
from protocol.trees import row_tree_root
from protocol.wire import Frame, Kind


@dataclass
class Reading(Pipeline):
    """Use as a Pipeline, with ``read`` for ``tokens``."""

    rows: list[bytes] = field(default_factory=list)
    """As they were sent: what the stage signs for."""
    _root: bytes | None = None

    async def read(self, frames: list[list[int]], width: int) -> NDArray[np.float32]:
        """Send frames of token ids, which hold the prompt; the rows out, [n, width]. Raises StageFailed."""
        try:
            async with asyncio.timeout(FIRST_TOKEN_SECONDS):
                for frame in frames:
                    await self._send(frame)
                await self._take()
            numbers = await asyncio.to_thread(self._numbers, width)
        except TimeoutError:
            raise StageFailed(self.legs[0].provider, f"no rows came within {FIRST_TOKEN_SECONDS} s") from None
        except (StageUnavailable, StageRefused, ValueError) as error:
            raise StageFailed(self.legs[0].provider, str(error)) from error
        self._root = await asyncio.to_thread(self._hashed)
        return numbers

    async def _send(self, tokens: list[int]) -> None:
        payload = b"".join(map(token_payload, tokens))
        await self._write(Frame(Kind.ROWS, self.spec.job_id, payload, epoch=self._rows_epoch, position=self._fed, rows=len(tokens)))
        self._fed += len(tokens)

    async def _take(self) -> None:
        """Raises ValueError for rows that are not those which come next."""
        assert self._frames is not None
        async for raw in self._frames:
            frame = Frame.decode(raw)
            if frame.kind is not Kind.ROWS:
                continue
            if frame.position != len(self.rows) or not 0 < frame.rows <= self._fed - len(self.rows) or len(frame.payload) % frame.rows:
                raise ValueError(f"{frame.rows} rows from {frame.position} on came, those from {len(self.rows)} on were to")
            width = len(frame.payload) // frame.rows
            self.rows += [frame.payload[at : at + width] for at in range(0, len(frame.payload), width)]
            if len(self.rows) == self._fed:
                return
        raise ValueError("the stage ended its stream")

    def _numbers(self, width: int) -> NDArray[np.float32]:
        """The rows without the mark that a last stage puts behind each. Raises ValueError where they are not so many finite numbers each."""
        raw = b"".join(row[:-TOKEN_BYTES] for row in self.rows)
        if self._dtype == "bfloat16":  # the upper half of a float32
            numbers = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            numbers = np.frombuffer(raw, dtype="<f4")
        if not np.isfinite(numbers).all():
            raise ValueError("rows are not all finite numbers")
        return numbers.reshape(len(self.rows), width)

    @property
    def _dtype(self) -> str:
        return wire_dtype_of(EXECUTION_CLASSES[self._class])

    @property
    def earned(self) -> bool:
        return self._root is not None

    def rows_root(self) -> bytes | None:
        return self._root

    def _hashed(self) -> bytes:
        boundary = self.spec.layers.end
        return row_tree_root([row_leaf(self._salt, boundary, at, self._dtype, row) for at, row in enumerate(self.rows)])
