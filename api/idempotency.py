"""``Idempotency-Key``: a retry gets the answer that was given, and pays nothing."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from fastapi import Request

from api import BadRequest, Conflict
from api.keys import ApiKey
from protocol.database import AsyncPool

LONGEST_NAME = 255
KEPT_SECONDS = 24 * 3600
ABANDONED_SECONDS = 900
"""A request that runs longer was left by a gateway that died; a retry may run it again."""


class Kept(NamedTuple):
    """An answer that was given."""

    media: str
    body: bytes


@dataclass(frozen=True)
class Slot:
    """A request that runs, and whose answer is to be kept."""

    pool: AsyncPool
    key_id: str
    name: str

    async def keep(self, media: str, body: bytes) -> None:
        """The answer is whole."""
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE api.idempotency SET state = 'done', media = %s, body = %s WHERE key_id = %s AND name = %s",
                (media, body, self.key_id, self.name),
            )

    async def forget(self) -> None:
        """The request failed: a retry runs it again."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.idempotency WHERE key_id = %s AND name = %s AND state = 'running'", (self.key_id, self.name))


@dataclass
class Idempotency:
    """In PostgreSQL, so that any gateway gives the same answer."""

    pool: AsyncPool

    async def asked(self, http: Request, key: ApiKey) -> Kept | Slot | None:
        """``begin`` for a request that its client named, or its payer signed; None for any other. Raises BadRequest or Conflict."""
        name = http.headers.get("idempotency-key", key.request_name)
        return None if name is None else await self.begin(key.id, name, http.url.path.encode() + await http.body())

    async def begin(self, key_id: str, name: str, request: bytes) -> Kept | Slot:
        """Note a request that runs now; the answer of one that ran before. Raises Conflict where the same name stands for another request, or for one
        that still runs."""
        if len(name) > LONGEST_NAME or "\0" in name:
            raise BadRequest(f"an Idempotency-Key has at most {LONGEST_NAME} characters, this one {len(name)}", code="invalid_idempotency_key")
        digest = hashlib.sha256(request).digest()
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO api.idempotency AS i (key_id, name, request_hash) VALUES (%(k)s, %(n)s, %(h)s) ON CONFLICT (key_id, name) DO UPDATE "
                "SET request_hash = excluded.request_hash, created_at = now() "
                "WHERE i.state = 'running' AND i.created_at < now() - make_interval(secs => %(s)s) RETURNING true AS mine",
                {"k": key_id, "n": name, "h": digest, "s": ABANDONED_SECONDS},
            )
            if await cursor.fetchone():
                return Slot(self.pool, key_id, name)
            cursor = await connection.execute(
                "SELECT request_hash, state, media, body FROM api.idempotency WHERE key_id = %s AND name = %s", (key_id, name)
            )
            row = await cursor.fetchone()
        if row is None:  # it failed just now, and its name is free again
            return await self.begin(key_id, name, request)
        if bytes(row["request_hash"]) != digest:
            words = f"Idempotency-Key {name!r} was used for another request; choose a new one for this"
            raise Conflict(words, code="idempotency_conflict", headers={"x-should-retry": "false"})
        if row["state"] == "running":
            words = f"the request with Idempotency-Key {name!r} still runs; come again for its answer"
            raise Conflict(words, code="idempotency_in_progress", headers={"x-should-retry": "true", "retry-after": "1"})
        return Kept(row["media"], bytes(row["body"]))

    async def sweep(self) -> None:
        """Let go of what is old."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.idempotency WHERE created_at < now() - make_interval(secs => %s)", (KEPT_SECONDS,))
