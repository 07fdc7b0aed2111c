"""Load a contiguous range of layers of any decoder that transformers knows.

The model is built on the meta device, the layers that this stage does not own are replaced, and transformers' own loader then reads
only what is left: it knows how to fuse experts and rename keys for each architecture, which a loader of ours would get wrong.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.distributed import DistributedConfig
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer

from inference import CutError, LoadError
from inference.weights import check_tensors, open_tensors
from protocol.manifest import Manifest
from protocol.units import LayerRange

OWNED, FOREIGN = 0, 1
UNCUTTABLE = ("gemma4", "nanochat")
"""Models that give silently wrong rows where they are cut, as the sweep of ``tests/inference/architectures.py`` shows: later layers read what earlier
ones keep beside the hidden state (shared keys and values, the embedding)."""


class ForeignEmbedding(nn.Module):
    """Stands where the embedding was: gives zeros of the right shape, which the first owned layer's input then replaces."""

    def __init__(self, hidden_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.dtype = dtype

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*input_ids.shape, self.hidden_size, dtype=self.dtype, device=input_ids.device)


class ForeignLayer(PipelineIdentityLayer):
    """Stands where a layer of another stage was: gives what it is given, as a tuple if the model's layers give tuples."""

    as_tuple = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        rows = super().forward(*args, **kwargs)
        return (rows,) if self.as_tuple and not isinstance(rows, tuple) else rows


@dataclass(frozen=True)
class KeyOwners:
    """Answers transformers' question which stage a checkpoint key belongs to; two ranks suffice: ours and foreign."""

    layers: LayerRange
    layers_path: str
    foreign_modules: frozenset[str]
    pp_rank: int = OWNED

    def find_rank_for_key(self, key: str, num_layers: int, base_model_prefix: str) -> int | None:
        return FOREIGN if self.is_foreign(key) else OWNED

    def is_foreign(self, key: str) -> bool:
        layer = re.match(rf"(?:\w+\.)*?{re.escape(self.layers_path.split('.')[-1])}\.(\d+)\.", key)
        if layer:
            return int(layer[1]) not in self.layers
        return key.rpartition(".")[0] in self.foreign_modules


@dataclass(frozen=True)
class LoadedStage:
    """A model that holds only ``layers``; ``decoder`` is its base model and ``blocks`` the full-length list of layers."""

    model: transformers.PreTrainedModel
    decoder: nn.Module
    blocks: nn.ModuleList
    layers: LayerRange
    is_first: bool
    is_last: bool
    loaded_keys: tuple[str, ...]


def round_to_integers(values: torch.Tensor, bits: int) -> torch.Tensor:
    """The nearest signed integer of so many bits times a scale for each row: an output channel of a weight, as weight-only kernels compute with."""
    scale = values.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
    return (torch.round(values.float() / scale) * scale).to(values.dtype)


def round_linears(blocks: Iterable[nn.Module]) -> None:
    """Round the linear weights of these layers to int8, for good."""
    for linear in (module for block in blocks for module in block.modules() if isinstance(module, nn.Linear)):
        linear.weight.data.copy_(round_to_integers(linear.weight.data, 8))


def read_config(folder: Path) -> transformers.PretrainedConfig:
    """The model's configuration. Raises LoadError where the folder holds none."""
    if not (folder / "config.json").is_file():
        raise LoadError(f"{folder} holds no config.json; give the folder of a safetensors model, or run `funcnet model prepare`")
    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)


def load_stage(
    folder: Path, layers: LayerRange, dtype: torch.dtype, manifest: Manifest | None = None, attention: str = "sdpa", int8: bool = False
) -> LoadedStage:
    """Load layers ``[first, end)`` and, where the range reaches them, the embedding, the final norm and the head.

    With a manifest each tensor that is read is first compared with it; ``int8`` then rounds the linear weights of the layers. Raises LoadError,
    TensorMismatch or CutError.
    """
    config = read_config(folder)
    text = config.get_text_config(decoder=True)
    count = text.num_hidden_layers
    if not 0 <= layers.first < layers.end <= count:
        raise CutError(f"layers {layers} do not lie within 0-{count} of {folder.name}; choose a range inside it")
    if (layers.first, layers.end) != (0, count) and text.model_type.startswith(UNCUTTABLE):
        raise CutError(f"{config.model_type} keeps more than the hidden state from layer to layer, so it cannot be cut; serve all layers, 0-{count}")
    stage_class, holder = _stage_class(config, layers)
    model, report = stage_class.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=attention,
        distributed_config=DistributedConfig(),
        local_files_only=True,
        output_loading_info=True,
    )
    if report["missing_keys"]:
        raise LoadError(f"{folder} lacks {sorted(report['missing_keys'])[:3]}, which layers {layers} need; fetch the model again")
    owners = holder[0]
    keys = tuple(sorted(key for key in checkpoint_keys(folder) if not owners.is_foreign(key)))
    if manifest is not None:
        check_tensors(folder, manifest, keys)
    decoder, blocks, _ = _find_blocks(model)
    model.eval().requires_grad_(False)
    if layers.first:  # where the head was tied to it, it was loaded for that alone
        hidden = text.hidden_size
        _replace(decoder, model.get_input_embeddings(), ForeignEmbedding(hidden, model.dtype))
    if int8:
        round_linears(blocks[index] for index in range(layers.first, layers.end))
    return LoadedStage(model, decoder, blocks, layers, layers.first == 0, layers.end == count, keys)


def _replace(parent: nn.Module, child: nn.Module, stand_in: nn.Module) -> None:
    for name, module in list(parent.named_children()):
        if module is child:
            setattr(parent, name, stand_in)


def checkpoint_keys(folder: Path) -> list[str]:
    """The names of all tensors in the folder's safetensors files."""
    return [name for name, _ in open_tensors(folder)]


def _stage_class(config: transformers.PretrainedConfig, layers: LayerRange) -> tuple[Any, list[KeyOwners]]:
    """A subclass of the architecture's own class that keeps only ``layers``, and a holder that receives its key owners."""
    base: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    holder: list[KeyOwners] = []

    def maybe_distribute_model(cls: type, model: transformers.PreTrainedModel, *_: object) -> transformers.PreTrainedModel:
        holder.append(_drop_foreign(model, layers))
        return model

    # transformers compares class names with the checkpoint's architecture, and renames keys only for classes of its own modules: both names stay.
    own = {"maybe_distribute_model": classmethod(maybe_distribute_model), "__module__": base.__module__}
    return type(base.__name__, (base,), own), holder


def _drop_foreign(model: transformers.PreTrainedModel, layers: LayerRange) -> KeyOwners:
    decoder, blocks, path = _find_blocks(model)
    text = model.config.get_text_config(decoder=True)
    for index in range(len(blocks)):
        if index not in layers:
            blocks[index] = ForeignLayer()
    is_first, is_last = layers.first == 0, layers.end == len(blocks)
    tied = bool(getattr(text, "tie_word_embeddings", False))
    foreign: set[str] = set()

    def drop(parent: nn.Module, child: nn.Module, stand_in: nn.Module) -> None:
        _replace(parent, child, stand_in)
        foreign.update(name for name, module in names.items() if module is child)

    names = dict(model.named_modules())
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not is_first and not (tied and is_last):
        drop(decoder, embedding, ForeignEmbedding(text.hidden_size, model.dtype))
    if not is_last:
        if tied:
            model.all_tied_weights_keys = {}
        drop(model, head, PipelineIdentityLayer())
        for name in ("norm", "final_layernorm", "ln_f", "final_layer_norm"):
            if hasattr(decoder, name):
                drop(decoder, getattr(decoder, name), PipelineIdentityLayer())
    base = getattr(model, model.base_model_prefix)
    if not hasattr(base, "layers"):
        object.__setattr__(base, "layers", blocks)  # transformers' loader asks for its length; as a plain attribute it is no second module
    owners = KeyOwners(layers, path, frozenset(foreign))
    model._pp_stage = owners  # type: ignore[assignment]
    return owners


def _find_blocks(model: transformers.PreTrainedModel) -> tuple[nn.Module, nn.ModuleList, str]:
    """The module that runs the decoder's layers, their list and that list's path: the first of the base model as long as the model is deep."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for path, module in getattr(model, model.base_model_prefix).named_modules(prefix=model.base_model_prefix):
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return model.get_submodule(path.rpartition(".")[0]), module, path
    raise CutError(f"{type(model).__name__} keeps its {count} layers in no list, so it cannot be split")
