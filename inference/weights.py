"""Tensors on disk: hashing them into a manifest, and checking them against one."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from inference import LoadError, TensorMismatch
from protocol.manifest import Manifest, TensorEntry


def open_tensors(folder: Path) -> Iterator[tuple[str, Path]]:
    """(tensor name, file) for each tensor of the folder's safetensors files. Raises LoadError where there is no such file."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise LoadError(f"{folder} holds no .safetensors file; convert the model first (`funcnet model prepare`)")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield name, file


def tensor_entry(file: Path, name: str) -> TensorEntry:
    """Hash one tensor's bytes as they lie in memory, row-major and little-endian."""
    with safe_open(file, framework="pt") as tensors:
        tensor = tensors.get_tensor(name)
    raw = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return TensorEntry(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), hashlib.sha256(raw).digest())


def check_tensors(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Raise TensorMismatch unless each named tensor's bytes are those of the manifest."""
    files = dict(open_tensors(folder))
    for name in names:
        expected = manifest.entries.get(name)
        if expected is None:
            raise TensorMismatch(f"tensor {name} of {folder} is not in the registered manifest; fetch the registered model")
        if tensor_entry(files[name], name) != expected:
            raise TensorMismatch(f"tensor {name} of {folder} differs from the registered manifest; fetch the registered model")
