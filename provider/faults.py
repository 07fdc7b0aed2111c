"""Faults to inject on purpose, so that the network can be shown to catch them. Never set in production."""

import torch
from torch import nn

from inference.loader import LoadedStage
from provider import ProviderError


def inject(name: str, stage: LoadedStage) -> None:
    """Make the stage cheat. Raises ProviderError for an unknown fault."""
    if name == "int8-weights":
        _round_weights(stage)
    elif name:
        raise ProviderError(f"fault {name!r} is not known; the only one is int8-weights")


def _round_weights(stage: LoadedStage) -> None:
    """Round each linear weight to 8 bits per output channel, as a provider does to save memory while it claims full precision."""
    for index in range(stage.layers.first, stage.layers.end):
        for module in stage.blocks[index].modules():
            if isinstance(module, nn.Linear):
                scale = module.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
                with torch.no_grad():
                    module.weight.copy_(torch.round(module.weight / scale) * scale)
