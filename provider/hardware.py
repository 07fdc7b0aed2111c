"""What this machine computes on, and how fast, told truthfully."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Device:
    """``vram``: bytes of device memory; ``bandwidth``: measured bytes per second; ``score``: see ``measure``."""

    model: str
    vram: int
    bandwidth: int
    score: int


def measure(device: torch.device) -> Device:
    """Name the device and measure it: bandwidth by a large copy, score as matrix-vector products of 4 MiB weights per second."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name, memory = f"CPU: {_cpu_name()}", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    source = torch.ones(64 << 20, dtype=torch.uint8, device=device)
    copies = _rate(lambda: source.clone(), device)
    weight, vector = torch.ones(1024, 1024, device=device), torch.ones(1024, device=device)
    return Device(name, memory, int(copies * 2 * source.numel()), int(_rate(lambda: weight @ vector, device)))


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return available[0] if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _rate(work: Callable[[], object], device: torch.device, seconds: float = 0.2) -> float:
    """How often a second it is done; a GPU says when it has, not when it was told."""

    def timed() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    timed()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        timed()
        count += 1
    return count / elapsed


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
