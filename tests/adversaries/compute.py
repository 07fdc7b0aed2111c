"""Cheaper arithmetic under a false class: what a provider gains from, as changes to a loaded stage or to the cache of its sessions."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer

from inference.executor import SessionState, StageExecutor
from inference.linears import unblocked
from inference.loader import LoadedStage, round_to_integers

Rounding = Callable[[torch.Tensor], torch.Tensor]
RANK = 4
LOW_RANK_SHARE = 0.01
WINDOW = 64
GROUP = 64


def integer(bits: int) -> Rounding:
    """Round to signed integers of so many bits with a scale for each row: output channels of a weight, heads and tokens of a cache."""
    return partial(round_to_integers, bits=bits)


def float8(kind: torch.dtype) -> Rounding:
    """Round to an 8-bit float, scaled for each row so that its largest value is the largest there is."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        scale = x.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / torch.finfo(kind).max
        return ((x.float() / scale).to(kind).float() * scale).to(x.dtype)

    return rounded


def plain_float8(x: torch.Tensor) -> torch.Tensor:
    """Round to e4m3 without a scale, as engines keep their KV cache."""
    return x.to(torch.float8_e4m3fn).to(x.dtype)


def grouped(rounding: Rounding) -> Rounding:
    """The same with a scale for each GROUP values of a row: finer, and off in another direction than with one scale for all."""
    return lambda x: rounding(x.unflatten(-1, (-1, GROUP))).flatten(-2)


INT8, INT6, INT4 = integer(8), integer(6), integer(4)
FP8 = float8(torch.float8_e4m3fn)


def round_weights(stage: LoadedStage, rounding: Rounding, layers: Iterable[int] | None = None) -> None:
    """Round each linear weight of the given layers, or of all the stage's own."""
    with unblocked(stage.model):
        for linear in _linears(stage, layers):
            linear.weight.data.copy_(rounding(linear.weight.data))


def add_low_rank(stage: LoadedStage, which: int = -1) -> None:
    """Add to one matrix of each layer, the MLP's last or another, a random change of rank 4 and 1 % of its norm: a fine-tune that nobody declared."""
    source = torch.Generator().manual_seed(11)
    with unblocked(stage.model):
        for index in _own(stage):
            linear = [module for module in stage.blocks[index].modules() if isinstance(module, nn.Linear)][which]
            weight = linear.weight.data.float()
            change = torch.randn(weight.shape[0], RANK, generator=source) @ torch.randn(RANK, weight.shape[1], generator=source)
            linear.weight.data.copy_((weight + change * (LOW_RANK_SHARE * weight.norm() / change.norm())).to(linear.weight.dtype))


def drop_layers(stage: LoadedStage, every: int = 0) -> None:
    """Leave out the layer before the last, or each ``every``-th: fewer layers, or a smaller model of the same width."""
    own = _own(stage)
    for index in own[1:-1:every] if every else own[-2:-1]:
        stage.blocks[index] = PipelineIdentityLayer()


def swap_layers(stage: LoadedStage) -> None:
    """Run the two middle layers in the wrong order."""
    own = _own(stage)
    first, second = own[len(own) // 2 - 1], own[len(own) // 2]
    with unblocked(stage.model):
        for one, other in zip(stage.blocks[first].parameters(), stage.blocks[second].parameters(), strict=True):
            kept = one.data.clone()
            one.data.copy_(other.data)
            other.data.copy_(kept)


def exit_early(stage: LoadedStage) -> None:
    """Skip the two layers before the last while decoding; the prompt is computed in full."""
    for index in _own(stage)[-3:-1]:
        block = stage.blocks[index]
        inner = block.forward

        def forward(hidden: torch.Tensor, *args: Any, inner: Callable[..., Any] = inner, **kwargs: Any) -> Any:
            out = inner(hidden, *args, **kwargs)
            return hidden if hidden.shape[1] == 1 else out

        block.forward = forward


class RoundedLayer(DynamicLayer):
    """A KV cache of lower precision, which attention reads all keys and values from, as engines with a paged cache do."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self.rounding = rounding

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return super().update(self.rounding(key_states), self.rounding(value_states), *args, **kwargs)


class RoundedPastLayer(RoundedLayer):
    """The same, but the rows just computed are still attended to in full: the harder to find, and a prompt shows nothing of it."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        past = (self.keys, self.values) if self.is_initialized else None
        super().update(key_states, value_states, *args, **kwargs)
        if past is None:
            return key_states, value_states
        return torch.cat([past[0], key_states], dim=-2), torch.cat([past[1], value_states], dim=-2)


def cancelling_rows(target: StageExecutor, rows: torch.Tensor, spread: torch.Tensor, steps: int) -> torch.Tensor:
    """Rows [n, hidden] to send to an honest stage, found by gradient from real ones, that its layers nearly cancel: what it then gives is mostly
    rounding, in which no two honest machines agree."""
    target.stage.model.requires_grad_(False)
    differentiable = type(target).forward_batch.__wrapped__  # type: ignore[attr-defined]  # without its inference mode
    with unblocked(target.stage.model), torch.enable_grad():
        found = rows.detach().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([found], lr=0.5)
        for _ in range(steps):
            out = differentiable(target, target.open_session(), found[None], None).rows[0]
            loss = torch.log((out / spread).norm(dim=1) / (found / spread).norm(dim=1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return found.detach()


def random_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows [n, hidden] about as long as these, in any direction."""
    return torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * rows.norm(dim=1, keepdim=True) / rows.shape[1] ** 0.5


def replace_cache(executor: StageExecutor, layer: Callable[[], DynamicLayer]) -> None:
    """Give the executor's sessions another kind of cache layer."""
    honest = executor.open_session

    def open_session(rows: int = 0, apart: bool = False) -> SessionState:
        session = honest(rows)
        session.cache.layers = [layer() if i in executor.stage.layers else kept for i, kept in enumerate(session.cache.layers)]
        return session

    executor.open_session = open_session  # type: ignore[method-assign]


def _stage(change: Callable[[LoadedStage], None]) -> Callable[[StageExecutor], None]:
    return lambda executor: change(executor.stage)


def _middle(stage: LoadedStage) -> list[int]:
    own = _own(stage)
    return [own[len(own) // 2]]


COMPUTE: dict[str, Callable[[StageExecutor], None]] = {
    "int4-weights": _stage(lambda stage: round_weights(stage, INT4)),
    "int6-weights": _stage(lambda stage: round_weights(stage, INT6)),
    "fp8-weights": _stage(lambda stage: round_weights(stage, FP8)),
    "int8-weights": _stage(lambda stage: round_weights(stage, INT8)),
    "int4-one-layer": _stage(lambda stage: round_weights(stage, INT4, _middle(stage))),
    "int8-one-layer": _stage(lambda stage: round_weights(stage, INT8, _middle(stage))),
    "int8-one-layer-grouped": _stage(lambda stage: round_weights(stage, grouped(INT8), _middle(stage))),
    "low-rank": _stage(add_low_rank),
    "low-rank-attention": _stage(lambda stage: add_low_rank(stage, 0)),
    "kv-fp8": lambda executor: replace_cache(executor, lambda: RoundedLayer(plain_float8)),
    "kv-int8": lambda executor: replace_cache(executor, lambda: RoundedLayer(INT8)),
    "kv-int8-past": lambda executor: replace_cache(executor, lambda: RoundedPastLayer(INT8)),
    "sliding-window": lambda executor: replace_cache(executor, lambda: DynamicSlidingWindowLayer(sliding_window=WINDOW)),
    "smaller-model": _stage(lambda stage: drop_layers(stage, 2)),
    "fewer-layers": _stage(drop_layers),
    "swapped-layers": _stage(swap_layers),
    "early-exit": _stage(exit_early),
}
"""Each changes a loaded executor for good."""


def _own(stage: LoadedStage) -> list[int]:
    return list(range(stage.layers.first, stage.layers.end))


def _linears(stage: LoadedStage, layers: Iterable[int] | None) -> Iterable[nn.Linear]:
    for index in _own(stage) if layers is None else layers:
        yield from (module for module in stage.blocks[index].modules() if isinstance(module, nn.Linear))
