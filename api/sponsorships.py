"""Sponsors: a payer gives keys away, so that somebody without a wallet can start. Whoever has the code gets one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from api import NoSuchModel, WrongKey
from api.key_schema import KeyPolicy, SponsorshipRequest
from api.keys import KeyStore, key_hash, listed, new_key, revoke_own, shown, well_formed
from protocol.database import AsyncPool, transaction

PREFIX = "fns"
SHOWN = """
SELECT id, name, payer, policy, keys, claimed, key_seconds / 86400 AS key_days, expires_at, revoked_at IS NOT NULL AS revoked, created_at,
       (SELECT COALESCE(sum(spent), 0)::text FROM api.key k WHERE k.sponsorship_id = s.id) AS spent
FROM api.sponsorship s
"""


@dataclass(frozen=True)
class Sponsorships:
    """In PostgreSQL. Each key that is claimed pays from the sponsor's deposit, up to its own budget."""

    pool: AsyncPool
    keys: KeyStore

    async def create(self, payer: str, request: SponsorshipRequest) -> dict[str, Any]:
        """Make one; the answer holds its code, and nothing later does."""
        name, code = new_key(prefix=PREFIX)
        async with transaction(self.pool) as connection:
            await connection.execute(
                "INSERT INTO api.sponsorship (id, name, payer, hash, policy, keys, key_seconds, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    name,
                    request.name,
                    payer,
                    key_hash(code, self.keys.pepper),
                    Jsonb(request.key_policy()),
                    request.keys,
                    request.key_days * 86_400,
                    request.expires_at,
                ),
            )
            row = await (await connection.execute(f"{SHOWN} WHERE id = %s".encode(), (name,))).fetchone()
        assert row is not None
        return {"code": code, **shown(row)}

    async def claim(self, code: str) -> dict[str, Any]:
        """A key of the sponsor's, shown once. Two who claim the last one at once do not both get it. Raises WrongKey."""
        if not well_formed(code, PREFIX):
            raise WrongKey("this is no well-formed code; it may be cut off or mistyped", "code", "invalid_code")
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(
                "UPDATE api.sponsorship SET claimed = claimed + 1 WHERE hash = %s AND revoked_at IS NULL AND claimed < keys "
                "AND (expires_at IS NULL OR expires_at > now()) RETURNING id, name, payer, policy, key_seconds",
                (key_hash(code, self.keys.pepper),),
            )
            row = await cursor.fetchone()
            if row is None:
                raise WrongKey(
                    "this code is not known, has expired, or all of its keys are claimed; ask its sponsor for another", "code", "invalid_code"
                )
            until = datetime.now(UTC) + timedelta(seconds=row["key_seconds"])
            policy = KeyPolicy(**row["policy"], expires_at=until).to_policy()
            return await self.keys.create_in(connection, f"given by {row['name']}", row["payer"], policy, row["id"])

    async def list(self, payer: str | None) -> Sequence[dict[str, Any]]:
        """A payer's, or all; with what their keys have spent."""
        return await listed(self.pool, SHOWN, payer)

    async def revoke(self, name: str, payer: str | None) -> None:
        """No more keys, and those that were claimed end as well. Raises NoSuchModel where there is none that lives."""
        async with transaction(self.pool) as connection:
            if not await revoke_own(connection, "api.sponsorship", name, payer):
                raise NoSuchModel(f"no live sponsorship {name}", code="no_such_sponsorship")
            await connection.execute("UPDATE api.key SET revoked_at = now() WHERE sponsorship_id = %s AND revoked_at IS NULL", (name,))
