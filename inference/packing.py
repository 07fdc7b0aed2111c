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
SLOTS, LEAST_TOGETHER, MOST_SPREAD = 4, 4, 2
"""Slots that a slab has at first; how many sessions one kernel is worth its bookkeeping for; and how many slots it may look at for each of them."""


class Slab:
    """Keys and values of many sessions, for each layer [slots, heads, rows, d], so that one kernel reaches all of them.

    A slot is zero beyond what its session has written: a kernel multiplies what it masks by zero, and what is no number stays none. Slots are taken
    on the compute thread, and given back on any.
    """

    def __init__(self, rows: int, slots: int = SLOTS) -> None:
        self.rows, self.slots = rows, slots
        self.states: dict[int, list[torch.Tensor]] = {}
        self._free = list(range(slots))
        self._used: dict[int, int] = {}
        """Rows that were written in free slots."""
        self._lock = threading.Lock()

    def at(self, layer: int, like: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        """A layer's keys and values; ``like``: some of them, whose heads, width and dtype are meant."""
        if layer not in self.states:
            self.states[layer] = [states.new_zeros(self.slots, states.shape[1], self.rows, states.shape[3]) for states in like]
        return self.states[layer]

    def take(self) -> int:
        """The lowest free slot; there are twice as many where none is."""
        with self._lock:
            if not self._free:
                self._free, self.slots = list(range(self.slots, 2 * self.slots)), 2 * self.slots
                self.states = {layer: [torch.cat([old, torch.zeros_like(old)]) for old in states] for layer, states in self.states.items()}
            slot = min(self._free)
            self._free.remove(slot)
            used = self._used.pop(slot, 0)
        for layer in self.states.values():
            for states in layer:
                states[slot, :, :used] = 0
        return slot

    def give(self, slot: int, used: Sequence[int]) -> None:
        """Take a slot back, of which rows were written up to ``used[0]``; the memory, too, once no session has one."""
        with self._lock:
            self._free.append(slot)
            self._used[slot] = used[0]
            if len(self._free) == self.slots:
                self.states, self._used = {}, {}


class Room:
    """One session's place: a slot in a slab with room for ``rows``, or in a larger one where that is full. ``slabs``: those that it shares with
    others, by rows; without them, or for ``batch`` sequences at once, it has one to itself."""

    def __init__(self, rows: int, slabs: dict[int, Slab] | None = None) -> None:
        self.rows, self.slabs, self.batch = rows, slabs, 1
        self.slab: Slab | None = None
        self.slot = 0
        self._used = [0]
        self._give: weakref.finalize[Any, Any] | None = None

    def reserve(self, rows: int) -> Slab:
        """Have room for so many rows."""
        self._used[0] = max(self._used[0], rows)
        if self.slab is not None and rows <= self.slab.rows:
            return self.slab
        wanted = max(self.rows, rows if self.slab is None else 2 * rows)
        if self.slabs is None:
            slab = Slab(wanted, self.batch)
        else:
            wanted = 1 << (wanted - 1).bit_length()
            slab = self.slabs.setdefault(wanted, Slab(wanted))
        slot = slab.take()
        if self.slab is not None and self._give is not None:
            for layer, (keys, values) in self.slab.states.items():
                for new, old in zip(slab.at(layer, (keys, values)), (keys, values), strict=True):
                    new[slot : slot + self.batch, :, : self.slab.rows] = old[self.slot : self.slot + self.batch]
            self._give()
        self.slab, self.slot = slab, slot
        self._give = weakref.finalize(self, slab.give, slot, self._used)
        self._give.atexit = False
        return slab


class GrowingLayer(DynamicLayer):
    """A layer's keys and values [b, heads, n, d] in its session's room; DynamicLayer copies all for each row."""

    def __init__(self, layer: int, room: Room) -> None:
        self.layer, self.room, self.length = layer, room, 0
        super().__init__()

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
        room = self.room
        held = None if room.slab is None else room.slab.states.get(self.layer)
        return None if held is None else held[which][room.slot : room.slot + room.batch, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.room.batch, self.is_initialized = key_states.shape[0], True
        past, self.length = self.length, self.length + key_states.shape[-2]
        room = self.room
        held = room.reserve(self.length).at(self.layer, (key_states, value_states))
        keys, values = (states[room.slot : room.slot + room.batch, :, : self.length] for states in held)
        keys[:, :, past:] = key_states
        values[:, :, past:] = value_states
        return keys, values

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

    def states(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> list[torch.Tensor]:
        """Write the keys and values [1, heads, total, d]; the queries [slots, heads, 1, d], and keys and values of all slots."""
        held = self.slab.at(layer, (key, value))
        for states, new in zip(held, (key, value), strict=True):
            states[self.slots, :, self.past] = new[0].transpose(0, 1)[self.rows]
        own = query[0].transpose(0, 1)[self.rows]
        queries = query.new_zeros(self.end - self.first, *own.shape[1:])
        queries[self.slots - self.first] = own
        return [queries[:, :, None], *(states[self.first : self.end, :, : self.seen] for states in held)]

    def own(self, out: torch.Tensor) -> Iterable[torch.Tensor]:
        """Each part's of what comes out, [slots, 1, heads, d]."""
        return out[self.slots - self.first].split(1)


@dataclass
class Pack:
    """What one pass holds: each session's cache and how many rows it adds. ``least``: sessions that one kernel is used for; ``windows``: the sliding
    window that each layer asked for."""

    parts: list[tuple[DynamicCache, int]]
    least: int = LEAST_TOGETHER
    windows: dict[int, int | None] = field(default_factory=dict)
    _together: list[Together] | None = None

    def together(self, layer: int, device: torch.device) -> list[Together]:
        """The sessions that one kernel can serve at a layer; their rows count as there already."""
        if type(self.parts[0][0].layers[layer]) is not GrowingLayer:  # one that does more at each row has to do it for each
            return []
        if self._together is None:
            self._together = list(self._find(layer, device))
        for together in self._together:
            for i in together.parts:
                own = self.parts[i][0].layers[layer]
                assert isinstance(own, GrowingLayer)
                own.length += 1
                own.is_initialized = True
        return self._together

    def _find(self, layer: int, device: torch.device) -> Iterator[Together]:
        lying: dict[Slab, list[tuple[int, GrowingLayer, int]]] = {}
        at = 0
        for i, (cache, count) in enumerate(self.parts):
            own = cache.layers[layer]
            if count == 1 and isinstance(own, GrowingLayer):
                lying.setdefault(own.room.reserve(own.length + 1), []).append((i, own, at))
            at += count
        for slab, members in lying.items():
            slots, past = [own.room.slot for _, own, _ in members], [own.length for _, own, _ in members]
            first, end, seen = min(slots), max(slots) + 1, max(past) + 1
            if len(members) < self.least or end - first > MOST_SPREAD * len(members):
                continue
            rows, own_slots, own_past = (torch.tensor(values, device=device) for values in ([at for _, _, at in members], slots, past))
            sees = torch.zeros(end - first, dtype=torch.int64, device=device)  # one that has no part sees a key, for no kernel can see none
            sees[own_slots - first] = own_past
            mask = (torch.arange(seen, device=device) <= sees[:, None])[:, None, None]
            yield Together(slab, [i for i, _, _ in members], rows, own_slots, own_past, first, end, seen, mask)


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
    for together in pack.together(module.layer_idx, query.device) if window is None else ():
        out = kernel(module, *together.states(module.layer_idx, query, key, value), together.mask, **options)[0]
        found |= dict(zip(together.parts, together.own(out), strict=True))
    counts = [count for _, count in pack.parts]
    for i, (q, k, v) in enumerate(zip(*(states.split(counts, dim=2) for states in (query, key, value)), strict=True)):
        if i not in found:
            keys, values = pack.parts[i][0].layers[module.layer_idx].update(k, v)
            found[i] = kernel(module, q, keys, values, _mask(q, keys.shape[2], window), **options)[0]
    return torch.cat([found[i] for i in range(len(counts))], dim=1), None


def _mask(query: torch.Tensor, seen: int, window: int | None) -> torch.Tensor | None:
    """Which of the last ``seen`` keys each of the last rows of ``query`` [1, heads, count, d] sees, [1, 1, count, seen]; None where the kernel knows
    by itself."""
    count = query.shape[2]
    if seen <= (window or seen) and count in (1, seen):
        # A mask that hides nothing has transformers put the heads that share keys in one product. Without it torch does so, which for one row in
        # bfloat16 takes a CPU four to eight times as long.
        alone = count == 1 and query.dtype is torch.bfloat16 and query.is_cpu
        return torch.ones(1, 1, 1, seen, dtype=torch.bool) if alone else None
    keys = torch.arange(seen, device=query.device)
    rows = keys[seen - count :, None]
    mask = keys <= rows
    return (mask if window is None else mask & (keys > rows - window))[None, None]


AttentionInterface.register(PACKED, _attend)
