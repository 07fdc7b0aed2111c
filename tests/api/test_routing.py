"""Routes: the cheapest chain that covers all layers."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import NoRoute
from api.pipeline import fair_standbys
from api.routing import Router, StageOffer, best_route
from protocol.receipts import execution_class_id
from protocol.units import LayerRange
from protocol.wire import RouteStop


def offer(provider: str, first: int, end: int, price: int = 1_000_000) -> StageOffer:
    stop = RouteStop(provider, provider, "grpcs://h:1", "0x00", first, end)
    return StageOffer(stop, execution_class_id("float32/sdpa"), price, price, price)


def names(route: list[StageOffer] | None) -> list[str] | None:
    return None if route is None else [stage.stop.provider for stage in route]


def test_route__cheaper_spare__is_taken() -> None:
    offers = [offer("a", 0, 10), offer("b", 10, 20, 9_000_000), offer("c", 20, 30), offer("d", 10, 20, 2_000_000)]
    assert names(best_route(offers, LayerRange(0, 30), 10, 10)) == ["a", "d", "c"]


def test_route__same_price__is_not_split() -> None:
    offers = [offer("a", 0, 15, 1_000_000), offer("b", 15, 30, 1_000_000), offer("whole", 0, 30, 2_000_000)]
    assert names(best_route(offers, LayerRange(0, 30), 10, 10)) == ["whole"]


def test_route__equal_offers__the_least_busy_is_taken_and_a_busy_one_that_is_cheaper_all_the_same() -> None:
    offers = [offer("a", 0, 10), offer("b", 10, 20), offer("c", 10, 20), offer("d", 10, 20, 2_000_000), offer("e", 20, 30)]
    for load, chosen in (({}, "b"), ({"a": 9, "b": 1}, "c"), ({"b": 2, "c": 3}, "b"), ({"b": 60, "c": 60}, "b")):
        assert names(best_route(offers, LayerRange(0, 30), 10, 10, load)) == ["a", chosen, "e"]


def test_standby__of_a_stage_that_is_gone__comes_first_where_it_costs_no_more() -> None:
    offers = [offer("cheap", 10, 20, 900_000), offer("dear", 10, 20, 1_100_000)]
    gone: Any = [SimpleNamespace(standby=name, offer=offer("dead", 10, 20)) for name in ("dear", "", "cheap", "unknown")]
    assert fair_standbys(gone, offers) == ("cheap",)


def test_router__equal_offers__each_gets_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    equal = [offer(f"p{i}", 0, 30) for i in range(4)]
    jobs: Counter[str] = Counter()
    router = Router(None, load=lambda: jobs, backed={f"p{i}" for i in range(4)})  # type: ignore[arg-type]
    monkeypatch.setattr(router, "offers", lambda _: equal)
    for _ in range(40):
        jobs[router.choose(b"m", LayerRange(0, 30), 1, 1)[0].stop.provider] += 1
    assert set(jobs.values()) == {10}


def test_route__part_of_the_layers__is_covered_exactly() -> None:
    offers = [offer("a", 0, 10), offer("b", 5, 20), offer("c", 10, 20, 9), offer("d", 10, 15), offer("e", 15, 20)]
    assert names(best_route(offers, LayerRange(10, 20), 10, 10)) == ["c"]
    assert names(best_route(offers, LayerRange(5, 15), 10, 10)) is None


def test_route__gap__is_none() -> None:
    assert best_route([offer("a", 0, 10), offer("b", 11, 30)], LayerRange(0, 30), 1, 1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 9)), max_size=8))
def test_route__any_offers__is_contiguous_and_no_dearer_than_any_other(raw: list[tuple[int, int, int]]) -> None:
    offers = [offer(f"p{i}", first, end, price * 1_000_000) for i, (first, end, price) in enumerate(raw) if first < end]
    route = best_route(offers, LayerRange(0, 6), 1, 0)

    def costs(edge: int) -> list[int]:
        if edge == 6:
            return [0]
        return [o.cost(1, 0) + rest for o in offers if o.layers.first == edge for rest in costs(o.layers.end)]

    every = costs(0)
    assert (route is None) == (not every)
    if route is not None:
        edges = [0, *(stage.layers.end for stage in route)]
        assert [stage.layers.first for stage in route] == edges[:-1]
        assert edges[-1] == 6
        assert sum(stage.cost(1, 0) for stage in route) == min(every)


def test_router__no_route__says_what_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router(None)  # type: ignore[arg-type]
    monkeypatch.setattr(router, "offers", lambda _: [offer("a", 0, 10), offer("b", 20, 30)])
    router.backed = {"a", "b"}
    with pytest.raises(NoRoute, match="covers layers 0-30: offered are layers 0-10, 20-30"):
        router.choose(b"m", LayerRange(0, 30), 1, 1)
    router.backed = set()
    with pytest.raises(NoRoute, match="wait for this gateway's bond"):
        router.choose(b"m", LayerRange(0, 30), 1, 1)
