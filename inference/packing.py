"""Several sessions in one forward pass: their rows laid end to end, so that weights are read once for all, and attention for each over its own keys.

transformers lets an attention function be registered by name; ours cuts the pack apart, appends to each session's cache and calls the usual kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PACKED, KERNEL = "packed", "sdpa"
"""The name under which it is registered, and the kernel that it calls for each session."""


class GrowingLayer(DynamicLayer):
    """A layer's keys and values [1, heads, n, d] in room for ``rows``, or twice as many where that is full; DynamicLayer copies all for each row."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room: list[torch.Tensor] = [states.new_empty(*states.shape[:-2], 0, states.shape[-1]) for states in (key_states, value_states)]
        past = self.get_seq_length()
        end = past + key_states.shape[-2]
        if end > self.room[0].shape[-2]:
            self.room = [_grown(room, 2 * end if past else max(self.rows, end), past) for room in self.room]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[..., past:end, :] = states
        self.keys, self.values = (room[..., :end, :] for room in self.room)
        return self.keys, self.values

    def copy(self, other: "GrowingLayer", count: int) -> None:
        """Take the first ``count`` rows of another layer's cache into this one, which is empty."""
        assert other.keys is not None and other.values is not None
        self.update(other.keys[..., :count, :], other.values[..., :count, :])


def _grown(room: torch.Tensor, rows: int, past: int) -> torch.Tensor:
    grown = room.new_empty(*room.shape[:-2], rows, room.shape[-1])
    grown[..., :past, :] = room[..., :past, :]
    return grown


@dataclass
class Pack:
    """What one pass holds: each session's cache and how many rows it adds. ``windows``: the sliding window that each layer asked for."""

    parts: list[tuple[DynamicCache, int]]
    windows: dict[int, int | None] = field(default_factory=dict)


_pack: ContextVar[Pack] = ContextVar("pack")


@contextmanager
def packing(pack: Pack) -> Iterator[None]:
    """Attention within looks its sessions up in ``pack``."""
    token = _pack.set(pack)
    try:
        yield
    finally:
        _pack.reset(token)


def packs(layer: Any, window: int | None) -> bool:
    """Whether a cache layer holds plain keys and values, and the model told its window, if it has one."""
    if isinstance(layer, DynamicSlidingWindowLayer):
        return bool(layer.sliding_window == window)
    return isinstance(layer, GrowingLayer) and window is None


def rotates_by_length(config: Any) -> bool:
    """Whether positions are encoded by how long the longest sequence is, so that in a pass a long session would change the rows of the others."""

    def kinds(parameters: Any) -> set[Any]:
        if not isinstance(parameters, dict):
            return set()
        return {parameters.get("rope_type")}.union(*map(kinds, parameters.values()))

    return bool(kinds(config.to_dict().get("rope_parameters")) & {"dynamic", "longrope"})


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, **options: Any
) -> tuple[torch.Tensor, None]:
    """query [1, heads, total, d], key and value alike -> [1, total, heads, d]. The mask is each session's own, so what comes is not looked at."""
    pack, kernel = _pack.get(), ALL_ATTENTION_FUNCTIONS[KERNEL]
    window = pack.windows[module.layer_idx] = options.get("sliding_window")
    counts = [count for _, count in pack.parts]
    found = []
    for (cache, count), q, k, v in zip(pack.parts, *(states.split(counts, dim=2) for states in (query, key, value)), strict=True):
        keys, values = cache.layers[module.layer_idx].update(k, v)
        found.append(kernel(module, q, keys, values, _mask(count, keys.shape[2], window, q.device), **options)[0])
    return torch.cat(found, dim=1), None


def _mask(count: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of the last ``seen`` keys each of the last ``count`` rows sees, [1, 1, count, seen]; None where the kernel knows by itself."""
    if seen <= (window or seen) and count in (1, seen):
        return None
    keys = torch.arange(seen, device=device)
    rows = keys[seen - count :, None]
    mask = keys <= rows
    return (mask if window is None else mask & (keys > rows - window))[None, None]


AttentionInterface.register(PACKED, _attend)
