"""Run one stage: rows in, rows out, over a KV cache for each session."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DummyLayer, DynamicLayer

from inference import CutError, LoadError
from inference.devices import to_device, to_host
from inference.linears import block_linears, blocked, forget, unblock
from inference.loader import ForeignLayer, LoadedStage
from inference.packing import KERNEL, PACKED, GrowingLayer, Pack, Room, Slab, packing, packs, rotates_by_length
from protocol.encoder import Encoder

CERTIFYING_ROWS, LEAST_ROWS = 12, 256
PASS_ROWS = 1024
"""Rows, with their padding, in one pass of jobs that are run together: memory stays bounded."""


class StageCache(DynamicCache):
    """A cache that knows its length by itself: a stage of recurrent layers alone has none that could tell it. ``rows`` is raised after each pass."""

    rows = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.rows if self._recurrent else int(super().get_seq_length(layer_idx))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return (self.rows + query_length, 0) if self._recurrent else super().get_mask_sizes(query_length, layer_idx)

    @property
    def _recurrent(self) -> bool:
        return not any(isinstance(layer, CacheLayerMixin) for layer in self.layers)


@dataclass
class SessionState:
    """One session's KV cache on this stage. ``mask`` marks a batch's rows that are no padding."""

    cache: StageCache
    mask: torch.Tensor | None = None

    @property
    def position(self) -> int:
        """The number of rows already in the cache."""
        return self.cache.rows


@dataclass(frozen=True)
class StageOutput:
    """On the CPU: ``rows`` [n, hidden] in the stage's dtype, final-norm ones on the last stage; ``logits`` [k, vocab] float32, last stage only."""

    rows: torch.Tensor
    logits: torch.Tensor | None


@dataclass
class StageExecutor:
    """Feeds received rows to the first owned layer and captures what the last owned layer gives.

    Injecting at the layer rather than by ``inputs_embeds`` means that whatever a model does before layer 0 (scaling, per-layer
    inputs) is computed and thrown away instead of being applied twice.
    """

    stage: LoadedStage
    encoder: Encoder | None = field(default=None, init=False)
    """How texts are cut, where the model makes vectors of them."""
    packed: bool = field(default=False, init=False)
    """Whether steps of several sessions run in one pass, as ``pack`` has found possible."""
    _slabs: dict[int, Slab] = field(default_factory=dict, init=False)
    """Where sessions keep their keys and values, by how many rows there is room for."""
    _inject: torch.Tensor | None = field(default=None, init=False)
    _move: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, init=False)
    _captured: torch.Tensor | None = field(default=None, init=False)
    _final: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        block_linears(self.stage.model)
        first, last = self.stage.blocks[self.stage.layers.first], self.stage.blocks[self.stage.layers.end - 1]
        first.register_forward_pre_hook(self._replace_input)
        if self.stage.is_last:
            self.stage.decoder.register_forward_hook(self._finish)
        else:
            last.register_forward_hook(lambda _m, _a, out: self._capture(out[0] if isinstance(out, tuple) else out))
        self._require_cut()

    def _require_cut(self) -> None:
        """Run two rows: the layers that are not here have to let them pass, as single values or as the tuples that some models' layers give.

        Raises CutError where neither does.
        """
        foreign = [block for block in self.stage.blocks if isinstance(block, ForeignLayer)]
        if not foreign:
            return
        reason = ""
        for as_tuple in (False, True):
            for block in foreign:
                block.as_tuple = as_tuple
            try:
                rows = self._random_rows(2, torch.Generator().manual_seed(0))
                if self.forward(self.open_session(), rows).rows.shape == (2, self.hidden_size):
                    return
            except Exception as error:  # whatever a model says of layers that do nothing
                reason = f"{type(error).__name__}: {error}"
        raise CutError(f"layers {self.stage.layers} of {type(self.stage.model).__name__} do not run without the others ({reason}); serve all layers")

    def unload(self) -> None:
        """Give the weights' memory back; what is known of the model stays. No session may be open, and none can run until ``reload``."""
        for linear in blocked(self.stage.model):
            forget(linear)
        torch.nn.Module.to(self.stage.model, "meta")
        self._slabs.clear()
        # glibc keeps what is freed in the middle of its heap for the next allocation, unless it is told to give it back.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)

    def reload(self, fresh: LoadedStage) -> None:
        """Take the weights of the same layers, loaded anew; hooks and what ``pack`` has found stay as they are."""
        model, found = self.stage.model, fresh.model
        model.load_state_dict(found.state_dict(), assign=True)
        for name, buffer in found.named_buffers():  # those that are no part of the state, as rotary frequencies
            owner, _, own_name = name.rpartition(".")
            model.get_submodule(owner)._buffers[own_name] = buffer
        block_linears(model)

    def compile(self) -> None:
        """Have torch compile what in each layer knows no cache (norms, linear layers), for rows of any number. Raises LoadError where it cannot."""
        for index in self.stage.layers:
            for part in self.stage.blocks[index].children():
                if not any(hasattr(module, "layer_idx") for module in part.modules()):
                    for linear in blocked(part):  # the compiler has products of its own
                        unblock(linear)
                    part.compile(dynamic=True)
        try:
            self.forward(self.open_session(), self._random_rows(2, torch.Generator().manual_seed(0)))
        except RuntimeError as error:  # what torch raises, without a C++ compiler for one
            raise LoadError(f"torch cannot compile this stage ({str(error).strip().splitlines()[0]}); unset FUNCNET_COMPILE") from error

    @property
    def hidden_size(self) -> int:
        return int(self.stage.model.config.get_text_config(decoder=True).hidden_size)

    @property
    def vocab_size(self) -> int:
        return int(self.stage.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def dtype(self) -> torch.dtype:
        return self.stage.model.dtype

    @property
    def device(self) -> torch.device:
        return self.stage.model.device

    def open_session(self, rows: int = LEAST_ROWS, apart: bool = False) -> SessionState:
        """A new, empty KV cache with room for so many rows before it has to grow, ``apart`` from those of other sessions if it is to be kept and not
        run; layers that this stage does not own hold nothing, so that layer indices stay true."""
        cache = StageCache(config=self.stage.model.config)
        room = Room(rows, self._slabs if self.packed and not apart else None)
        own = [GrowingLayer(i, room) if type(layer) is DynamicLayer else layer for i, layer in enumerate(cache.layers)]
        cache.layers = [layer if i in self.stage.layers else DummyLayer() for i, layer in enumerate(own)]
        return SessionState(cache)

    @torch.inference_mode()
    def fork(self, session: SessionState, count: int, rows: int, apart: bool = False) -> SessionState:
        """A new session with room for so many rows whose first ``count`` are those of another, copied. Only where the stage ``forks``."""
        new = self.open_session(rows, apart)
        for layer, old in zip(new.cache.layers, session.cache.layers, strict=True):
            if isinstance(layer, GrowingLayer) and isinstance(old, GrowingLayer):
                layer.copy(old, count)
        new.cache.rows = count
        return new

    @property
    def forks(self) -> bool:
        """Whether the beginning of a session's state can be told from its end: not where a layer keeps a window or a sum of what it has seen."""
        layers = self.open_session().cache.layers
        return self.packed and all(isinstance(layers[i], GrowingLayer) for i in self.stage.layers)

    def kv_row_bytes(self) -> int:
        """What a row's keys and values take on this stage, as a session shows that holds one. Layers with a state of fixed size count nothing."""
        return sum(states.numel() * states.itemsize for states in self.kv_of_a_row().values())

    def kv_of_a_row(self) -> dict[str, torch.Tensor]:
        """Keys and values of some row, by name, as ``export`` gives them."""
        session = self.open_session()
        self.forward(session, self._random_rows(1, torch.Generator()))
        return self.export(session, 0, 1)

    @torch.inference_mode()
    def export(self, session: SessionState, first: int, end: int) -> dict[str, torch.Tensor]:
        """Keys and values of the session's rows ``[first, end)``, [heads, n, d] on the CPU, as ``layers.N.keys`` and ``layers.N.values``."""
        held = {i: layer for i, layer in enumerate(session.cache.layers) if getattr(layer, "is_initialized", False)}
        states = {f"layers.{i}.{part}": getattr(layer, part, None) for i, layer in held.items() for part in ("keys", "values")}
        cut = {name: tensor[0, :, first:end].clone() for name, tensor in states.items() if tensor is not None}
        return dict(zip(cut, to_host(list(cut.values())), strict=True)) if cut else {}

    @torch.inference_mode()
    def extend(self, session: SessionState, states: Mapping[str, torch.Tensor], count: int) -> None:
        """Append ``count`` rows' keys and values, as ``export`` gave them, in place of running the rows. Only where the stage ``forks``."""
        for i in self.stage.layers:
            own = session.cache.layers[i]
            assert isinstance(own, GrowingLayer)
            keys, values = (to_device(states[f"layers.{i}.{part}"][None], self.device) for part in ("keys", "values"))
            own.update(keys, values)
        session.cache.rows += count

    def forward(self, session: SessionState, rows: torch.Tensor) -> StageOutput:
        """Append rows to the session and run them; logits for the last one.

        ``rows``: token ids [n] int64 on the first stage, hidden states [n, hidden] elsewhere.
        """
        return self.step([(session, rows)])[0]

    @torch.inference_mode()
    def step(self, work: Sequence[tuple[SessionState, torch.Tensor]]) -> list[StageOutput]:
        """Append to several sessions, each with rows as in ``forward``; in one pass where the stage is ``packed``, else one after another."""
        if not self.packed:
            outs = [self.forward_batch(session, rows[None], None) for session, rows in work]
            return [StageOutput(out.rows[0], None if out.logits is None else out.logits[0]) for out in outs]
        return self._run_packed(work, Pack([(session.cache, len(rows)) for session, rows in work]))

    def _run_packed(self, work: Sequence[tuple[SessionState, torch.Tensor]], pack: Pack) -> list[StageOutput]:
        counts = [len(rows) for _, rows in work]
        positions = torch.cat([torch.arange(session.position, session.position + len(rows)) for session, rows in work])[None]
        rows, positions = (to_device(tensor, self.device) for tensor in (torch.cat([rows for _, rows in work])[None], positions))
        ids = rows if self.stage.is_first else torch.zeros(rows.shape[:2], dtype=torch.int64, device=self.device)
        run = self.stage.model if self.stage.is_last else self.stage.decoder
        keep = {"logits_to_keep": to_device(torch.tensor(counts).cumsum(0) - 1, self.device)} if self.stage.is_last else {}
        with self._injecting(None if self.stage.is_first else rows), packing(pack):
            out = run(input_ids=ids, position_ids=positions, use_cache=False, **keep)
        for (session, _), count in zip(work, counts, strict=True):
            session.cache.rows += count
        whole = self._on_host(out)
        parts = whole.rows[0].split(counts)
        logits = [None] * len(parts) if whole.logits is None else whole.logits[0][:, None]
        return [StageOutput(part, scores) for part, scores in zip(parts, logits, strict=True)]

    def _on_host(self, out: Any) -> StageOutput:
        """What a pass gave, with its batch in front."""
        assert self._captured is not None
        rows, *logits = to_host([self._captured, *([out.logits.float()] if self.stage.is_last else [])])
        return StageOutput(rows, logits[0] if logits else None)

    @torch.inference_mode()
    def pack(self) -> bool:
        """Run steps of several sessions in one pass from now on, if the model lets us: whether it does.

        Models keep state in more ways than we know of. So it is tried: two sessions that join each other in mid-prompt have to come out as each by
        itself does, up to what another cut of the same rows changes.
        """
        model = self.stage.model
        if model.config._attn_implementation != KERNEL or rotates_by_length(model.config.get_text_config(decoder=True)):
            return False
        source = torch.Generator().manual_seed(0)
        inputs = [self._random_rows(count, source) for count in (CERTIFYING_ROWS, CERTIFYING_ROWS // 2)]
        alone, cut = ([self._in_cuts(rows, cuts) for rows in inputs] for cuts in ((5, 11), (3, 7)))
        model.set_attn_implementation(PACKED)
        self.packed = True
        try:
            together, windows = self._together(inputs)
            fits = all(packs(layer, windows[i]) for i, layer in enumerate(self.open_session().cache.layers) if i in self.stage.layers)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):  # whatever a model says to a pass that it was not written for
            fits, together = False, alone
        noise = max(_distance(a, b) for a, b in zip(alone, cut, strict=True))
        error = max(_distance(a, b) for a, b in zip(alone, together, strict=True))
        self.packed = fits and error <= max(4 * noise, 4 * torch.finfo(self.dtype).eps)
        if not self.packed:
            model.set_attn_implementation(KERNEL)
        return self.packed

    def _random_rows(self, count: int, source: torch.Generator) -> torch.Tensor:
        if self.stage.is_first:
            return torch.randint(0, self.vocab_size, (count,), generator=source)
        return torch.randn(count, self.hidden_size, generator=source).to(self.dtype)

    def _in_cuts(self, rows: torch.Tensor, cuts: tuple[int, ...]) -> torch.Tensor:
        session = self.open_session()
        return torch.cat([self.forward(session, part).rows for part in rows.tensor_split(cuts) if len(part)])

    def _together(self, inputs: list[torch.Tensor]) -> tuple[list[torch.Tensor], dict[int, int | None]]:
        """Both inputs packed: the longer one's beginning alone, then both, then row by row; what came out, and the windows that layers asked for."""
        long, short = self.open_session(), self.open_session()
        cut = len(inputs[0]) - len(inputs[1])
        parts = [(long, inputs[0][:cut])], [(long, inputs[0][cut:-2]), (short, inputs[1][:-2])]
        ends = [[(long, inputs[0][i : i + 1 or None]), (short, inputs[1][i : i + 1 or None])] for i in (-2, -1)]
        found: dict[int, list[torch.Tensor]] = {id(long): [], id(short): []}
        for work in (*parts, *ends):
            pack = Pack([(session.cache, len(rows)) for session, rows in work], least=2)
            for (session, _), out in zip(work, self._run_packed(work, pack), strict=True):
                found[id(session)].append(out.rows)
        return [torch.cat(rows) for rows in found.values()], pack.windows

    @torch.inference_mode()
    def forward_batch(self, session: SessionState, rows: torch.Tensor, mask: torch.Tensor | None) -> StageOutput:
        """Append a step of several sequences that share one cache; what comes out has the batch in front, as ``rows`` has.

        ``rows``: [b, n] or [b, n, hidden]. ``mask``: [b, n] bool, False where a row is padding, which lies on the left; None where nothing is.
        """
        assert not self.packed, "a packed stage takes no padding"
        count, rows = rows.shape[1], to_device(rows, self.device)
        ids = rows if self.stage.is_first else torch.zeros(rows.shape[:2], dtype=torch.int64, device=self.device)
        if mask is None:
            positions = torch.arange(session.position, session.position + count, device=self.device)[None]
        else:
            mask = to_device(mask, self.device)
            session.mask = mask if session.mask is None else torch.cat([session.mask, mask], dim=1)
            positions = (session.mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -count:]
        run = self.stage.model if self.stage.is_last else self.stage.decoder
        keep = {"logits_to_keep": 1} if self.stage.is_last else {}
        with self._injecting(None if self.stage.is_first else rows):
            out = run(input_ids=ids, position_ids=positions, attention_mask=session.mask, past_key_values=session.cache, use_cache=True, **keep)
        session.cache.rows += count
        return self._on_host(out)

    @torch.inference_mode()
    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits [n, vocab] of final-norm rows [n, hidden], on the last stage; by the model's own code, which may do more than one product."""
        self._final = to_device(rows, self.device)[None]
        try:
            # The decoder runs on one token and is not listened to.
            ids = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
            out = self.stage.model(input_ids=ids, past_key_values=self.open_session().cache, use_cache=True)
        finally:
            self._final = None
        return to_host([out.logits[0]])[0]

    @contextmanager
    def attending(self, kernel: str) -> Iterator[None]:
        """With another attention kernel than the stage was loaded with."""
        model = self.stage.model
        usual = str(model.config._attn_implementation)
        model.set_attn_implementation(kernel)
        try:
            yield
        finally:
            model.set_attn_implementation(usual)

    @contextmanager
    def moving(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """With what the first owned layer is given changed by ``move``."""
        self._move = move
        try:
            yield
        finally:
            self._move = None

    @contextmanager
    def _injecting(self, rows: torch.Tensor | None) -> Iterator[None]:
        self._inject, self._captured = rows, None
        try:
            yield
        finally:
            self._inject = None

    def _replace_input(self, _module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if self._inject is None and self._move is None:
            return None
        rows = args[0] if self._inject is None else self._inject
        return (rows if self._move is None else self._move(rows), *args[1:])

    def _finish(self, _module: torch.nn.Module, _args: tuple[torch.Tensor, ...], out: Any) -> Any:
        self._capture(out.last_hidden_state)
        if self._final is not None:
            out.last_hidden_state = self._final
        return out

    def _capture(self, rows: torch.Tensor) -> None:
        self._captured = rows


def passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of jobs to run together, shortest first."""
    chosen: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if chosen and (len(chosen) + 1) * lengths[i] > PASS_ROWS:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


def _distance(rows: torch.Tensor, others: torch.Tensor) -> float:
    """The greatest distance of two rows, as a share of the row."""
    return float(((rows - others).float().norm(dim=-1) / rows.float().norm(dim=-1).clamp(min=1e-12)).max())
