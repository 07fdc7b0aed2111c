"""Run one stage: rows in, rows out, over a KV cache for each session."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer

from inference.loader import LoadedStage


@dataclass
class SessionState:
    """One session's KV cache on this stage. ``position`` is the number of rows already in it."""

    cache: DynamicCache
    position: int = 0


@dataclass(frozen=True)
class StageOutput:
    """``rows``: [n, hidden] in the stage's dtype, the final-norm rows on the last stage. ``logits``: [k, vocab] float32, last stage only."""

    rows: torch.Tensor
    logits: torch.Tensor | None


@dataclass
class StageExecutor:
    """Feeds received rows to the first owned layer and captures what the last owned layer gives.

    Injecting at the layer rather than by ``inputs_embeds`` means that whatever a model does before layer 0 (scaling, per-layer
    inputs) is computed and thrown away instead of being applied twice.
    """

    stage: LoadedStage
    _inject: torch.Tensor | None = field(default=None, init=False)
    _captured: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        first, last = self.stage.blocks[self.stage.layers.first], self.stage.blocks[self.stage.layers.end - 1]
        first.register_forward_pre_hook(self._replace_input)
        if self.stage.is_last:
            self.stage.decoder.register_forward_hook(lambda _m, _a, out: self._capture(out.last_hidden_state))
        else:
            last.register_forward_hook(lambda _m, _a, out: self._capture(out[0] if isinstance(out, tuple) else out))

    @property
    def hidden_size(self) -> int:
        return int(self.stage.model.config.get_text_config(decoder=True).hidden_size)

    def open_session(self) -> SessionState:
        """A new, empty KV cache; layers that this stage does not own hold nothing, so that layer indices stay true."""
        cache = DynamicCache(config=self.stage.model.config)
        cache.layers = [layer if i in self.stage.layers else DummyLayer() for i, layer in enumerate(cache.layers)]
        return SessionState(cache)

    @torch.inference_mode()
    def forward(self, session: SessionState, rows: torch.Tensor, logits_for: int = 1) -> StageOutput:
        """Append rows to the session and run them.

        ``rows``: token ids [n] int64 on the first stage, hidden states [n, hidden] elsewhere. ``logits_for``: for how many of the
        last rows the last stage computes logits; 0 means all.
        """
        count = rows.shape[0]
        ids = rows if self.stage.is_first else torch.zeros(count, dtype=torch.int64)
        positions = torch.arange(session.position, session.position + count)[None]
        run = self.stage.model if self.stage.is_last else self.stage.decoder
        keep = {"logits_to_keep": logits_for} if self.stage.is_last else {}
        with self._injecting(None if self.stage.is_first else rows[None]):
            out = run(input_ids=ids[None], position_ids=positions, past_key_values=session.cache, use_cache=True, **keep)
        session.position += count
        assert self._captured is not None
        return StageOutput(self._captured[0], out.logits[0].float() if self.stage.is_last else None)

    @contextmanager
    def _injecting(self, rows: torch.Tensor | None) -> Iterator[None]:
        self._inject, self._captured = rows, None
        try:
            yield
        finally:
            self._inject = None

    def _replace_input(self, _module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        return None if self._inject is None else (self._inject, *args[1:])

    def _capture(self, rows: torch.Tensor) -> None:
        self._captured = rows
