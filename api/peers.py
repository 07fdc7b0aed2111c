"""The gateways on one database. Each says that it is alive; what one leaves behind when it dies another brings to its end, and the oldest of them
does what has to be done once."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import structlog
from psycopg import Error as DatabaseError

from protocol.database import AsyncPool

log = structlog.get_logger()

BEAT_SECONDS = 1.0
DEAD_SECONDS = 5.0
"""Who has not been seen for so long is dead."""


@dataclass
class Peers:
    """This gateway among them. ``leads``: whether it does what has to be done once."""

    pool: AsyncPool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    leads: bool = False
    _beating_since: float | None = None

    @property
    def may_judge(self) -> bool:
        """Whether others had time to be seen: after the database was away nobody is, and all are alive."""
        return self._beating_since is not None and time.monotonic() - self._beating_since > DEAD_SECONDS

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.beat()
            except DatabaseError as error:
                self._beating_since, self.leads = None, False
                log.warning("not seen by the other gateways", reason=str(error))
            await asyncio.sleep(BEAT_SECONDS)

    async def beat(self) -> None:
        """Be seen, and look who leads."""
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO api.gateway (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET seen_at = now()", (self.id,))
            cursor = await connection.execute(
                "SELECT id FROM api.gateway WHERE seen_at > now() - make_interval(secs => %s) ORDER BY started_at, id LIMIT 1", (DEAD_SECONDS,)
            )
            oldest = await cursor.fetchone()
        self.leads = oldest is not None and oldest["id"] == self.id
        if self._beating_since is None:
            self._beating_since = time.monotonic()

    async def take_over(self) -> int:
        """Make unfinished jobs of gateways that are dead this one's own; how many."""
        if not self.may_judge:
            return 0
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "UPDATE api.job SET gateway = %(me)s WHERE id IN (SELECT j.id FROM api.job j WHERE j.gateway <> %(me)s "
                "AND (j.state = 'open' OR EXISTS (SELECT 1 FROM api.leg l WHERE l.job_id = j.id AND l.state IN ('open', 'asked'))) "
                "AND NOT EXISTS (SELECT 1 FROM api.gateway g WHERE g.id = j.gateway AND g.seen_at > now() - make_interval(secs => %(dead)s)) "
                "FOR UPDATE SKIP LOCKED)",
                {"me": self.id, "dead": DEAD_SECONDS},
            )
        return cursor.rowcount

    async def sweep(self) -> None:
        """Let go of who is long dead."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.gateway WHERE seen_at < now() - interval '1 hour'")

    async def leave(self) -> None:
        """What is left here is the others' now."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.gateway WHERE id = %s", (self.id,))
