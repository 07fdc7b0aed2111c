"""Sign-in with Ethereum, management keys and sponsorships, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from api import BadRequest, NoCredit, NoSuchModel, WrongKey, key_schema
from api.budget import Budget
from api.keys import KeyStore
from api.managers import Manager, Managers
from api.sponsorships import Sponsorships
from protocol.database import AsyncPool
from tests.api.test_money import PAYER, PEPPER, pool  # noqa: F401

ADMIN = "a" * 40
WALLET: LocalAccount = Account.from_key(b"\x07" * 32)
STRANGER: LocalAccount = Account.from_key(b"\x08" * 32)


@pytest.fixture
def managers(pool: AsyncPool) -> Managers:  # noqa: F811
    return Managers(pool, PEPPER, ADMIN, 31337)


@pytest.fixture
def sponsorships(pool: AsyncPool) -> Sponsorships:  # noqa: F811
    return Sponsorships(pool, KeyStore(pool, PEPPER))


def sign(message: str, by: LocalAccount = WALLET) -> str:
    return "0x" + bytes(by.sign_message(encode_defunct(text=message)).signature).hex()


async def signed_in(managers: Managers) -> dict[str, Any]:
    told = await managers.challenge(WALLET.address, "gateway.example", "https")
    return await managers.sign_in(told["nonce"], sign(told["message"]))


async def test_sign_in__with_the_wallet__manages_its_own_keys_for_a_day(managers: Managers) -> None:
    told = await managers.challenge(WALLET.address, "gateway.example", "https")
    lines = told["message"].split("\n")
    assert lines[:2] == ["gateway.example wants you to sign in with your Ethereum account:", WALLET.address]
    assert {"URI: https://gateway.example", "Version: 1", "Chain ID: 31337", f"Nonce: {told['nonce']}"} <= set(lines)
    made = await managers.sign_in(told["nonce"], sign(told["message"]))
    assert (made["payer"], made["signed_in"]) == (WALLET.address, True)
    assert timedelta(hours=23) < datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC) <= timedelta(hours=24)
    assert await managers.authenticate(f"Bearer {made['key']}") == Manager(WALLET.address)


async def test_sign_in__challenge__is_good_once_and_for_its_address_alone(managers: Managers, pool: AsyncPool) -> None:  # noqa: F811
    told = await managers.challenge(WALLET.address, "g", "https")
    with pytest.raises(WrongKey, match=f"signed by {STRANGER.address}"):
        await managers.sign_in(told["nonce"], sign(told["message"], STRANGER))
    with pytest.raises(WrongKey, match="was used"):  # by the stranger's try
        await managers.sign_in(told["nonce"], sign(told["message"]))
    other = await managers.challenge(WALLET.address, "g", "https")
    with pytest.raises(WrongKey, match="signed by"):  # the signature of another challenge
        await managers.sign_in(other["nonce"], sign(told["message"]))
    garbled = await managers.challenge(WALLET.address, "g", "https")
    with pytest.raises(WrongKey, match="no signature"):
        await managers.sign_in(garbled["nonce"], "0x" + "ff" * 65)
    late = await managers.challenge(WALLET.address, "g", "https")
    async with pool.connection() as connection:
        await connection.execute("UPDATE api.challenge SET until = now() - interval '1 second'")
    with pytest.raises(WrongKey, match="too old"):
        await managers.sign_in(late["nonce"], sign(late["message"]))
    assert await managers.list(None) == []


async def test_sign_in__two_at_once__one_gets_in(managers: Managers) -> None:
    told = await managers.challenge(WALLET.address, "g", "https")
    tries = [managers.sign_in(told["nonce"], sign(told["message"])) for _ in range(5)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, dict) for one in found) == 1


async def test_management_key__stored_as_a_hash__ends_when_it_is_revoked_or_over(managers: Managers, pool: AsyncPool) -> None:  # noqa: F811
    made = await managers.create("ci", PAYER, None)
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT * FROM api.manager")).fetchone()
    assert row is not None
    assert made["key"] not in str(row)
    assert await managers.authenticate(f"Bearer {made['key']}") == Manager(PAYER)
    with pytest.raises(NoSuchModel):
        await managers.revoke(made["id"], WALLET.address)  # another payer's
    await managers.revoke(made["id"], PAYER)
    with pytest.raises(WrongKey, match="revoked"):
        await managers.authenticate(f"Bearer {made['key']}")
    over = await managers.create("ci", PAYER, datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(WrongKey, match="expired"):
        await managers.authenticate(f"Bearer {over['key']}")


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer fn-00000000-x-00000000", "Bearer fnm-1-2-3", "Bearer " + "b" * 40])
async def test_manager__of_no_known_token__is_refused(managers: Managers, header: str | None) -> None:
    with pytest.raises(WrongKey):
        await managers.authenticate(header)


async def test_manager__payer__is_its_own_alone_and_the_operator_names_one(managers: Managers) -> None:
    operator, own = await managers.authenticate(f"Bearer {ADMIN}"), Manager(PAYER)
    assert (operator.payer_for(PAYER), own.payer_for(None), own.payer_for(PAYER)) == (PAYER, PAYER, PAYER)
    with pytest.raises(WrongKey, match="nobody's own"):
        operator.payer_for(None)
    with pytest.raises(WrongKey, match=f"not for {WALLET.address}"):
        own.payer_for(WALLET.address)


def gift(**change: Any) -> key_schema.SponsorshipRequest:
    return key_schema.SponsorshipRequest(**{"name": "workshop", "keys": 2, "budget": "100", "models": ["m"], "key_days": 7, **change})


async def test_sponsorship__claimed_by_many_at_once__gives_just_its_keys(sponsorships: Sponsorships, pool: AsyncPool) -> None:  # noqa: F811
    made = await sponsorships.create(PAYER, gift(max_price={"completion": "2"}))
    found = await asyncio.gather(*(sponsorships.claim(made["code"]) for _ in range(6)), return_exceptions=True)
    keys = [one for one in found if isinstance(one, dict)]
    assert len(keys) == 2
    key = await sponsorships.keys.authenticate(f"Bearer {keys[0]['key']}")
    assert (key.payer, key.models, key.most_output) == (PAYER, ["m"], 2 * 10**18)
    assert timedelta(days=6, hours=23) < datetime.fromisoformat(keys[0]["expires_at"]) - datetime.now(UTC) <= timedelta(days=7)
    await Budget(pool).set_credit(PAYER, 10_000)
    with pytest.raises(NoCredit, match="budget"):
        await Budget(pool).reserve(key, "j", "m", 1, 101)
    (told,) = await sponsorships.list(PAYER)
    assert (told["claimed"], told["keys"], told["key_days"], told["spent"]) == (2, 2, 7, "0")
    assert await sponsorships.list(WALLET.address) == []


async def test_sponsorship__revoked__gives_no_more_and_takes_back_what_it_gave(sponsorships: Sponsorships) -> None:
    made = await sponsorships.create(PAYER, gift())
    key = await sponsorships.claim(made["code"])
    with pytest.raises(NoSuchModel):
        await sponsorships.revoke(made["id"], WALLET.address)
    await sponsorships.revoke(made["id"], PAYER)
    with pytest.raises(WrongKey, match="was revoked"):
        await sponsorships.keys.authenticate(f"Bearer {key['key']}")
    with pytest.raises(WrongKey, match="not known, has expired"):
        await sponsorships.claim(made["code"])


async def test_sponsorship__past_its_end_or_mistyped__gives_nothing(sponsorships: Sponsorships) -> None:
    made = await sponsorships.create(PAYER, gift(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    for code in (made["code"], made["code"][:-1], "fn" + made["code"][3:], ""):
        with pytest.raises(WrongKey):
            await sponsorships.claim(code)


@pytest.mark.parametrize(
    "change", [{"keys": 0}, {"budget": None}, {"key_days": 0}, {"expires_at": datetime(2030, 1, 1)}, {"payer": "0x" + "aB" * 20}]
)
def test_sponsorship__bad_request__is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, ValueError)):
        gift(**change)
