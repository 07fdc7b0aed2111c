"""API keys: ``fn-<id>-<secret>-<checksum>``. Only a keyed hash is stored. Design section 5.

Management keys (``fnm``) and sponsors' codes (``fns``) are made alike.
"""

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from api import NoSuchModel, WrongKey
from protocol.database import AsyncPool, Row, transaction
from protocol.typed import Signed

PREFIX = "fn"
SECRET_BYTES = 24


class Policy(NamedTuple):
    """What a key may do. ``budget``: wei, in all or in each ``period_seconds``; ``models``: names it may use; ``most_input`` and ``most_output``:
    wei per million tokens, all stages together; ``expires_at``: when it ends. None for no limit."""

    budget: int | None = None
    period_seconds: int | None = None
    models: list[str] | None = None
    expires_at: datetime | None = None
    most_input: int | None = None
    most_output: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """A key that was let in: who pays, and what of its policy a request has to keep.

    A request that its payer signed has ``authorisation``, what the payer has signed for, and a name of its own, under which it is answered once.
    """

    id: str
    payer: str
    models: list[str] | None
    most_input: int | None = None
    most_output: int | None = None
    requests_per_minute: int | None = None
    authorisation: Signed | None = None
    request_name: str | None = None


def new_key(key_id: str | None = None, prefix: str = PREFIX) -> tuple[str, str]:
    """(id, the key as the developer gets it, once). ``key_id``: of a key that gets another secret."""
    key_id, secret = key_id or secrets.token_hex(4), secrets.token_urlsafe(SECRET_BYTES).replace("-", "_")
    body = f"{prefix}-{key_id}-{secret}"
    return key_id, f"{body}-{_checksum(body)}"


def well_formed(key: str, prefix: str = PREFIX) -> bool:
    """Whether prefix and checksum hold, so that a mistyped key costs no query."""
    body, _, checksum = key.rpartition("-")
    return body.startswith(f"{prefix}-") and hmac.compare_digest(_checksum(body).encode(), checksum.encode())


def key_hash(key: str, pepper: bytes) -> bytes:
    """HMAC-SHA-256 under the server's pepper."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).digest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


NO_POLICY = Policy()
OVER = "(period_seconds IS NOT NULL AND now() >= period_start + make_interval(secs => period_seconds))"
"""Whether a key's budget period is over, so that the next begins with whatever it does next."""
OF_PAYER = "(%(payer)s::text IS NULL OR payer = %(payer)s)"
HELD = "SELECT k.id, payer, models, most_input, most_output, requests_per_minute, revoked_at, expires_at < now() AS expired"
SHOWN = f"""
SELECT id, name, payer, budget::text, period_seconds, spent::text, reserved::text, models, most_input::text, most_output::text, requests_per_minute,
       sponsorship_id, expires_at, revoked_at IS NOT NULL AS revoked, created_at,
       (budget - spent + CASE WHEN {OVER} THEN spent ELSE spent_before END - reserved)::text AS "left",
       CASE WHEN period_seconds IS NOT NULL AND NOT {OVER} THEN period_start + make_interval(secs => period_seconds) END AS resets_at
FROM api.key
"""


class KeyStore:
    """Keys in PostgreSQL."""

    def __init__(self, pool: AsyncPool, pepper: bytes) -> None:
        self.pool = pool
        self.pepper = pepper

    async def create(self, name: str, payer: str, policy: Policy = NO_POLICY) -> dict[str, Any]:
        """Make a key; the answer holds it, and nothing later does."""
        async with transaction(self.pool) as connection:
            return await self.create_in(connection, name, payer, policy)

    async def create_in(
        self, connection: AsyncConnection[Row], name: str, payer: str, policy: Policy, sponsorship_id: str | None = None
    ) -> dict[str, Any]:
        """The same in a transaction of the caller's."""
        key_id, key = new_key()
        columns = ", ".join(Policy._fields)
        await connection.execute("INSERT INTO api.payer (address) VALUES (%s) ON CONFLICT DO NOTHING", (payer,))
        await connection.execute(
            f"INSERT INTO api.key (id, name, payer, sponsorship_id, {columns}) VALUES (%s, %s, %s, %s, {', '.join(['%s'] * len(policy))})".encode(),
            (key_id, name, payer, sponsorship_id, *policy),
        )
        await connection.execute("INSERT INTO api.secret (hash, key_id) VALUES (%s, %s)", (key_hash(key, self.pepper), key_id))
        return {"key": key, **await self._one(connection, key_id)}

    async def change(self, key_id: str, name: str | None, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change some members of a live key's policy. Raises NoSuchModel where there is none."""
        assert changes.keys() <= set(Policy._fields)
        values = dict(changes) if name is None else {**changes, "name": name}
        async with transaction(self.pool) as connection:
            if values:
                settings = ", ".join(f"{column} = %({column})s" for column in values)
                # Another period begins now; what was spent in the former one does not count in it.
                settings += ", period_start = now(), spent_before = spent" if "period_seconds" in values else ""
                await connection.execute(f"UPDATE api.key SET {settings} WHERE id = %(id)s AND revoked_at IS NULL".encode(), {**values, "id": key_id})
            return await self._one(connection, key_id)

    async def rotate(self, key_id: str, grace_seconds: int) -> dict[str, Any]:
        """Give a live key another secret under the same id; former ones are good for the grace time. Raises NoSuchModel where there is none."""
        _, key = new_key(key_id)
        async with transaction(self.pool) as connection:
            told = await self._one(connection, key_id)
            await connection.execute(
                "UPDATE api.secret SET until = least(until, now() + make_interval(secs => %s)) WHERE key_id = %s", (grace_seconds, key_id)
            )
            await connection.execute("INSERT INTO api.secret (hash, key_id) VALUES (%s, %s)", (key_hash(key, self.pepper), key_id))
        return {"key": key, **told, "former_good_for_seconds": grace_seconds}

    async def authenticate(self, header: str | None) -> ApiKey:
        """The key of an ``Authorization: Bearer`` header. Raises WrongKey."""
        key = bearer(header)
        if not key:
            raise WrongKey("no API key was given; send it as 'Authorization: Bearer fn-...'", code="missing_api_key")
        if not well_formed(key):
            raise WrongKey(f"{key[:11]}... is no well-formed key; it may be cut off or mistyped", code="invalid_api_key")
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                f"{HELD}, until < now() AS replaced FROM api.secret s JOIN api.key k ON k.id = s.key_id WHERE s.hash = %s".encode(),
                (key_hash(key, self.pepper),),
            )
            row = await cursor.fetchone()
        if row is None or row["revoked_at"] is not None or row["expired"] or row["replaced"]:
            raise WrongKey(f"the key {key[:11]}... {_refused(row)}; make a new one with `funcnet key create`", code="invalid_api_key")
        return _held(row)

    async def by_id(self, key_id: str) -> ApiKey:
        """As if its holder had sent it. Raises WrongKey where it is not good any more."""
        query = f"{HELD} FROM api.key k WHERE k.id = %s"
        async with self.pool.connection() as connection:
            row = await (await connection.execute(query.encode(), (key_id,))).fetchone()
        if row is None or row["revoked_at"] is not None or row["expired"]:
            raise WrongKey(f"the key {key_id} {_refused(row)}", code="invalid_api_key")
        return _held(row)

    async def revoke(self, key_id: str) -> bool:
        async with self.pool.connection() as connection:
            return await revoke_own(connection, "api.key", key_id, None)

    async def list(self, payer: str | None = None) -> list[dict[str, Any]]:
        """Keys without their secrets: a payer's, or all."""
        return await listed(self.pool, SHOWN, payer)

    async def one(self, key_id: str) -> dict[str, Any]:
        """A key without its secret. Raises NoSuchModel where there is none that lives."""
        async with self.pool.connection() as connection:
            return await self._one(connection, key_id)

    async def _one(self, connection: AsyncConnection[Row], key_id: str) -> dict[str, Any]:
        row = await (await connection.execute(f"{SHOWN} WHERE id = %s AND revoked_at IS NULL".encode(), (key_id,))).fetchone()
        if row is None:
            raise NoSuchModel(f"no live key {key_id}", code="no_such_key")
        return shown(row)


def bearer(header: str | None) -> str:
    """The token of an ``Authorization`` header, empty where there is none."""
    return (header or "").removeprefix("Bearer ").strip()


async def listed(pool: AsyncPool, query: str, payer: str | None) -> list[dict[str, Any]]:
    """Rows of a payer, or all, by age and as JSON has them."""
    async with pool.connection() as connection:
        cursor = await connection.execute(f"{query} WHERE {OF_PAYER} ORDER BY created_at".encode(), {"payer": payer})
        return [shown(row) for row in await cursor.fetchall()]


async def revoke_own(connection: AsyncConnection[Row], table: str, name: str, payer: str | None) -> bool:
    """Revoke a row of a payer's, or anybody's where none is named; whether there was one that lived. ``table`` is ours, never a caller's."""
    query = f"UPDATE {table} SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL AND {OF_PAYER}"
    return (await connection.execute(query.encode(), {"id": name, "payer": payer})).rowcount == 1


def _held(row: Row) -> ApiKey:
    most_input, most_output = (None if row[name] is None else int(row[name]) for name in ("most_input", "most_output"))
    return ApiKey(row["id"], row["payer"], row["models"], most_input, most_output, row["requests_per_minute"])


def shown(row: Row) -> dict[str, Any]:
    """A row as JSON has it."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _refused(row: Row | None) -> str:
    if row is None:
        return "is not known here"
    if row["revoked_at"] is not None:
        return "was revoked"
    return "has expired" if row["expired"] else "was rotated, and its grace time is over"
