"""What one session ships to a standby, and what it takes as one."""

from dataclasses import dataclass, field

import torch

from inference.executor import SessionState, StageExecutor
from inference.portable import BLOCK_ROWS, ROWS_OUT, BlockHashes, KvBlocks, rows_at


@dataclass
class Shipping:
    """What one session has to ship: whole blocks, as soon as their last row was run. ``hashes`` is told of a frame before ``cut``."""

    executor: StageExecutor
    hashes: BlockHashes
    dtype: str
    model_id: bytes
    shipped: int = 0
    ready: list[KvBlocks] = field(default_factory=list)
    _out: list[torch.Tensor] = field(default_factory=list)

    def cut(self, cache: SessionState, rows_out: torch.Tensor) -> None:
        """Take what a pass gave, and the blocks that it filled. Runs on the compute thread."""
        self._out.append(rows_out)
        first, end = self.shipped, cache.position // BLOCK_ROWS * BLOCK_ROWS
        if end == first:
            return
        rows = torch.cat(self._out)
        states = {**self.executor.export(cache, first, end), ROWS_OUT: rows[: end - first].clone()}
        self._out, self.shipped = [rows[end - first :].clone()], end
        hashes = tuple(self.hashes.found[first // BLOCK_ROWS : end // BLOCK_ROWS])
        self.ready.append(KvBlocks(self.model_id, self.executor.stage.layers, self.dtype, first, hashes, states))

    def take(self) -> list[KvBlocks]:
        ready, self.ready = self.ready, []
        return ready


@dataclass
class Importing:
    """Keys and values for a session's first rows, as far as its rows in are those that they were computed from."""

    blocks: list[KvBlocks]
    hashes: BlockHashes
    until: int
    """The position up to which they may be used."""
    _whole: dict[str, torch.Tensor] | None = None

    def ready(self, position: int) -> int:
        """Rows from ``position`` on that need not be run."""
        expected = [block for blocks in self.blocks for block in blocks.hashes]
        same = 0
        for found, wanted in zip(self.hashes.found, expected, strict=False):
            if found != wanted:
                break
            same += 1
        return max(0, min(same * BLOCK_ROWS, self.until) - position)

    def rows(self, first: int, count: int) -> dict[str, torch.Tensor]:
        """Each tensor's rows from position ``first`` on."""
        if self._whole is None:
            names = self.blocks[0].tensors
            self._whole = {name: torch.cat([blocks.tensors[name] for blocks in self.blocks], dim=rows_at(name)) for name in names}
        return {name: tensor.narrow(rows_at(name), first, count) for name, tensor in self._whole.items()}
