"""Which layers are needed most: by what gets through the whole chain of stages, not by who is fewest."""

from math import inf

import pytest

from protocol.manifest import Manifest, TensorEntry
from protocol.units import LayerRange
from provider.placement import Choice, Serving, better, choices, missing, throughput, weight_bytes

WHOLE = LayerRange(0, 30)
FIRST, MIDDLE, LAST = (LayerRange(at, at + 10) for at in (0, 10, 20))
RANGES = [FIRST, MIDDLE, LAST, WHOLE]
PART, ALL = 100, 300
"""Bytes of a third and of the whole model."""


def network(*ranges: LayerRange) -> list[Serving]:
    return [Serving(layers, 100) for layers in ranges]


def best(served: list[Serving], free: int = ALL, speed: int = 100) -> Choice:
    return choices(RANGES, served, WHOLE, [PART, PART, PART, ALL], speed, free)[0]


@pytest.mark.parametrize(
    ("served", "free", "layers", "gain"),
    [
        # Nobody is there: all of it, or else a beginning.
        ([], ALL, WHOLE, inf),
        ([], PART, FIRST, 0.0),
        # A hole in the middle, or at an end.
        ([FIRST, LAST], PART, MIDDLE, inf),
        ([MIDDLE], PART, FIRST, 0.0),
        ([FIRST, MIDDLE], PART, LAST, inf),
        # A complete chain: a third more by another whole model, nothing by a part, of which the one with fewest beside it is taken.
        ([FIRST, MIDDLE, LAST], ALL, WHOLE, 1 / 3),
        ([FIRST, FIRST, MIDDLE, LAST, LAST, LAST], PART, MIDDLE, 1.0),
        ([FIRST, MIDDLE, MIDDLE, LAST], PART, FIRST, 0.0),
        # The narrow place is worth more than a chain of one's own.
        ([FIRST, FIRST, MIDDLE, LAST, LAST], ALL, MIDDLE, 1.0),
        # Who serves all of it widens no place for the parts.
        ([WHOLE], ALL, WHOLE, 1.0),
    ],
)
def test_choices__network__best_is_what_lets_most_more_through(served: list[LayerRange], free: int, layers: LayerRange, gain: float) -> None:
    found = best(network(*served), free)
    assert found.layers == layers
    assert found.gain == pytest.approx(gain, abs=0.01)
    assert found.fits


def test_choices__nothing_fits__says_so_of_each() -> None:
    assert not any(choice.fits for choice in choices(RANGES, [], WHOLE, [PART, PART, PART, ALL], 100, PART - 1))


def test_choices__a_faster_machine__counts_for_more() -> None:
    served = network(FIRST, MIDDLE, LAST)
    assert best(served, speed=1000).gain > best(served, speed=100).gain


def test_throughput__chain__is_that_of_its_narrowest_place_and_chains_add_up() -> None:
    one = throughput(network(FIRST, MIDDLE, LAST), WHOLE)
    assert one == Serving(FIRST, 100).rate
    assert throughput(network(FIRST, MIDDLE), WHOLE) == 0
    assert throughput(network(FIRST, MIDDLE, LAST, WHOLE), WHOLE) == one + Serving(WHOLE, 100).rate
    assert throughput(network(LayerRange(0, 15), LAST), WHOLE) == 0  # they do not meet


def test_missing__counts_the_layers_that_nobody_serves() -> None:
    assert missing([], WHOLE) == 30
    assert missing(network(MIDDLE), WHOLE) == 20
    assert missing(network(FIRST, LAST), WHOLE) == 10
    assert missing(network(LayerRange(0, 15), LayerRange(10, 30)), WHOLE) == 10  # 15-20 by nobody who begins there, or 0-10
    assert missing(network(WHOLE, MIDDLE), WHOLE) == 0


def test_weight_bytes__ends_carry_what_belongs_to_no_layer() -> None:
    names = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.up_proj.weight" for i in range(30)), "lm_head.weight"]
    manifest = Manifest.of([TensorEntry(name, "bfloat16", (4, 5), bytes(32)) for name in names], 30)
    assert weight_bytes(manifest, MIDDLE, 2) == 10 * 40
    assert weight_bytes(manifest, FIRST, 2) == weight_bytes(manifest, LAST, 2) == 12 * 40
    assert weight_bytes(manifest, WHOLE, 4) == 32 * 80


def other(served: list[LayerRange], now: LayerRange, free: int = PART, least: float = 0.1) -> LayerRange | None:
    found = choices(RANGES, network(*served), WHOLE, [PART, PART, PART, ALL], 100, free)
    choice = better(found, now, least)
    return None if choice is None else choice.layers


@pytest.mark.parametrize(
    ("others", "now", "to"),
    [
        # Who closed the hole has gone, and this one is not the narrowest any more.
        ([FIRST, FIRST, LAST], FIRST, MIDDLE),
        ([FIRST, FIRST, MIDDLE, LAST, LAST], FIRST, MIDDLE),
        # It is where it is needed, or nowhere more than there.
        ([FIRST, LAST], MIDDLE, None),
        ([FIRST, MIDDLE, LAST], MIDDLE, None),
        ([FIRST, MIDDLE, MIDDLE, LAST], MIDDLE, None),
        # Nothing gets through either way, but less is missing.
        ([FIRST], FIRST, MIDDLE),
        ([FIRST], MIDDLE, None),
    ],
)
def test_better__others_come_and_go__leads_where_more_gets_through(others: list[LayerRange], now: LayerRange, to: LayerRange | None) -> None:
    assert other(others, now) == to


def test_better__less_than_is_asked__is_not_worth_a_move() -> None:
    assert other([FIRST, MIDDLE, LAST], FIRST, ALL, least=0.5) is None
    assert other([FIRST, MIDDLE, LAST], FIRST, ALL, least=0.2) == WHOLE


def test_better__what_does_not_fit__is_no_choice() -> None:
    assert other([FIRST, LAST], FIRST, PART - 1) is None
