"""Keys and budgets on a real database: nothing is billed twice, no two requests pass one budget."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from api import NoCredit, WrongKey
from api.budget import Budget, Charge
from api.keys import ApiKey, KeyStore, new_key, well_formed
from funcnet.network import Network
from protocol.database import AsyncPool, async_pool, migrate

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
    made = await KeyStore(pool, PEPPER).create("test", PAYER, budget, None)
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
    made = await store.create("test", PAYER, None, ["m"])
    key = await store.authenticate(f"Bearer {made['key']}")
    assert (key.payer, key.models) == (PAYER, ["m"])
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT * FROM api.key")).fetchone()
    assert made["key"] not in str(row)


async def test_key__wrong_revoked_or_of_another_pepper__is_refused(pool: AsyncPool) -> None:
    store = KeyStore(pool, PEPPER)
    made = await store.create("test", PAYER, None, None)
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


async def test_budget__settled__charges_the_actual_cost_and_releases_the_rest(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 5, 60)
    assert await figures(pool, key) == (0, 60, 0, 60)
    assert await budget.issue(PAYER, Charge("0xp", b"m" * 32, 25)) == 25
    await budget.finish("job", 25, 3, [], ok=True)
    await budget.finish("job", 25, 3, [], ok=True)
    assert await figures(pool, key) == (25, 0, 25, 0)


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


async def test_budget__restart__releases_open_reservations_and_keeps_what_was_issued(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, 100)
    await budget.reserve(key, "job", "m", 1, 60)
    await budget.issue(PAYER, Charge("0xp", b"m" * 32, 25))
    assert await Budget(pool).reconcile() == 1
    assert await Budget(pool).reconcile() == 0
    assert await figures(pool, key) == (0, 0, 25, 0)


async def test_voucher__refused_by_the_stage__is_taken_back(pool: AsyncPool) -> None:
    budget, key = Budget(pool), await make_key(pool, None)
    charge = Charge("0xp", b"m" * 32, 10)
    assert await budget.issue(PAYER, charge) == 10
    await budget.retract(PAYER, charge)
    assert (await figures(pool, key))[2] == 0
    assert await budget.issue(PAYER, charge) == 10


async def test_voucher__concurrent_issues__sum(pool: AsyncPool) -> None:
    budget = Budget(pool)
    await make_key(pool, None)
    issued = await asyncio.gather(*(budget.issue(PAYER, Charge("0xp", b"m" * 32, 10)) for _ in range(10)))
    assert sorted(issued) == [10 * (i + 1) for i in range(10)]
