"""Linear layers whose weights lie as oneDNN's kernels read them. On CPUs alone.

torch hands a float32 product on a CPU to MKL, which keeps to AVX2 where that is not Intel's, and has oneDNN put a bfloat16 weight in order for each
product anew. In order once and for all both are about twice as fast; bfloat16 to the bit the same, float32 rounded otherwise.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# A kernel is made for each number of rows and takes half a megabyte. oneDNN keeps the last 1,024, and torch as many again, unless they are told
# otherwise before the first product. Making one takes no time worth so much memory.
for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(variable, "64")


class BlockedLinear(nn.Linear):
    """A linear layer whose weight is in blocks. A model that reads the weight itself, as those with states do, has a usual layer from then on."""

    blocks: nn.Parameter

    @property
    def weight(self) -> nn.Parameter:  # type: ignore[override]
        unblock(self)
        return self.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self.blocks, self.bias, "none", [], "")  # type: ignore[no-any-return]


def block(linear: nn.Linear) -> None:
    blocks = torch.ops.mkldnn._reorder_linear_weight(linear.weight.data, None)
    del linear.weight
    linear.__class__ = BlockedLinear
    linear.blocks = nn.Parameter(blocks, requires_grad=False)


def unblock(linear: BlockedLinear) -> None:
    _become_usual(linear, linear.blocks.data.to_dense())  # type: ignore[operator]


def forget(linear: BlockedLinear) -> None:
    """Unblock it without a weight: one on no device."""
    _become_usual(linear, torch.empty(linear.out_features, linear.in_features, dtype=linear.blocks.dtype, device="meta"))


def _become_usual(linear: BlockedLinear, weight: torch.Tensor) -> None:
    del linear.blocks
    linear.__class__ = nn.Linear  # type: ignore[assignment]
    linear.weight = nn.Parameter(weight, requires_grad=False)  # type: ignore[misc]


def block_linears(model: nn.Module) -> None:
    """Put the weights of all plain linear layers in blocks, where torch can compute with such: on a CPU, in float32 or, if that has it, bfloat16."""
    dtypes = [torch.float32] if torch.backends.mkldnn.is_available() else []
    dtypes += [torch.bfloat16] if dtypes and torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    for module in list(model.modules()):
        if type(module) is nn.Linear and module.weight.is_cpu and module.weight.dtype in dtypes:
            block(module)


def blocked(model: nn.Module) -> list[BlockedLinear]:
    return [module for module in model.modules() if isinstance(module, BlockedLinear)]


@contextmanager
def unblocked(model: nn.Module) -> Iterator[None]:
    """With weights as torch has them, which can be changed, and its own products, which have gradients and, in float32, round otherwise."""
    linears = blocked(model)
    for linear in linears:
        unblock(linear)
    try:
        yield
    finally:
        for linear in linears:
            block(linear)
