"""Reserve, settle, release: so that a retry never bills twice and two requests never pass the same budget. Design section 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from api import NoCredit
from api.keys import ApiKey
from protocol.database import AsyncPool
from protocol.units import format_func


@dataclass(frozen=True)
class Charge:
    """One stage's part of a job: what its voucher grows by, in wei."""

    provider: str
    model_id: bytes
    amount: int


class Budget:
    """The money side of a job, each step one transaction."""

    def __init__(self, pool: AsyncPool) -> None:
        self.pool = pool

    async def next_nonce(self) -> int:
        """The gateway's next number for a job id."""
        async with self.pool.connection() as connection:
            row = await (await connection.execute("SELECT nextval('api.nonce') AS n")).fetchone()
        assert row is not None
        return int(row["n"])

    async def set_credit(self, payer: str, credit: int) -> None:
        """Note what the chain lets this gateway take from the payer in all."""
        async with self.pool.connection() as connection:
            await connection.execute("UPDATE api.payer SET credit = %s WHERE address = %s", (credit, payer))

    async def reserve(self, key: ApiKey, job_id: str, model: str, prompt_tokens: int, amount: int) -> None:
        """Set the job's greatest cost aside, from the key's budget and from the payer's credit. Raises NoCredit."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "UPDATE api.key SET reserved = reserved + %(a)s WHERE id = %(k)s AND (budget IS NULL OR spent + reserved + %(a)s <= budget)",
                {"a": amount, "k": key.id},
            )
            if cursor.rowcount != 1:
                raise NoCredit(f"the job may cost {format_func(amount)}, which passes what is left of this key's budget", code="budget_exceeded")
            cursor = await connection.execute(
                "UPDATE api.payer SET reserved = reserved + %(a)s WHERE address = %(p)s AND issued + reserved + %(a)s <= credit",
                {"a": amount, "p": key.payer},
            )
            if cursor.rowcount != 1:
                row = await (
                    await connection.execute("SELECT credit - issued - reserved AS free FROM api.payer WHERE address = %s", (key.payer,))
                ).fetchone()
                free = int(row["free"]) if row else 0
                words = f"the job may cost {format_func(amount)}, payer {key.payer} has {format_func(free)} free here"
                raise NoCredit(f"{words}; deposit FUNC in the escrow, or raise the limit for this gateway", code="insufficient_credit")
            await connection.execute(
                "INSERT INTO api.job (id, key_id, payer, model, reserved, prompt_tokens, state) VALUES (%s, %s, %s, %s, %s, %s, 'open')",
                (job_id, key.id, key.payer, model, amount, prompt_tokens),
            )

    async def issue(self, payer: str, charge: Charge) -> int:
        """Raise the stream's cumulative amount; the new amount, to be signed. Committed before anything is signed."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO api.voucher VALUES (%s, %s, %s, %s) ON CONFLICT (payer, provider, model_id) "
                "DO UPDATE SET cumulative = api.voucher.cumulative + excluded.cumulative RETURNING cumulative",
                (payer, charge.provider, "0x" + charge.model_id.hex(), charge.amount),
            )
            row = await cursor.fetchone()
            await connection.execute("UPDATE api.payer SET issued = issued + %s WHERE address = %s", (charge.amount, payer))
        assert row is not None
        return int(row["cumulative"])

    async def retract(self, payer: str, charge: Charge) -> None:
        """Lower the stream again after a stage has refused its voucher. Should it redeem that one all the same, it only gets its next pay early."""
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE api.voucher SET cumulative = cumulative - %s WHERE payer = %s AND provider = %s AND model_id = %s",
                (charge.amount, payer, charge.provider, "0x" + charge.model_id.hex()),
            )
            await connection.execute("UPDATE api.payer SET issued = issued - %s WHERE address = %s", (charge.amount, payer))

    async def finish(self, job_id: str, charged: int, completion_tokens: int, receipts: Sequence[Mapping[str, Any]], ok: bool) -> None:
        """Charge the actual cost and release the rest; a second call for the same job changes nothing."""
        async with self.pool.connection() as connection:
            job = await self._close(connection, job_id, charged, completion_tokens, receipts, ok)
            if job is None:
                return
            await connection.execute(
                "UPDATE api.key SET reserved = reserved - %s, spent = spent + %s WHERE id = %s", (job["reserved"], charged, job["key_id"])
            )
            await connection.execute("UPDATE api.payer SET reserved = reserved - %s WHERE address = %s", (job["reserved"], job["payer"]))

    async def _close(
        self, connection: AsyncConnection[Any], job_id: str, charged: int, tokens: int, receipts: Sequence[Mapping[str, Any]], ok: bool
    ) -> dict[str, Any] | None:
        cursor = await connection.execute(
            "UPDATE api.job SET state = %s, charged = %s, completion_tokens = %s, receipts = %s WHERE id = %s AND state = 'open' "
            "RETURNING key_id, payer, reserved",
            ("done" if ok else "failed", charged, tokens, Jsonb(receipts), job_id),
        )
        return await cursor.fetchone()

    async def reconcile(self) -> int:
        """After a restart: release reservations of jobs that no process works on; what was issued for them stays charged."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT id FROM api.job WHERE state = 'open'")
            jobs = [row["id"] for row in await cursor.fetchall()]
        for job_id in jobs:
            await self.finish(job_id, 0, 0, [], ok=False)
        return len(jobs)

    async def job(self, job_id: str) -> dict[str, Any] | None:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, payer, model, charged::text, prompt_tokens, completion_tokens, state, receipts FROM api.job WHERE id = %s",
                (job_id,),
            )
            return await cursor.fetchone()

    async def not_handed_in(self) -> list[dict[str, Any]]:
        """Finished jobs whose receipts the indexer does not have yet."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT id, receipts FROM api.job WHERE NOT handed_in AND state <> 'open' LIMIT 100")
            return list(await cursor.fetchall())

    async def mark_handed_in(self, job_id: str) -> None:
        async with self.pool.connection() as connection:
            await connection.execute("UPDATE api.job SET handed_in = true WHERE id = %s", (job_id,))
