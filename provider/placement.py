"""Which layers a provider should serve: those that fit its memory and let the network serve the most more."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from inference.calibrate import read_tolerances
from inference.classes import ExecutionClass
from inference.devices import parse_device
from protocol.chain import Chain, struct_list
from protocol.manifest import Manifest
from protocol.receipts import execution_class_id
from protocol.settings import ProviderSettings
from protocol.units import LayerRange
from provider.hardware import free_memory, measure

HEADROOM = 0.9
"""The share of the free memory that weights and KV cache may take together."""
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Serving:
    """One provider's layers. ``speed``: its measured score; a stage gets through ``speed / layers`` of the work of one layer in a second."""

    layers: LayerRange
    speed: int

    @property
    def rate(self) -> int:
        return max(1, 1000 * self.speed // (self.layers.end - self.layers.first))


@dataclass(frozen=True)
class Choice:
    """A range that could be served. ``gain``: by how much of what the network gets through now, 1.0 for doubling it; infinite where that is nothing.

    ``missing``: layers that nobody serves then, on the way through the model that lacks the fewest. ``beside``: providers of the same layers.
    ``weights``: bytes.
    """

    layers: LayerRange
    weights: int
    fits: bool
    gain: float
    missing: int
    beside: int


def choices(ranges: Sequence[LayerRange], network: Sequence[Serving], whole: LayerRange, own: Sequence[int], speed: int, free: int) -> list[Choice]:
    """The ranges, best first: those that fit, then by gain, then by how few layers are missing and how few serve the same, then the longer ones.

    ``own``: bytes of weights of each range; ``free``: bytes that weights may take.
    """
    now = throughput(network, whole)
    found = []
    for layers, weights in zip(ranges, own, strict=True):
        then = [*network, Serving(layers, speed)]
        more = throughput(then, whole) - now
        gain = more / now if now else (float("inf") if more else 0.0)
        beside = sum(serving.layers == layers for serving in network)
        found.append(Choice(layers, weights, weights <= free, gain, missing(then, whole), beside))
    return sorted(found, key=lambda c: (not c.fits, -c.gain, c.missing, c.beside, c.layers.first - c.layers.end, c.layers.first))


def look(settings: ProviderSettings, chain: Chain, owner: str) -> list[Choice]:
    """What this machine could serve of the model, in its execution class, beside what others offer on chain now. Raises Reverted or Unavailable."""
    manifest, execution = Manifest.read(settings.model_dir), ExecutionClass.parse(settings.execution_class)
    device = parse_device(settings.device)
    whole = LayerRange(0, manifest.layer_count)
    wanted = execution_class_id(settings.execution_class)
    network: list[Serving] = []
    for entry in struct_list("ProviderRegistry", "offersFor", chain.call("ProviderRegistry", "offersFor", manifest.model_id)):
        offer = entry["offer"]
        if offer["executionClass"] == wanted and entry["provider"] != owner:
            speed = sum(
                gpu["score"] for gpu in struct_list("ProviderRegistry", "gpusOf", chain.call("ProviderRegistry", "gpusOf", entry["provider"]))
            )
            network.append(Serving(LayerRange(offer["firstLayer"], offer["endLayer"]), speed))
    # Work in layers that are not calibrated cannot be judged, so nobody should be led to it.
    ranges = [entry.layers for entry in read_tolerances(settings.model_dir) if entry.precision == execution.precision] or [whole]
    ranges = [layers for layers in ranges if chain.call("ModelRegistry", "canCut", manifest.model_id, layers.first, layers.end)]
    item_bytes = 1 if execution.int8 else execution.dtype.itemsize
    own = [weight_bytes(manifest, layers, item_bytes) for layers in ranges]
    return choices(ranges, network, whole, own, measure(device).score, int(free_memory(device) * HEADROOM) - settings.kv_bytes)


def better(found: Sequence[Choice], served: LayerRange, least: float) -> Choice | None:
    """What to serve in place of ``served``: the best choice, where it lets at least the share ``least`` more through, or fewer layers are missing
    from a chain that lets nothing through either way. None where staying is as good.

    ``found``: as ``choices`` gives them for a network without this provider.
    """
    best, now = found[0], next((choice for choice in found if choice.layers == served), None)
    if not best.fits or best.layers == served:
        return None
    if now is None or best.gain == now.gain:
        return best if now is None or (now.gain == 0 and best.missing < now.missing) else None
    return best if (1 + best.gain) / (1 + now.gain) >= 1 + least else None


def throughput(network: Sequence[Serving], whole: LayerRange) -> int:
    """How much gets from the first boundary to the last when each stage is as busy as it can be: the greatest flow from one to the other."""
    edges = np.zeros((whole.end + 1, whole.end + 1), dtype=np.int32)
    for serving in network:
        edges[serving.layers.first, serving.layers.end] += serving.rate
    return int(maximum_flow(csr_array(edges), whole.first, whole.end).flow_value)


def missing(network: Sequence[Serving], whole: LayerRange) -> int:
    """Layers that nobody serves on the way through the model that lacks the fewest of them."""
    points = sorted({whole.first, whole.end, *(point for s in network for point in (s.layers.first, s.layers.end))})
    edges = [*((first, end, end - first) for first, end in pairwise(points)), *((s.layers.first, s.layers.end, 0) for s in network)]
    lacking = {whole.first: 0}
    for first, end, cost in sorted(edges):  # every edge leads on, so those before a point are done when it is left
        lacking[end] = min(lacking.get(end, whole.end), lacking[first] + cost)
    return lacking[whole.end]


def weight_bytes(manifest: Manifest, layers: LayerRange, item_bytes: int) -> int:
    """What a range's tensors take at so many bytes a number; those outside the layers (embedding, norm, head) are counted at both ends."""
    at_an_end = layers.first == 0 or layers.end == manifest.layer_count
    total = 0
    for entry in manifest.entries.values():
        found = _LAYER.search(entry.name)
        if at_an_end if found is None else int(found[1]) in layers:
            total += int(np.prod(entry.shape, dtype=np.int64)) * item_bytes
    return total
