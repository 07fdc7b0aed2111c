"""Several sessions in one forward pass: their rows laid end to end, so that weights are read once for all, and attention for each over its own keys.

transformers lets an attention function be registered by name; ours cuts the pack apart, appends to each session's cache and calls the usual kernel.
"""

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
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
SLOTS, MOST_SPREAD = 4, 2
"""Slots that a slab has at first; and how many slots a kernel may look at for each session that is in the pass."""


class Slab:
    """Keys and values of many sessions at one layer, [slots, heads, rows, d] each, so that one kernel reaches all of them.

    A slot is zero beyond what its session has written: a kernel multiplies what it masks by zero, and what is no number stays none. Slots are taken
    on the compute thread, and given back on any.
    """

    def __init__(self, rows: int, slots: int = SLOTS) -> None:
        self.rows, self._slots = rows, slots
        self.states: list[torch.Tensor] = []
        self._free: list[int] = []
        self._used: dict[int, int] = {}
        """Rows that were written in free slots."""
        self._lock = threading.Lock()

    def take(self, like: tuple[torch.Tensor, torch.Tensor]) -> int:
        """The lowest free slot; there are twice as many where none is. ``like``: keys and values whose shape and dtype are meant."""
        with self._lock:
            if not self._free:
                held = len(self.states[0]) if self.states else 0
                room = [states.new_zeros(max(self._slots, 2 * held), states.shape[1], self.rows, states.shape[3]) for states in like]
                for new, old in zip(room, self.states, strict=False):
                    new[:held] = old
                self.states, self._free = room, list(range(held, len(room[0])))
            slot = min(self._free)
            self._free.remove(slot)
            for states in self.states:
                states[slot, :, : self._used.get(slot, 0)] = 0
            return slot

    def give(self, slot: int, used: Sequence[int]) -> None:
        """Take a slot back, of which rows were written up to ``used[0]``; the memory, too, once no session has one."""
        with self._lock:
            self._free.append(slot)
            self._used[slot] = used[0]
            if len(self._free) == len(self.states[0]):
                self.states, self._free, self._used = [], [], {}


class GrowingLayer(DynamicLayer):
    """A layer's keys and values [b, heads, n, d] with room for ``rows``, or twice as many where that is full; DynamicLayer copies all for each row.

    ``slabs``: where a session, of batch 1, has a slot beside others, by rows; without them it has a slab of its own.
    """

    def __init__(self, rows: int, slabs: dict[int, Slab] | None = None) -> None:
        self.rows, self.slabs = rows, slabs
        self.slab: Slab | None = None
        self.slot, self.batch = 0, 1
        self._length = [0]
        self._give: weakref.finalize[Any, Any] | None = None
        super().__init__()

    @property
    def length(self) -> int:
        return self._length[0]

    @length.setter
    def length(self, rows: int) -> None:
        self._length[0] = rows

    @property  # type: ignore[override]
    def keys(self) -> torch.Tensor | None:
        return self._view(0)

    @keys.setter
    def keys(self, states: torch.Tensor | None) -> None:
        """DynamicLayer's own beginning; what is there is written into the slot."""

    @property  # type: ignore[override]
    def values(self) -> torch.Tensor | None:
        return self._view(1)

    @values.setter
    def values(self, states: torch.Tensor | None) -> None: ...

    def _view(self, which: int) -> torch.Tensor | None:
        return None if self.slab is None else self.slab.states[which][self.slot : self.slot + self.batch, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        past, end = self.length, self.length + key_states.shape[-2]
        self.reserve(end, (key_states, value_states))
        assert self.slab is not None
        for states, new in zip(self.slab.states, (key_states, value_states), strict=True):
            states[self.slot : self.slot + self.batch, :, past:end] = new
        self.length = end
        keys, values = self.keys, self.values
        assert keys is not None and values is not None
        return keys, values

    def reserve(self, rows: int, like: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Have room for so many rows."""
        if self.slab is not None and rows <= self.slab.rows:
            return
        wanted, self.batch = max(self.rows, rows if self.slab is None else 2 * rows), like[0].shape[0]
        if self.slabs is None:
            slab = Slab(wanted, self.batch)
        else:
            wanted = 1 << (wanted - 1).bit_length()
            slab = self.slabs.setdefault(wanted, Slab(wanted))
        slot, old, self.is_initialized = slab.take(like), (self.keys, self.values), True
        for states, kept in zip(slab.states, old, strict=True):
            if kept is not None:
                states[slot : slot + self.batch, :, : self.length] = kept
        if self._give is not None:
            self._give()
        self.slab, self.slot = slab, slot
        self._give = weakref.finalize(self, slab.give, slot, self._length)
        self._give.atexit = False

    def copy(self, other: "GrowingLayer", count: int) -> None:
        """Take the first ``count`` rows of another layer's cache into this one, which is empty."""
        assert other.keys is not None and other.values is not None
        self.update(other.keys[..., :count, :], other.values[..., :count, :])


@dataclass(frozen=True)
class Together:
    """Sessions of a pass that add one row each and lie in one slab, in slots ``first`` to ``end``; a slot between them may be another's, who has no
    part in the pass. ``rows``: where theirs are in the pass; ``mask`` [slots, 1, 1, seen]: the keys that each slot sees."""

    slab: Slab
    parts: list[int]
    rows: torch.Tensor
    slots: torch.Tensor
    past: torch.Tensor
    first: int
    end: int
    seen: int
    mask: torch.Tensor

    def states(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> list[torch.Tensor]:
        """Write the keys and values [1, heads, total, d]; the queries [slots, heads, 1, d], and keys and values of all slots."""
        for states, new in zip(self.slab.states, (key, value), strict=True):
            states[self.slots, :, self.past] = new[0].transpose(0, 1)[self.rows]
        own = query[0].transpose(0, 1)[self.rows]
        queries = query.new_zeros(self.end - self.first, *own.shape[1:])
        queries[self.slots - self.first] = own
        return [queries[:, :, None], *(states[self.first : self.end, :, : self.seen] for states in self.slab.states)]

    def own(self, out: torch.Tensor) -> Iterable[torch.Tensor]:
        """Each part's of what comes out, [slots, 1, heads, d]."""
        return out[self.slots - self.first].split(1)


@dataclass
class Pack:
    """What one pass holds: each session's cache and how many rows it adds. ``windows``: the sliding window that each layer asked for."""

    parts: list[tuple[DynamicCache, int]]
    windows: dict[int, int | None] = field(default_factory=dict)
    _masks: dict[tuple[tuple[int, int], ...], tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def together(self, layer: int, like: tuple[torch.Tensor, torch.Tensor]) -> list[Together]:
        """The sessions at a layer that one kernel can serve, their rows counted as there already."""
        lying: dict[int, tuple[Slab, list[tuple[int, GrowingLayer, int]]]] = {}
        at = 0
        for i, (cache, count) in enumerate(self.parts):
            own = cache.layers[layer]
            if count == 1 and isinstance(own, GrowingLayer):
                own.reserve(own.length + 1, like)
                assert own.slab is not None
                lying.setdefault(id(own.slab), (own.slab, []))[1].append((i, own, at))
            at += count
        groups = [(slab, members) for slab, members in lying.values() if len(members) > 1]
        return [self._group(slab, members) for slab, members in groups if _spread(members) <= MOST_SPREAD * len(members)]

    def _group(self, slab: Slab, members: list[tuple[int, GrowingLayer, int]]) -> Together:
        places = tuple((own.slot, own.length) for _, own, _ in members)
        first, end = min(places)[0], max(places)[0] + 1
        seen = max(past for _, past in places) + 1
        if places not in self._masks:  # all layers have them alike, unless a session was moved
            device = slab.states[0].device
            slots, past = torch.tensor(places, device=device).T
            sees = torch.zeros(end - first, dtype=torch.int64, device=device)  # one that has no part sees a key, for no kernel can see none
            sees[slots - first] = past
            mask = (torch.arange(seen, device=device) <= sees[:, None])[:, None, None]
            self._masks[places] = torch.tensor([at for _, _, at in members], device=device), slots, past, mask
        rows, slots, past, mask = self._masks[places]
        for _, own, _ in members:
            own.length += 1
        return Together(slab, [i for i, _, _ in members], rows, slots, past, first, end, seen, mask)


def _spread(members: list[tuple[int, GrowingLayer, int]]) -> int:
    slots = [own.slot for _, own, _ in members]
    return max(slots) - min(slots) + 1


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
    found: dict[int, torch.Tensor] = {}
    for together in pack.together(module.layer_idx, (key, value)) if window is None else ():
        out = kernel(module, *together.states(query, key, value), together.mask, **options)[0]
        found |= dict(zip(together.parts, together.own(out), strict=True))
    counts = [count for _, count in pack.parts]
    for i, (q, k, v) in enumerate(zip(*(states.split(counts, dim=2) for states in (query, key, value)), strict=True)):
        if i not in found:
            keys, values = pack.parts[i][0].layers[module.layer_idx].update(k, v)
            found[i] = kernel(module, q, keys, values, _mask(counts[i], keys.shape[2], window, q.device), **options)[0]
    return torch.cat([found[i] for i in range(len(counts))], dim=1), None


def _mask(count: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of the last ``seen`` keys each of the last ``count`` rows sees, [1, 1, count, seen]; None where the kernel knows by itself."""
    if seen <= (window or seen) and count in (1, seen):
        return None
    keys = torch.arange(seen, device=device)
    rows = keys[seen - count :, None]
    mask = keys <= rows
    return (mask if window is None else mask & (keys > rows - window))[None, None]


AttentionInterface.register(PACKED, _attend)
