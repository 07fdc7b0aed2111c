"""Where a stage computes: this machine's CPU, or a GPU by CUDA. Rows come to it and leave it as tensors of the CPU."""

from collections.abc import Sequence

import torch

from inference import LoadError

CPU = torch.device("cpu")
AUTO = "auto"

# Sums of bfloat16 products in bfloat16 save next to nothing, and lie further from exact than what verifiers take for honest.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def parse_device(name: str) -> torch.device:
    """``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``. Raises LoadError for what is not here."""
    if name == AUTO:
        return devices()[-1]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LoadError(f"device {name!r} is not known; choose auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise LoadError(f"device {name!r} is not supported; choose auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LoadError(f"device {name!r} is not here: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; choose auto or cpu")
    return device


def devices() -> list[torch.device]:
    """The kinds that this machine has, the slowest first."""
    return [CPU, *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device; by way of page-locked memory where that is a GPU, so that nobody waits for the copy but what is computed from it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """On the CPU, with one wait for all of them. The copies go behind the pass on its own stream: whoever needs the next row waits for this one."""
    if tensors[0].device.type == "cpu":
        return list(tensors)
    found = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True) for tensor in tensors]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return found
