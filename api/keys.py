"""API keys: ``fn-<id>-<secret>-<checksum>``. Only a keyed hash is stored. Design section 5."""

import hashlib
import hmac
import secrets
import zlib
from dataclasses import dataclass
from typing import Any

from api import WrongKey
from protocol.database import AsyncPool

PREFIX = "fn"
SECRET_BYTES = 24


@dataclass(frozen=True)
class ApiKey:
    """A key's policy. ``models``: names it may use, None for all."""

    id: str
    payer: str
    models: list[str] | None


def new_key() -> tuple[str, str]:
    """(id, the key as the developer gets it, once)."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(SECRET_BYTES).replace("-", "_")
    body = f"{PREFIX}-{key_id}-{secret}"
    return key_id, f"{body}-{_checksum(body)}"


def well_formed(key: str) -> bool:
    """Whether prefix and checksum hold, so that a mistyped key costs no query."""
    body, _, checksum = key.rpartition("-")
    return body.startswith(f"{PREFIX}-") and hmac.compare_digest(_checksum(body).encode(), checksum.encode())


def key_hash(key: str, pepper: bytes) -> bytes:
    """HMAC-SHA-256 under the server's pepper."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).digest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


class KeyStore:
    """Keys in PostgreSQL."""

    def __init__(self, pool: AsyncPool, pepper: bytes) -> None:
        self.pool = pool
        self.pepper = pepper

    async def create(self, name: str, payer: str, budget: int | None, models: list[str] | None) -> dict[str, Any]:
        """Make a key; the answer holds it, and nothing later does."""
        key_id, key = new_key()
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO api.payer (address) VALUES (%s) ON CONFLICT DO NOTHING", (payer,))
            await connection.execute(
                "INSERT INTO api.key (id, name, secret_hash, payer, budget, models) VALUES (%s, %s, %s, %s, %s, %s)",
                (key_id, name, key_hash(key, self.pepper), payer, budget, models),
            )
        return {"id": key_id, "key": key, "payer": payer, "budget": None if budget is None else str(budget), "models": models}

    async def authenticate(self, header: str | None) -> ApiKey:
        """The key of an ``Authorization: Bearer`` header. Raises WrongKey."""
        key = (header or "").removeprefix("Bearer ").strip()
        if not key:
            raise WrongKey("no API key was given; send it as 'Authorization: Bearer fn-...'", code="missing_api_key")
        if not well_formed(key):
            raise WrongKey(f"{key[:11]}... is no well-formed key; it may be cut off or mistyped", code="invalid_api_key")
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, payer, models, revoked_at, expires_at < now() AS expired FROM api.key WHERE secret_hash = %s",
                (key_hash(key, self.pepper),),
            )
            row = await cursor.fetchone()
        if row is None or row["revoked_at"] is not None or row["expired"]:
            words = "is not known here" if row is None else "was revoked" if row["revoked_at"] else "has expired"
            raise WrongKey(f"the key {key[:11]}... {words}; make a new one with `funcnet key create`", code="invalid_api_key")
        return ApiKey(row["id"], row["payer"], row["models"])

    async def revoke(self, key_id: str) -> bool:
        async with self.pool.connection() as connection:
            cursor = await connection.execute("UPDATE api.key SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL", (key_id,))
            return cursor.rowcount == 1

    async def list(self) -> list[dict[str, Any]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, name, payer, budget::text, spent::text, reserved::text, models, revoked_at IS NOT NULL AS revoked "
                "FROM api.key ORDER BY created_at"
            )
            return list(await cursor.fetchall())
