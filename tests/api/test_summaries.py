"""Why each provider got a job or not."""

from dataclasses import replace

import pytest
from eth_account import Account

from api.routing import DEFAULT_WISH, StageOffer
from api.summaries import Routing, Summaries, take
from protocol.database import AsyncPool, transaction
from protocol.receipts import execution_class_id
from protocol.routing import REASONS, RoutingSummary
from protocol.typed import receipts_domain
from protocol.wire import RouteStop
from tests.api.test_money import pool  # noqa: F401

MODEL = b"\x05" * 32


def offer(provider: str, first: int, end: int, price: int = 100, kind: str = "float32/sdpa") -> StageOffer:
    return StageOffer(RouteStop(provider, provider, "grpcs://h:1", "0x00", first, end), execution_class_id(kind), price, price, price)


A, B, EQUAL, DEAR, WHOLE = offer("a", 0, 10), offer("b", 10, 20), offer("e", 10, 20), offer("d", 10, 20, 200), offer("w", 0, 20, 500)
ROUTING = Routing([A, B, EQUAL, DEAR, WHOLE], [A, B], DEFAULT_WISH, {"a", "b", "e", "d", "w"}, set(), False, 10**6, 10**6)


def test_outcomes__plain_job__names_price_and_load() -> None:
    assert dict(ROUTING.outcomes()) == {"a": "chosen", "b": "chosen", "e": "load", "d": "price", "w": "price"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backed": {"a", "b", "d", "w"}}, "bond"),
        ({"away": {"e"}}, "reachability"),
        ({"sticky": True}, "prefix"),
        ({"wish": replace(DEFAULT_WISH, ignore=frozenset({"e"}))}, "wish"),
        ({"wish": replace(DEFAULT_WISH, classes=(execution_class_id("bfloat16/sdpa"),))}, "execution_class"),
        ({"route": []}, "no_chain"),
        ({"route": [], "wish": replace(DEFAULT_WISH, most_output=5)}, "wish"),
        ({"wish": replace(DEFAULT_WISH, sort="latency")}, "price"),
    ],
)
def test_outcomes__what_ruled_the_equal_offer_out(change: dict[str, object], reason: str) -> None:
    assert dict(replace(ROUTING, **change).outcomes())["e"] == reason  # type: ignore[arg-type]


def test_outcomes__several_offers_of_a_provider__say_which_came_closest() -> None:
    both = replace(ROUTING, offers=[A, B, offer("e", 10, 20, 300), offer("e", 10, 20, 1, "bfloat16/sdpa")])
    assert dict(both.outcomes())["e"] == "price"


async def taken(pool: AsyncPool, now: int) -> list[RoutingSummary]:  # noqa: F811
    async with pool.connection() as connection:
        return await take(connection, "g", now)


async def test_summaries__of_two_gateways__add_up_and_begin_anew(pool: AsyncPool) -> None:  # noqa: F811
    one, other = Summaries(1000), Summaries(1005)
    for summaries, routing in ((one, ROUTING), (one, replace(ROUTING, away={"d"})), (other, replace(ROUTING, route=[]))):
        summaries.note(MODEL, routing)
    for summaries in (one, other, one):
        await summaries.put(pool, 1010)
    told = {summary.provider: summary for summary in await taken(pool, 1011)}
    assert all(summary.adds_up and summary.jobs == 3 and (summary.since, summary.until) == (1000, 1011) for summary in told.values())
    assert (told["a"].chosen, told["a"].no_chain) == (2, 1)
    assert (told["d"].price, told["d"].reachability, told["d"].no_chain) == (1, 1, 1)
    assert await taken(pool, 1020) == []
    assert one.since == 1010


async def test_summaries__not_handed_in__are_there_the_next_time(pool: AsyncPool) -> None:  # noqa: F811
    summaries = Summaries(1000)
    summaries.note(MODEL, ROUTING)
    await summaries.put(pool, 1010)
    with pytest.raises(OSError, match="away"):
        async with transaction(pool) as connection:
            assert await take(connection, "g", 1011)
            raise OSError("the indexer is away")
    assert await taken(pool, 1012)


def test_summary__signed__recovers_its_gateway_and_survives_json() -> None:
    account = Account.create()
    domain = receipts_domain(1, "0x" + "11" * 20)
    summary = RoutingSummary(account.address, "0x" + "22" * 20, MODEL, 5, 9, 4, 1, *([1, 1, 1] + [0] * (len(REASONS) - 3)))
    assert summary.adds_up
    assert not replace(summary, jobs=5).adds_up
    assert not replace(summary, since=10).adds_up
    assert RoutingSummary.from_json(summary.to_json()) == summary
    assert summary.signer(domain, summary.sign(domain, account.key)) == account.address
