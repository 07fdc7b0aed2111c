"""Who may manage the API keys of a payer: people who signed in with Ethereum, programs with a management key, the gateway's operator.

Signing in follows EIP-4361: the gateway writes the message, the wallet signs it, and each is good once. What comes of it is a management key of a
day.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct

from api import NoSuchModel, WrongKey
from api.keys import bearer, key_hash, listed, new_key, revoke_own, shown, well_formed
from protocol.database import AsyncPool

PREFIX = "fnm"
CHALLENGE_SECONDS = 600
SIGNED_IN_SECONDS = 86_400
SHOWN = "SELECT id, name, payer, signed_in, expires_at, revoked_at IS NOT NULL AS revoked, created_at FROM api.manager"


@dataclass(frozen=True)
class Manager:
    """Whose keys may be managed: a payer's, or everybody's where that is None."""

    payer: str | None

    def payer_for(self, asked: str | None) -> str:
        """The payer that a request is about. Raises WrongKey for another one than the manager's own."""
        payer = asked or self.payer
        if payer is None:
            raise WrongKey("the admin token is nobody's own: name the 'payer'", "payer", "payer_missing")
        if self.payer not in (None, payer):
            raise WrongKey(f"this management key is for {self.payer}, not for {payer}", "payer", "not_your_payer")
        return payer


@dataclass(frozen=True)
class Managers:
    """In PostgreSQL, so that any gateway knows them."""

    pool: AsyncPool
    pepper: bytes
    admin_token: str
    chain_id: int

    async def challenge(self, address: str, host: str, scheme: str) -> dict[str, Any]:
        """The message that an address has to sign. ``host``: as the client calls this gateway, which wallets compare with the page's own."""
        now, nonce = datetime.now(UTC).replace(microsecond=0), secrets.token_hex(16)
        until = now + timedelta(seconds=CHALLENGE_SECONDS)
        message = (
            f"{host} wants you to sign in with your Ethereum account:\n{address}\n\n"
            f"Manage the API keys that this account's deposit pays for. This costs nothing and moves no money.\n\n"
            f"URI: {scheme}://{host}\nVersion: 1\nChain ID: {self.chain_id}\nNonce: {nonce}\n"
            f"Issued At: {now.isoformat().replace('+00:00', 'Z')}\nExpiration Time: {until.isoformat().replace('+00:00', 'Z')}"
        )
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO api.challenge VALUES (%s, %s, %s, %s)", (nonce, address, message, until))
        return {"nonce": nonce, "message": message, "expires_at": until.isoformat()}

    async def sign_in(self, nonce: str, signature: str) -> dict[str, Any]:
        """A management key of a day for whoever signed the challenge. Raises WrongKey."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "DELETE FROM api.challenge WHERE nonce = %s RETURNING address, message, until < now() AS late", (nonce,)
            )
            row = await cursor.fetchone()
        if row is None or row["late"]:
            raise WrongKey("this challenge is not known, was used, or is too old; ask /v1/auth/challenge for another", "nonce", "no_such_challenge")
        try:
            signer = Account.recover_message(encode_defunct(text=row["message"]), signature=signature)
        except Exception as error:  # whatever the library makes of bytes that are no signature
            raise WrongKey(f"this is no signature: {error}", "signature", "bad_signature") from error
        if signer != row["address"]:
            words = f"the message was signed by {signer}, not by {row['address']}; sign it with the account that the challenge was asked for"
            raise WrongKey(words, "signature", "bad_signature")
        until = datetime.now(UTC) + timedelta(seconds=SIGNED_IN_SECONDS)
        return await self.create("signed in", row["address"], until, signed_in=True)

    async def create(self, name: str, payer: str, expires_at: datetime | None, signed_in: bool = False) -> dict[str, Any]:
        """Make a management key; the answer holds it, and nothing later does."""
        key_id, key = new_key(prefix=PREFIX)
        async with self.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO api.manager (id, name, payer, hash, signed_in, expires_at) VALUES (%s, %s, %s, %s, %s, %s)",
                (key_id, name, payer, key_hash(key, self.pepper), signed_in, expires_at),
            )
            row = await (await connection.execute(f"{SHOWN} WHERE id = %s".encode(), (key_id,))).fetchone()
        assert row is not None
        return {"key": key, **shown(row)}

    async def authenticate(self, header: str | None) -> Manager:
        """Of an ``Authorization: Bearer`` header. Raises WrongKey."""
        token = bearer(header)
        if not token:
            raise WrongKey("this needs the admin token or a management key; sign in at /keys, or send 'Authorization: Bearer fnm-...'")
        if hmac.compare_digest(token.encode(), self.admin_token.encode()):
            return Manager(None)
        if not well_formed(token, PREFIX):
            raise WrongKey("this needs the gateway's admin token or a management key, and is neither", code="invalid_management_key")
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT payer FROM api.manager WHERE hash = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
                (key_hash(token, self.pepper),),
            )
            row = await cursor.fetchone()
        if row is None:
            raise WrongKey(f"the management key {token[:12]}... is not known, has expired or was revoked", code="invalid_management_key")
        return Manager(row["payer"])

    async def list(self, payer: str | None) -> Sequence[dict[str, Any]]:
        """Management keys without their secrets: a payer's, or all."""
        return await listed(self.pool, SHOWN, payer)

    async def revoke(self, key_id: str, payer: str | None) -> None:
        """At once. Raises NoSuchModel where there is none that lives."""
        async with self.pool.connection() as connection:
            if not await revoke_own(connection, "api.manager", key_id, payer):
                raise NoSuchModel(f"no live management key {key_id}", code="no_such_key")

    async def sweep(self) -> None:
        """Let go of what is over."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.challenge WHERE until < now()")
            await connection.execute("DELETE FROM api.manager WHERE signed_in AND expires_at < now()")
