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
    """Whose weight is in blocks, or, where it is not just now, a linear layer as any other."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if not self.weight.is_mkldnn:
            return super().forward(rows)
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


def block(linear: nn.Linear) -> None:
    linear.weight = nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(linear.weight.data, None), requires_grad=False)


def unblock(linear: nn.Linear) -> None:
    linear.weight = nn.Parameter(linear.weight.data.to_dense(), requires_grad=False)  # type: ignore[operator]


def block_linears(model: nn.Module) -> None:
    """Put the weights of all plain linear layers in blocks, where torch can compute with such: on a CPU, in float32 or, if that has it, bfloat16."""
    dtypes = [torch.float32] if torch.backends.mkldnn.is_available() else []
    dtypes += [torch.bfloat16] if dtypes and torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    for module in model.modules():
        if not isinstance(module, nn.Linear) or type(module) not in (nn.Linear, BlockedLinear):
            continue
        if module.weight.is_cpu and not module.weight.is_mkldnn and module.weight.dtype in dtypes:
            module.__class__ = BlockedLinear
            block(module)


def blocked(model: nn.Module) -> list[BlockedLinear]:
    return [module for module in model.modules() if isinstance(module, BlockedLinear) and module.weight.is_mkldnn]


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
