"""Weights in oneDNN's blocks: the same products, and what is changed in between takes effect."""

import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from inference.executor import StageExecutor
from inference.linears import block_linears, blocked, unblocked
from inference.loader import ForeignEmbedding, load_stage
from protocol.units import LayerRange


def rows_and_layer(dtype: torch.dtype, count: int) -> tuple[torch.Tensor, nn.Linear]:
    source = torch.Generator().manual_seed(count)
    layer = nn.Linear(96, 40).to(dtype).requires_grad_(False)
    layer.weight.copy_(torch.randn(40, 96, generator=source))
    return torch.randn(1, count, 96, generator=source).to(dtype), layer


@pytest.mark.parametrize("count", [1, 3, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks__any_number_of_rows__give_torchs_product(dtype: torch.dtype, count: int) -> None:
    rows, layer = rows_and_layer(dtype, count)
    expected = layer(rows)
    block_linears(layer)
    if not blocked(layer):
        pytest.skip("torch has no oneDNN for this precision here")
    torch.testing.assert_close(layer(rows), expected, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-4)
    with unblocked(layer):
        assert torch.equal(layer(rows), expected)
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(rows) - layer.bias, 2 * (expected - layer.bias), rtol=1e-2, atol=1e-1)
    assert blocked(layer) == [layer]


def test_blocks__of_float64__are_none() -> None:
    rows, layer = rows_and_layer(torch.float64, 2)
    expected = layer(rows)
    block_linears(layer)
    assert blocked(layer) == []
    assert torch.equal(layer(rows), expected)


def test_last_stage__with_a_tied_head__keeps_no_embedding(model_dir: Path) -> None:
    stage = load_stage(model_dir, LayerRange(20, 30), torch.float32)
    assert isinstance(stage.model.get_input_embeddings(), ForeignEmbedding)
    executor = StageExecutor(stage)
    held = sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in stage.model.parameters()}.values())
    head = executor.vocab_size * executor.hidden_size
    assert head < held < 1.5 * head + 10 * 4_000_000


def test_weight__read_by_the_model_itself__is_as_torch_has_it_from_then_on() -> None:
    rows, layer = rows_and_layer(torch.float32, 3)
    weight, expected = layer.weight.clone(), layer(rows)
    block_linears(layer)
    assert torch.equal(layer.weight, weight)
    assert blocked(layer) == []
    assert torch.equal(layer(rows), expected)


def test_unload__again_and_again__gives_the_memory_back(model_dir: Path) -> None:
    layers, held = LayerRange(10, 20), 10 * 3_500_000 * 4
    executor = StageExecutor(load_stage(model_dir, layers, torch.float32))
    for _ in range(3):
        executor.step([(executor.open_session(), torch.randn(4, executor.hidden_size))])
        awake = resident()
        executor.unload()
        assert resident() < awake - held / 2
        executor.reload(load_stage(model_dir, layers, torch.float32))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
