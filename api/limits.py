"""How often a key may ask: a moving window of a minute, told in OpenAI's headers.

The window is this minute's count and the part of the last one's that still lies in it, as if its requests had come evenly.
"""

import math
from dataclasses import dataclass

from api import TooManyRequests
from protocol.database import AsyncPool, Row

NOW = "floor(extract(epoch FROM now()) / 60)::bigint"
ELAPSED = "extract(second FROM now())::float"
BEFORE = f"COALESCE((SELECT b.count FROM api.request b WHERE b.key = %(key)s AND b.minute = {NOW} - 1), 0)"
WEIGHED = f"ceil({BEFORE} * (60 - {ELAPSED}) / 60)"
TAKE = f"""
INSERT INTO api.request AS r (key, minute, count) SELECT %(key)s, {NOW}, 1 WHERE {WEIGHED} < %(most)s
ON CONFLICT (key, minute) DO UPDATE SET count = r.count + 1 WHERE r.count + {WEIGHED} < %(most)s
RETURNING r.count, {BEFORE} AS before, {ELAPSED} AS elapsed
"""
LOOK = f"""
SELECT COALESCE((SELECT count FROM api.request WHERE key = %(key)s AND minute = {NOW}), 0) AS count, {BEFORE} AS before, {ELAPSED} AS elapsed
"""


@dataclass
class RateLimits:
    """Requests a minute for each key, at all gateways together."""

    pool: AsyncPool
    per_minute: int

    async def take(self, key_id: str, per_minute: int | None = None) -> dict[str, str]:
        """Count a request; the headers that tell what is left. ``per_minute``: the key's own limit. Raises TooManyRequests, with when to come
        again."""
        most = per_minute or self.per_minute
        async with self.pool.connection() as connection:
            given = {"key": key_id, "most": most}
            taken = await (await connection.execute(TAKE.encode(), given)).fetchone()
            row = taken or await (await connection.execute(LOOK.encode(), given)).fetchone()
        assert row is not None
        used = row["count"] + math.ceil(row["before"] * (60 - row["elapsed"]) / 60)
        wait = _wait(row, most)
        headers = {
            "x-ratelimit-limit-requests": str(most),
            "x-ratelimit-remaining-requests": str(max(0, most - used)),
            "x-ratelimit-reset-requests": f"{wait:.1f}s",
        }
        if taken is None:
            words = f"this key may ask {most} times a minute; come again in {wait:.1f} s"
            retry = {"retry-after": str(int(wait) + 1), "retry-after-ms": str(int(wait * 1000) + 1)}
            raise TooManyRequests(words, code="rate_limit_exceeded", headers={**headers, **retry})
        return headers

    async def sweep(self) -> None:
        """Let go of minutes that count no more."""
        async with self.pool.connection() as connection:
            await connection.execute(f"DELETE FROM api.request WHERE minute < {NOW} - 1".encode())


def _wait(row: Row, most: int) -> float:
    """Seconds until a request is let in, 0 where one is now."""
    left = 60 - float(row["elapsed"])
    free = most - row["count"] - 1
    if free < 0:  # not in this minute, whose requests weigh less and less in the next one
        return left + 60 - 60 * (most - 1) / row["count"]
    return max(0.0, left - 60 * free / row["before"]) if row["before"] else 0.0
