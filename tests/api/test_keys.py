"""Keys over their life, and answers that are kept for retries, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from api import BadRequest, Conflict, NoCredit, NoSuchModel, WrongKey, key_schema
from api.account import Account, Dollars
from api.budget import Budget
from api.idempotency import Idempotency, Kept, Slot
from api.keys import ApiKey, KeyStore, Policy
from api.routing import DEFAULT_WISH
from protocol.database import AsyncPool
from protocol.units import FUNC
from tests.api.test_money import PAYER, PEPPER, pool  # noqa: F401

SECOND = timedelta(seconds=1)


async def made(pool: AsyncPool, **policy: Any) -> dict[str, Any]:  # noqa: F811
    await Budget(pool).next_nonce()
    key = await KeyStore(pool, PEPPER).create("test", PAYER, Policy(**policy))
    await Budget(pool).set_credit(PAYER, 10_000)
    return key


async def test_key__rotated__keeps_its_id_and_the_former_secret_for_the_grace_time(pool: AsyncPool) -> None:  # noqa: F811
    store, key = KeyStore(pool, PEPPER), await made(pool, models=["m"])
    second = await store.rotate(key["id"], 60)
    assert second["id"] == key["id"]
    assert second["key"] != key["key"]
    assert {(await store.authenticate(f"Bearer {one['key']}")).id for one in (key, second)} == {key["id"]}
    third = await store.rotate(key["id"], 0)
    for former in (key, second):
        with pytest.raises(WrongKey, match="was rotated"):
            await store.authenticate(f"Bearer {former['key']}")
    assert (await store.authenticate(f"Bearer {third['key']}")).models == ["m"]
    # What is revoked is so at once, with all of its secrets, and cannot be rotated back to life.
    assert await store.revoke(key["id"])
    with pytest.raises(WrongKey, match="was revoked"):
        await store.authenticate(f"Bearer {third['key']}")
    with pytest.raises(NoSuchModel):
        await store.rotate(key["id"], 60)


async def test_key__past_its_end__is_refused(pool: AsyncPool) -> None:  # noqa: F811
    store = KeyStore(pool, PEPPER)
    gone, alive = await made(pool, expires_at=datetime.now(UTC) - SECOND), await made(pool, expires_at=datetime.now(UTC) + 60 * SECOND)
    with pytest.raises(WrongKey, match="has expired"):
        await store.authenticate(f"Bearer {gone['key']}")
    assert (await store.authenticate(f"Bearer {alive['key']}")).id == alive["id"]


async def reserve(pool: AsyncPool, key_id: str, name: str, amount: int) -> None:  # noqa: F811
    await Budget(pool).reserve(ApiKey(key_id, PAYER, None), name, "m", 1, amount)


async def spend(pool: AsyncPool, key_id: str, amount: int) -> None:  # noqa: F811
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.key SET spent = spent + %s WHERE id = %s", (amount, key_id))


async def test_budget__of_a_period__begins_anew_when_that_is_over(pool: AsyncPool) -> None:  # noqa: F811
    key = await made(pool, budget=100, period_seconds=3600)
    await spend(pool, key["id"], 90)
    with pytest.raises(NoCredit, match="budget"):
        await reserve(pool, key["id"], "a", 20)
    assert (await KeyStore(pool, PEPPER).one(key["id"]))["left"] == "10"
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.key SET period_start = now() - interval '2 hours 5 minutes'")
    assert (await KeyStore(pool, PEPPER).one(key["id"]))["left"] == "100"
    await reserve(pool, key["id"], "b", 20)
    with pytest.raises(NoCredit, match="budget"):
        await reserve(pool, key["id"], "c", 81)
    told = await KeyStore(pool, PEPPER).one(key["id"])
    assert (told["left"], told["spent"]) == ("80", "90")
    resets = datetime.fromisoformat(told["resets_at"])
    assert 54 * 60 < (resets - datetime.now(UTC)).total_seconds() <= 55 * 60


async def test_key__changed__has_what_was_given_and_keeps_the_rest(pool: AsyncPool) -> None:  # noqa: F811
    store, key = KeyStore(pool, PEPPER), await made(pool, budget=100, models=["m"], requests_per_minute=5)
    change = key_schema.KeyChange(budget=None, requests_per_minute=9, name="other")
    told = await store.change(key["id"], change.name, change.changes())
    assert (told["budget"], told["models"], told["requests_per_minute"], told["name"]) == (None, ["m"], 9, "other")
    assert (await store.authenticate(f"Bearer {key['key']}")).requests_per_minute == 9
    with pytest.raises(NoSuchModel, match="no live key"):
        await store.change("nobody", None, {"budget": 1})


async def test_key__longer_period__does_not_count_what_was_spent_before(pool: AsyncPool) -> None:  # noqa: F811
    store, key = KeyStore(pool, PEPPER), await made(pool, budget=100)
    await spend(pool, key["id"], 100)
    told = await store.change(key["id"], None, key_schema.KeyChange(budget_period="day").changes())
    assert told["left"] == "100"


@pytest.mark.parametrize(
    ("asked", "own", "held"), [((None, None), (None, None), (None, None)), ((5, 7), (None, 6), (5, 6)), ((None, 9), (4, 3), (4, 3))]
)
def test_wish__capped__is_no_dearer_than_the_key_allows(asked: Any, own: Any, held: Any) -> None:
    wish = DEFAULT_WISH.capped(*asked).capped(*own)
    assert (wish.most_input, wish.most_output) == held


def test_key_request__time_without_a_zone__is_refused() -> None:
    with pytest.raises(BadRequest, match="time zone"):
        key_schema.KeyRequest(payer=PAYER, expires_at="2027-01-31T00:00:00").to_policy()  # type: ignore[arg-type]


def test_key_request__payer__has_its_checksum_or_is_refused() -> None:
    assert key_schema.KeyRequest(payer=PAYER.lower()).payer == "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
    with pytest.raises(BadRequest, match="mistyped"):
        key_schema.KeyRequest(payer="0xaBaBaBaBABabABabAbAbABAbABabababaBaBABaB")


async def test_idempotency__retry__gets_the_answer_and_another_request_is_refused(pool: AsyncPool) -> None:  # noqa: F811
    key, store = await made(pool), Idempotency(pool)
    slot = await store.begin(key["id"], "a", b"request")
    assert isinstance(slot, Slot)
    with pytest.raises(Conflict, match="still runs") as running:
        await store.begin(key["id"], "a", b"request")
    assert running.value.extra_headers["x-should-retry"] == "true"
    await slot.keep("application/json", b"{}")
    assert await store.begin(key["id"], "a", b"request") == Kept("application/json", b"{}")
    with pytest.raises(Conflict, match="another request") as other:
        await store.begin(key["id"], "a", b"other")
    assert other.value.extra_headers["x-should-retry"] == "false"
    another = await made(pool)
    assert isinstance(await store.begin(another["id"], "a", b"other"), Slot)


async def test_idempotency__failed_or_abandoned__may_run_again_once(pool: AsyncPool) -> None:  # noqa: F811
    key, store = await made(pool), Idempotency(pool)
    slot = await store.begin(key["id"], "a", b"request")
    assert isinstance(slot, Slot)
    await slot.forget()
    assert isinstance(await store.begin(key["id"], "a", b"request"), Slot)
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.idempotency SET created_at = now() - interval '1 hour'")
    found = await asyncio.gather(*(store.begin(key["id"], "a", b"request") for _ in range(5)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["Conflict"] * 4 + ["Slot"]
    with pytest.raises(BadRequest, match="at most 255"):
        await store.begin(key["id"], "a" * 256, b"request")


async def test_credits__of_a_job_that_runs__say_what_is_set_aside(pool: AsyncPool) -> None:  # noqa: F811
    key = await made(pool, budget=5_000)
    await reserve(pool, key["id"], "job", 700)
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.payer SET issued = 1000, redeemed = 400")
    dollars = Dollars(None)
    account = Account(pool, KeyStore(pool, PEPPER), Budget(pool), dollars, "0x" + "11" * 20, "http://127.0.0.1:9")
    told = await account.credits(ApiKey(key["id"], PAYER, None))
    assert {name: told[name] for name in ("available", "reserved", "pending", "spent")} == {
        "available": "8300",
        "reserved": "700",
        "pending": "600",
        "spent": "1000",
    }
    assert [row["amount"] for row in told["reservations"]] == ["700"]
    assert told["key"]["left"] == "4300"
    assert told["on_chain"] is None  # no indexer answers
    assert "key" not in told["key"]
    (row,) = await account.usage(PAYER, ["model", "key"], None, 10)
    assert (row["model"], row["key"], row["jobs"], row["cost"]) == ("m", key["id"], 1, "0")


@pytest.mark.parametrize(("rate", "wei", "told"), [("0.5", 3 * FUNC, "1.500000000"), ("2", 1, "0.000000000"), ("0.01", FUNC // 1000, "0.000010000")])
def test_dollars__of_wei(rate: str, wei: int, told: str) -> None:
    assert Dollars(Decimal(rate)).beside("cost", wei) == {"cost": str(wei), "cost_usd": told}
    assert Dollars(None).beside("cost", wei) == {"cost": str(wei)}


def test_dollars__model__is_priced_in_both_where_there_is_a_rate() -> None:
    model = {"id": "m", "pricing": {"prompt": "300.5", "completion": "600"}, "check_price": None}
    assert "check_price_usd" not in Dollars(Decimal("0.25")).priced(model)
    assert Dollars(Decimal("0.25")).priced({**model, "check_price": "100"})["check_price_usd"] == "25.00"
    assert Dollars(Decimal("0.25")).priced(model)["pricing_usd"] == {"prompt": "75.125", "completion": "150.00"}
    assert Dollars(None).priced(model) == model
    assert Dollars(Decimal(1)).priced({"pricing": None}) == {"pricing": None}
