"""Keys and budgets on a real database: nothing is billed twice, no two requests pass one budget."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from api import NoCredit, WrongKey
from api.budget import Budget, LegKey
from api.keys import ApiKey, KeyStore, Policy, new_key, well_formed
from funcnet.network import Network
from protocol.database import AsyncPool, async_pool, migrate
from protocol.receipts import SessionOffer
from protocol.typed import Signed
from protocol.vectors import counted
from protocol.wire import CloseReply, RouteStop

PAYER = "0x" + "ab" * 20
PEPPER = b"p" * 32


@pytest.fixture
async def pool(small: Network) -> AsyncIterator[AsyncPool]:
    """A database of its own, empty."""
    with psycopg.connect(small.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS money WITH (FORCE)")
        connection.execute("CREATE DATABASE money")
    url = small.database_for("money")
    await asyncio.to_thread(migrate, url, "api")
    await asyncio.to_thread(migrate, url, "api")  # a second run changes nothing
    pool = async_pool(url)
    await pool.open()
    yield pool
    await pool.close()


async def make_key(pool: AsyncPool, budget: int | None, credit: int = 1_000) -> ApiKey:
    made = await KeyStore(pool, PEPPER).create("test", PAYER, Policy(budget=budget))
    await Budget(pool).set_credit(PAYER, credit)
    return ApiKey(made["id"], PAYER, None)


async def figures(pool: AsyncPool, key: ApiKey) -> tuple[int, int, int, int]:
    async with pool.connection() as connection:
        k = await (await connection.execute("SELECT spent, reserved FROM api.key WHERE id = %s", (key.id,))).fetchone()
        p = await (await connection.execute("SELECT issued, reserved FROM api.payer WHERE address = %s", (PAYER,))).fetchone()
    assert k is not None
    assert p is not None
    return int(k["spent"]), int(k["reserved"]), int(p["issued"]), int(p["reserved"])


async def test_key__made__authenticates_and_is_stored_only_as_a_hash(pool: AsyncPool) -> None:
    store = KeyStore(pool, PEPPER)
    made = await store.create("test", PAYER, Policy(models=["m"]))
    key = await store.authenticate(f"Bearer {made['key']}")
    assert (key.payer, key.models) == (PAYER, ["m"])
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT * FROM api.key")).fetchone()
    assert made["key"] not in str(row)


async def test_key__wrong_revoked_or_of_another_pepper__is_refused(pool: AsyncPool) -> None:
    store = KeyStore(pool, PEPPER)
    made = await store.create("test", PAYER)
    for header in (None, "", "Bearer ", "Bearer sk-123", f"Bearer {made['key'][:-1]}x", f"Bearer {new_key()[1]}"):
        with pytest.raises(WrongKey):
            await store.authenticate(header)
    with pytest.raises(WrongKey):
        await KeyStore(pool, b"q" * 32).authenticate(f"Bearer {made['key']}")
    assert await store.revoke(made["id"])
    with pytest.raises(WrongKey, match="was revoked"):
        await store.authenticate(f"Bearer {made['key']}")


def test_key__new__is_well_formed_and_a_typo_shows() -> None:
    key = new_key()[1]
    assert well_formed(key)
    assert not well_formed(key.replace(key[12], "A" if key[12] != "A" else "B", 1))


OFFER: SessionOffer = replace(
    counted(SessionOffer, 1),
    first_position=0,
    generated=0,
    prompt_tokens=5,
    max_tokens=10,
    cached_tokens=0,
    input_price=10**6,
    output_price=2 * 10**6,
)
"""Prompt 5 wei, completion 2 wei a token: 25 at most."""


async def add_leg(budget: Budget, job: str, provider: str = "0xp") -> LegKey:
    key, stop = LegKey(job, provider, 0), RouteStop(provider, provider, "grpcs://h:1", "0x00", 0, 10)
    await budget.add_leg(key, OFFER, Signed.of(OFFER, b"s" * 65), stop)
    return key


REPLY = CloseReply(Signed({}, "0x"), Signed({}, "0x"), None)


async def test_budget__settled__charges_the_actual_cost_and_releases_the_rest(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 60)
    leg = await add_leg(budget, "job")
    assert await figures(pool, key) == (0, 60, 0, 60)
    assert await budget.issue(leg, 3, 11) == 11
    await budget.close_leg(leg, REPLY)
    assert await budget.settle("job", "done", 3) == 11
    assert await budget.settle("job", "done", 3) == 11
    assert await figures(pool, key) == (11, 0, 11, 0)


async def test_budget__leg_without_an_end__stays_held_until_it_has_one(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 60)
    done, broken = await add_leg(budget, "job", "0xp"), await add_leg(budget, "job", "0xq")
    await budget.issue(done, 3, 11)
    await budget.close_leg(done, REPLY)
    await budget.settle("job", "done", 3)
    assert await figures(pool, key) == (11, 25, 11, 25)
    assert {name: [leg.key for leg in legs] for name, legs in (await Budget(pool).unsettled()).items()} == {"job": [broken]}
    await budget.refuse(broken)
    await budget.settle("job")
    assert await figures(pool, key) == (11, 0, 11, 0)
    assert await budget.unsettled() == {}


async def test_budget__replacement__reserves_more_or_is_refused(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 60)
    await budget.reserve_more("job", 40)
    with pytest.raises(NoCredit):
        await budget.reserve_more("job", 1)
    assert await figures(pool, key) == (0, 100, 0, 100)
    await budget.settle("job", "failed", 0)
    assert await figures(pool, key) == (0, 0, 0, 0)


async def test_budget__twenty_at_once__never_pass_it(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    tries = await asyncio.gather(*(budget.reserve(key, f"job{i}", "m", 1, 30) for i in range(20)), return_exceptions=True)
    assert sum(result is None for result in tries) == 3
    assert all(isinstance(result, NoCredit) for result in tries if result is not None)
    assert (await figures(pool, key))[1] == 90


async def test_budget__payer_without_credit__is_refused_with_the_numbers_and_reserves_nothing(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, None, credit=10)
    with pytest.raises(NoCredit, match="deposit FUNC"):
        await budget.reserve(key, "job", "m", 1, 11)
    assert await figures(pool, key) == (0, 0, 0, 0)


async def test_voucher__asked_for_again__is_not_raised_again(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, None)
    await budget.reserve(key, "job", "m", 5, 60)
    leg = await add_leg(budget, "job")
    assert await budget.issue(leg, 3, 11) == 11
    assert await Budget(pool).issue(leg, 3, 11) == 11
    assert (await figures(pool, key))[2] == 11


async def test_voucher__refused_by_the_stage__is_taken_back_once(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, None)
    await budget.reserve(key, "job", "m", 5, 60)
    leg, other = await add_leg(budget, "job"), LegKey("job2", "0xp", 0)
    await budget.issue(leg, 3, 11)
    await budget.refuse(leg)
    await budget.refuse(leg)
    assert (await figures(pool, key))[2] == 0
    await budget.reserve(key, "job2", "m", 5, 60)
    await add_leg(budget, "job2")
    assert await budget.issue(other, 3, 11) == 11


async def test_voucher__concurrent_issues__sum(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, None)
    legs = []
    for i in range(10):
        await budget.reserve(key, f"job{i}", "m", 5, 60)
        legs.append(await add_leg(budget, f"job{i}"))
    issued = await asyncio.gather(*(budget.issue(leg, 1, 10) for leg in legs))
    assert sorted(issued) == [10 * (i + 1) for i in range(10)]


async def test_checks__ordered__are_charged_and_what_is_set_aside_for_them_is_released(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 90, checks=30)
    leg = await add_leg(budget, "job")
    await budget.issue(leg, 3, 11)
    await budget.close_leg(leg, REPLY)
    assert await budget.order_checks("job", "0xv", bytes(32), 7) == 7
    # Not before the job has ended: another verifier may be asked.
    assert await budget.settle("job") == 18
    assert await figures(pool, key) == (18, 30, 18, 30)
    await budget.note_findings("job", "0xv", [{"verdict": "PASS"}])
    assert await budget.settle("job", "done", 3) == 18
    assert await figures(pool, key) == (18, 0, 18, 0)
    job = await budget.job("job")
    assert job is not None
    assert job["checks"] == [{"verdict": "PASS"}]


async def test_checks__that_a_verifier_does_not_take__are_taken_back_once(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 90, checks=30)
    assert await budget.order_checks("job", "0xv", bytes(32), 7) == 7
    await budget.refuse_checks("job", "0xv")
    await budget.refuse_checks("job", "0xv")
    assert await budget.order_checks("job", "0xw", bytes(32), 7) == 7
    assert await budget.settle("job", "failed", 0) == 7
    assert await figures(pool, key) == (7, 0, 7, 0)
    await budget.reserve(key, "next", "m", 5, 90, checks=30)
    assert await budget.order_checks("next", "0xv", bytes(32), 5) == 5
