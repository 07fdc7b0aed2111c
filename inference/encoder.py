"""Run a model that turns texts into vectors: every text of a frame at once, each by itself, and nothing kept between frames."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from torch import nn

from inference import CutError, LoadError
from inference.devices import CPU, to_device, to_host
from inference.executor import SessionState, StageCache, StageExecutor, StageOutput, passes
from inference.linears import block_linears
from inference.loader import LoadedStage, checkpoint_keys, load_stage, read_config, round_linears
from inference.weights import check_tensors
from protocol.encoder import Encoder
from protocol.manifest import Manifest
from protocol.units import LayerRange

WORKING_ROWS = 16
"""What a row takes while it is run, as so many rows of the hidden size: it stands for a KV cache, of which there is none."""


class EncoderExecutor(StageExecutor):
    """All layers of an encoder. Rows in are token ids; rows out the last layer's, one for each."""

    def __init__(self, stage: LoadedStage, encoder: Encoder) -> None:
        self.stage, self.encoder, self.texts, self.packed, self._slabs = stage, encoder, encoder, True, {}
        block_linears(stage.model)

    def open_session(self, rows: int = 0, apart: bool = False) -> SessionState:
        """Counts rows; an encoder looks at no earlier ones."""
        return SessionState(StageCache())

    @property
    def forks(self) -> bool:
        return False

    def kv_row_bytes(self) -> int:
        return WORKING_ROWS * self.hidden_size * self.dtype.itemsize

    def pack(self) -> bool:
        return True

    @torch.inference_mode()
    def step(self, work: Sequence[tuple[SessionState, torch.Tensor]]) -> list[StageOutput]:
        """Run the frames of several sessions, [n] token ids each, which hold whole texts."""
        texts: list[torch.Tensor] = []
        counts: list[int] = []
        for session, rows in work:
            cuts = self.texts.starts(rows.tolist())[1:]
            texts += rows.tensor_split(cuts)
            counts.append(len(cuts) + 1)
            session.cache.rows += len(rows)
        outs = iter(self._run(texts))
        return [StageOutput(torch.cat([next(outs) for _ in range(count)]), None) for count in counts]

    def forward_batch(self, session: SessionState, rows: torch.Tensor, mask: torch.Tensor | None) -> StageOutput:
        """Several jobs' rows, [b, n] token ids, without padding: that would be taken for a part of the last text."""
        assert mask is None
        return StageOutput(torch.stack([self.forward(self.open_session(), one).rows for one in rows]), None)

    def _run(self, texts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Rows out of each text, run together with others of a length."""
        found: dict[int, torch.Tensor] = {}
        for chosen in passes([len(text) for text in texts]):
            ids = nn.utils.rnn.pad_sequence([texts[i] for i in chosen], batch_first=True)
            lengths = torch.tensor([len(texts[i]) for i in chosen])
            mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
            run = self.stage.model(input_ids=to_device(ids, self.device), attention_mask=to_device(mask.long(), self.device))
            (rows,) = to_host([run.last_hidden_state])
            found |= {i: rows[at, : len(texts[i])] for at, i in enumerate(chosen)}
        return [found[i] for i in range(len(texts))]


def load_encoder(
    folder: Path, layers: LayerRange, dtype: torch.dtype, manifest: Manifest | None = None, attention: str = "sdpa", int8: bool = False
) -> LoadedStage:
    """All of a model that makes vectors; arguments and errors as of ``load_stage``."""
    config = read_config(folder)
    count = config.num_hidden_layers
    if (layers.first, layers.end) != (0, count):
        raise CutError(f"{folder.name} makes vectors, and every row of a text looks at all others: it is not cut; serve all layers, 0-{count}")
    model, report = transformers.AutoModel.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, local_files_only=True, output_loading_info=True, add_pooling_layer=False
    )
    if report["missing_keys"]:
        raise LoadError(f"{folder} lacks {sorted(report['missing_keys'])[:3]}; fetch the model again")
    blocks = next(module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    keys = tuple(sorted(checkpoint_keys(folder)))
    if manifest is not None:
        check_tensors(folder, manifest, keys)
    model.eval().requires_grad_(False)
    if int8:
        round_linears(blocks)
    return LoadedStage(model, model, blocks, layers, True, True, keys)


def stage_of(
    folder: Path,
    layers: LayerRange,
    dtype: torch.dtype,
    manifest: Manifest | None = None,
    attention: str = "sdpa",
    int8: bool = False,
    device: torch.device = CPU,
) -> LoadedStage:
    """A stage of a model of either kind, on the device. Raises LoadError, TensorMismatch or CutError."""
    load = load_stage if encoder_of(folder) is None else load_encoder
    stage = load(folder, layers, dtype, manifest, attention, int8)
    nn.Module.to(stage.model, device)
    return stage


def executor_of(folder: Path, stage: LoadedStage) -> StageExecutor:
    """What runs a stage that was loaded from that folder."""
    encoder = encoder_of(folder)
    return StageExecutor(stage) if encoder is None else EncoderExecutor(stage, encoder)


def open_stage(
    folder: Path,
    layers: LayerRange,
    dtype: torch.dtype,
    manifest: Manifest | None = None,
    attention: str = "sdpa",
    int8: bool = False,
    device: torch.device = CPU,
) -> StageExecutor:
    """A stage of a model of either kind, loaded, with what runs it. Raises LoadError, TensorMismatch or CutError."""
    return executor_of(folder, stage_of(folder, layers, dtype, manifest, attention, int8, device))


def encoder_of(folder: Path) -> Encoder | None:
    """None for a model that writes text. Raises LoadError for one that makes vectors in a way that is not known here."""
    try:
        return Encoder.of(folder)
    except (ValueError, KeyError, OSError) as error:
        raise LoadError(f"{folder} cannot be served: {error}") from error
