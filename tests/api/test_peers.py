"""Several gateways on one database: whose a job is, who leads, and what all of them count together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api import TooManyRequests
from api.budget import Budget
from api.limits import RateLimits
from api.peers import DEAD_SECONDS, Peers
from protocol.database import AsyncPool
from tests.api.test_money import add_leg, figures, make_key, pool  # noqa: F401


async def make_old(pool: AsyncPool, peers: Peers, seconds: float) -> None:  # noqa: F811
    """As if the gateway had last been seen so long ago."""
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.gateway SET seen_at = now() - make_interval(secs => %s) WHERE id = %s", (seconds, peers.id))


@pytest.fixture
async def two(pool: AsyncPool) -> AsyncIterator[tuple[Peers, Peers]]:  # noqa: F811
    """Both alive, and long enough to judge others."""
    older, younger = Peers(pool), Peers(pool)
    for peers in (older, younger):
        await peers.beat()
        assert not peers.may_judge
        assert peers._beating_since is not None
        peers._beating_since -= DEAD_SECONDS
    yield older, younger


async def test_peers__the_oldest_that_lives__leads(pool: AsyncPool, two: tuple[Peers, Peers]) -> None:  # noqa: F811
    older, younger = two
    await older.beat()
    assert (older.leads, younger.leads) == (True, False)
    await make_old(pool, older, DEAD_SECONDS + 1)
    await younger.beat()
    assert younger.leads
    await older.beat()
    await younger.beat()
    assert (older.leads, younger.leads) == (True, False)
    await older.leave()
    await younger.beat()
    assert younger.leads


async def test_jobs__of_a_gateway_that_lives__are_its_own__of_a_dead_one_become_anothers(pool: AsyncPool, two: tuple[Peers, Peers]) -> None:  # noqa: F811
    older, younger = two
    key = await make_key(pool, None)
    one, other = Budget(pool, older.id), Budget(pool, younger.id)
    await one.reserve(key, "done", "m", 1, 10)
    await one.settle("done", "done", 1)
    await one.reserve(key, "open", "m", 1, 60)
    leg = await add_leg(one, "open")
    assert await younger.take_over() == 0
    assert await other.unsettled() == {}
    await make_old(pool, older, DEAD_SECONDS + 1)
    assert await younger.take_over() == 1
    assert list(await other.unsettled()) == ["open"]
    assert await one.unsettled() == {}
    await other.issue(leg, 3, 11)
    await other.settle("open", "failed", 3)
    assert (await figures(pool, key))[:3] == (11, 0, 11)


async def test_jobs__two_take_over_at_once__each_is_one_gateways(pool: AsyncPool, two: tuple[Peers, Peers]) -> None:  # noqa: F811
    gone, key = Budget(pool, "gone"), await make_key(pool, None)
    for i in range(20):
        await gone.reserve(key, f"job{i}", "m", 1, 10)
    taken = await asyncio.gather(*(peers.take_over() for peers in two * 3))
    assert sum(taken) == 20
    owned = [set(await Budget(pool, peers.id).unsettled()) for peers in two]
    assert len(owned[0] | owned[1]) == 20
    assert not owned[0] & owned[1]


async def test_peers__that_has_just_come_back__judges_nobody(pool: AsyncPool) -> None:  # noqa: F811
    key, fresh = await make_key(pool, None), Peers(pool)
    await Budget(pool, "gone").reserve(key, "job", "m", 1, 10)
    assert await fresh.take_over() == 0
    await fresh.beat()
    assert await fresh.take_over() == 0


async def at_second(pool: AsyncPool, key: str, before: int, now: int) -> None:  # noqa: F811
    """So many requests in the last minute and in this one."""
    async with pool.connection() as connection:
        for minute, count in ((1, before), (0, now)):
            await connection.execute(
                "INSERT INTO api.request VALUES (%s, floor(extract(epoch FROM now()) / 60)::bigint - %s, %s)", (key, minute, count)
            )


async def test_rate__at_two_gateways__is_counted_together(pool: AsyncPool) -> None:  # noqa: F811
    here, there = RateLimits(pool, 2), RateLimits(pool, 2)
    assert (await here.take("k"))["x-ratelimit-remaining-requests"] == "1"
    assert (await there.take("k"))["x-ratelimit-remaining-requests"] == "0"
    for limits in (here, there):
        with pytest.raises(TooManyRequests, match="2 times a minute") as caught:
            await limits.take("k")
        assert caught.value.status == 429
        assert 0 < int(caught.value.extra_headers["retry-after"]) <= 121
    assert await there.take("other")
    assert await there.take("k", per_minute=50)


async def test_rate__thirty_at_once__never_pass_it(pool: AsyncPool) -> None:  # noqa: F811
    found = await asyncio.gather(*(RateLimits(pool, 10).take("k") for _ in range(30)), return_exceptions=True)
    # Two windows where the minute ends in between.
    assert 10 <= sum(isinstance(one, dict) for one in found) <= 11


async def test_rate__requests_of_the_last_minute__weigh_less_and_less(pool: AsyncPool) -> None:  # noqa: F811
    await at_second(pool, "k", before=1_000_000, now=0)
    with pytest.raises(TooManyRequests) as caught:
        await RateLimits(pool, 2).take("k")
    assert 0 < int(caught.value.extra_headers["retry-after"]) <= 61
    await at_second(pool, "old", before=60, now=0)
    told: dict[str, Any] = await RateLimits(pool, 61).take("old")
    assert 0 <= int(told["x-ratelimit-remaining-requests"]) <= 60
    await RateLimits(pool, 1).sweep()
    assert int((await RateLimits(pool, 100).take("old"))["x-ratelimit-remaining-requests"]) < 99
