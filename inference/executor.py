"""Run one stage: rows in, rows out, over a KV cache for each session."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer

from inference.loader import LoadedStage


@dataclass
class SessionState:
    """One session's KV cache on this stage. ``position`` is the number of rows already in it; ``mask`` marks a batch's rows that are no padding."""

    cache: DynamicCache
    position: int = 0
    mask: torch.Tensor | None = None


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
    _final: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        first, last = self.stage.blocks[self.stage.layers.first], self.stage.blocks[self.stage.layers.end - 1]
        first.register_forward_pre_hook(self._replace_input)
        if self.stage.is_last:
            self.stage.decoder.register_forward_hook(self._finish)
        else:
            last.register_forward_hook(lambda _m, _a, out: self._capture(out[0] if isinstance(out, tuple) else out))

    @property
    def hidden_size(self) -> int:
        return int(self.stage.model.config.get_text_config(decoder=True).hidden_size)

    @property
    def vocab_size(self) -> int:
        return int(self.stage.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def dtype(self) -> torch.dtype:
        return self.stage.model.dtype

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
        out = self.forward_batch(session, rows[None], None, logits_for)
        return StageOutput(out.rows[0], None if out.logits is None else out.logits[0])

    @torch.inference_mode()
    def forward_batch(self, session: SessionState, rows: torch.Tensor, mask: torch.Tensor | None, logits_for: int = 1) -> StageOutput:
        """Append a step of several sequences that share one cache; what comes out has the batch in front, as ``rows`` has.

        ``rows``: [b, n] or [b, n, hidden]. ``mask``: [b, n] bool, False where a row is padding, which lies on the left; None where nothing is.
        """
        count = rows.shape[1]
        ids = rows if self.stage.is_first else torch.zeros(rows.shape[:2], dtype=torch.int64)
        if mask is None:
            positions = torch.arange(session.position, session.position + count)[None]
        else:
            session.mask = mask if session.mask is None else torch.cat([session.mask, mask], dim=1)
            positions = (session.mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -count:]
        run = self.stage.model if self.stage.is_last else self.stage.decoder
        keep = {"logits_to_keep": logits_for} if self.stage.is_last else {}
        with self._injecting(None if self.stage.is_first else rows):
            out = run(input_ids=ids, position_ids=positions, attention_mask=session.mask, past_key_values=session.cache, use_cache=True, **keep)
        session.position += count
        assert self._captured is not None
        return StageOutput(self._captured, out.logits.float() if self.stage.is_last else None)

    @torch.inference_mode()
    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits [n, vocab] of final-norm rows [n, hidden], on the last stage; by the model's own code, which may do more than one product."""
        self._final = rows[None]
        try:
            # The decoder runs on one token and is not listened to.
            out = self.stage.model(input_ids=torch.zeros(1, 1, dtype=torch.int64), past_key_values=self.open_session().cache, use_cache=True)
        finally:
            self._final = None
        return out.logits[0]

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
    def _injecting(self, rows: torch.Tensor | None) -> Iterator[None]:
        self._inject, self._captured = rows, None
        try:
            yield
        finally:
            self._inject = None

    def _replace_input(self, _module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        return None if self._inject is None else (self._inject, *args[1:])

    def _finish(self, _module: torch.nn.Module, _args: tuple[torch.Tensor, ...], out: Any) -> Any:
        self._capture(out.last_hidden_state)
        if self._final is not None:
            out.last_hidden_state = self._final
        return out

    def _capture(self, rows: torch.Tensor) -> None:
        self._captured = rows
