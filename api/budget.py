"""Reserve, issue, settle: so that a retry never bills twice and two requests never pass the same budget. Design section 5.

A job's *legs* are its stages' parts of it. What a leg costs is issued as a voucher before its receipt is asked for, and taken back where the
stage refuses; between the two it counts as charged, since the voucher may be redeemed.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from api import NoCredit
from api.keys import OVER, ApiKey
from protocol.database import AsyncPool, transaction
from protocol.receipts import SessionOffer
from protocol.typed import Signed
from protocol.units import format_func
from protocol.wire import CloseReply, RouteStop

SET_ASIDE = f"""
UPDATE api.key SET reserved = reserved + %(a)s, spent_before = CASE WHEN {OVER} THEN spent ELSE spent_before END,
       period_start = CASE WHEN {OVER} THEN period_start + make_interval(secs => period_seconds * floor(
           extract(epoch FROM now() - period_start) / period_seconds)) ELSE period_start END
WHERE id = %(k)s AND (budget IS NULL OR spent - CASE WHEN {OVER} THEN spent ELSE spent_before END + reserved + %(a)s <= budget)
"""
"""Reserve of a key's budget, in the period that runs now. What is reserved over a period's end counts in the next one as well."""


ISSUE = """
WITH changed AS (
    UPDATE api.leg SET state = 'asked', completion_tokens = %(n)s, amount = %(a)s
    WHERE job_id = %(j)s AND provider = %(p)s AND epoch = %(e)s AND state = 'open' RETURNING amount
), raised AS (
    INSERT INTO api.voucher SELECT j.payer, l.provider, l.model_id, COALESCE((SELECT amount FROM changed), 0)
    FROM api.leg l JOIN api.job j ON j.id = l.job_id WHERE l.job_id = %(j)s AND l.provider = %(p)s AND l.epoch = %(e)s
    ON CONFLICT (payer, provider, model_id) DO UPDATE SET cumulative = api.voucher.cumulative + excluded.cumulative
    RETURNING payer, cumulative
), paid AS (
    UPDATE api.payer SET issued = issued + changed.amount FROM changed, raised WHERE address = raised.payer
)
SELECT cumulative FROM raised
"""
"""A leg's amount to its stream and to what its payer was charged, once."""
SETTLE = """
WITH legs AS (
    SELECT COALESCE(sum(amount), 0) + (SELECT COALESCE(sum(amount), 0) FROM api.check WHERE job_id = %(j)s) AS charged,
           COALESCE(sum(most) FILTER (WHERE state = 'open'), 0)
           + COALESCE((SELECT check_reserved FROM api.job WHERE id = %(j)s AND %(s)s::text IS NULL), 0) AS held
    FROM api.leg WHERE job_id = %(j)s
), before AS (
    SELECT reserved, charged FROM api.job WHERE id = %(j)s
), job AS (
    UPDATE api.job SET reserved = legs.held, charged = legs.charged, state = COALESCE(%(s)s, state),
           check_reserved = CASE WHEN %(s)s::text IS NULL THEN check_reserved ELSE 0 END,
           completion_tokens = COALESCE(%(n)s, completion_tokens)
    FROM legs WHERE id = %(j)s RETURNING key_id, payer
), change AS (
    SELECT before.reserved - legs.held AS released, legs.charged - before.charged AS spent FROM before, legs
), key AS (
    UPDATE api.key SET reserved = api.key.reserved - change.released, spent = api.key.spent + change.spent
    FROM job, change WHERE id = job.key_id RETURNING id
), payer AS (
    UPDATE api.payer SET reserved = reserved - change.released FROM key, job, change WHERE address = job.payer
)
SELECT charged FROM legs
"""
"""A job's figures from its legs and checks; the key's row is locked before the payer's, as everywhere."""
ORDER_CHECKS = """
WITH job AS (
    SELECT payer FROM api.job WHERE id = %(j)s
), noted AS (
    INSERT INTO api.check VALUES (%(j)s, %(v)s, %(m)s, %(a)s)
), raised AS (
    INSERT INTO api.voucher SELECT payer, %(v)s, %(m)s, %(a)s FROM job
    ON CONFLICT (payer, provider, model_id) DO UPDATE SET cumulative = api.voucher.cumulative + excluded.cumulative
    RETURNING payer, cumulative
), paid AS (
    UPDATE api.payer SET issued = issued + %(a)s FROM raised WHERE address = raised.payer
)
SELECT cumulative FROM raised
"""
REFUSE_CHECKS = """
WITH gone AS (
    SELECT c.amount, c.model_id, j.payer FROM api.check c JOIN api.job j ON j.id = c.job_id WHERE c.job_id = %(j)s AND c.verifier = %(v)s
), zeroed AS (
    UPDATE api.check SET amount = 0 WHERE job_id = %(j)s AND verifier = %(v)s
), lowered AS (
    UPDATE api.voucher SET cumulative = cumulative - gone.amount FROM gone
    WHERE api.voucher.payer = gone.payer AND provider = %(v)s AND api.voucher.model_id = gone.model_id RETURNING gone.payer, gone.amount
)
UPDATE api.payer SET issued = issued - lowered.amount FROM lowered WHERE address = lowered.payer
"""
"""The stream's row is locked before the payer's, as everywhere."""
NONCES_AT_ONCE = 50


@dataclass(frozen=True)
class LegKey:
    """Names a leg: a stage's session of one epoch."""

    job_id: str
    provider: str
    epoch: int


@dataclass(frozen=True)
class StoredLeg:
    """A leg as the books have it. ``completion_tokens``: the most to be paid for, None where nobody counted."""

    key: LegKey
    offer: SessionOffer
    stop: RouteStop
    state: str
    completion_tokens: int | None


class Budget:
    """The money side of a job, each step one transaction. ``gateway``: the one of several on this database that jobs begun here belong to."""

    def __init__(self, pool: AsyncPool, gateway: str = "") -> None:
        self.pool = pool
        self.gateway = gateway
        self._nonces: list[int] = []

    async def next_nonce(self) -> int:
        """The gateway's next number for a job id. They are drawn many at once, and those that are not used are nobody's."""
        if not self._nonces:
            async with self.pool.connection() as connection:
                cursor = await connection.execute("SELECT nextval('api.nonce') AS n FROM generate_series(1, %s)", (NONCES_AT_ONCE,))
                self._nonces += [int(row["n"]) for row in await cursor.fetchall()]
        return self._nonces.pop()

    async def set_credit(self, payer: str, credit: int, redeemed: int = 0) -> None:
        """Note what the chain lets this gateway take from the payer in all, and what of it was redeemed."""
        async with self.pool.connection() as connection:
            await connection.execute("UPDATE api.payer SET credit = %s, redeemed = %s WHERE address = %s", (credit, redeemed, payer))

    async def reserve(self, key: ApiKey, job_id: str, model: str, prompt_tokens: int, amount: int, checks: int = 0) -> None:
        """Set the job's greatest cost aside, from the key's budget and from the payer's credit; ``checks`` of it for checks of its stages. Raises
        NoCredit."""
        async with transaction(self.pool) as connection:
            await self._set_aside(connection, key.id, key.payer, amount)
            await connection.execute(
                "INSERT INTO api.job (id, key_id, payer, model, reserved, check_reserved, prompt_tokens, gateway, state) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'open')",
                (job_id, key.id, key.payer, model, amount, checks, prompt_tokens, self.gateway),
            )

    async def reserve_more(self, job_id: str, amount: int) -> None:
        """Set aside what a replacement may cost. Raises NoCredit."""
        async with transaction(self.pool) as connection:
            cursor = await connection.execute("UPDATE api.job SET reserved = reserved + %s WHERE id = %s RETURNING key_id, payer", (amount, job_id))
            job = await cursor.fetchone()
            assert job is not None
            await self._set_aside(connection, job["key_id"], job["payer"], amount)

    async def _set_aside(self, connection: AsyncConnection[Any], key_id: str, payer: str, amount: int) -> None:
        cursor = await connection.execute(SET_ASIDE.encode(), {"a": amount, "k": key_id})
        if cursor.rowcount != 1:
            raise NoCredit(f"the job may cost {format_func(amount)}, which passes what is left of this key's budget", code="budget_exceeded")
        cursor = await connection.execute(
            "UPDATE api.payer SET reserved = reserved + %(a)s WHERE address = %(p)s AND issued + reserved + %(a)s <= credit",
            {"a": amount, "p": payer},
        )
        if cursor.rowcount != 1:
            cursor = await connection.execute("SELECT credit - issued - reserved AS free FROM api.payer WHERE address = %s", (payer,))
            row = await cursor.fetchone()
            free = int(row["free"]) if row else 0
            words = f"the job may cost {format_func(amount)}, {payer} has {format_func(max(0, free))} free"
            raise NoCredit(f"{words}; deposit FUNC, sign for more, or raise the limit for this gateway", code="insufficient_credit")

    async def add_leg(self, key: LegKey, offer: SessionOffer, signed: Signed, stop: RouteStop) -> None:
        """Note a session before it is opened, so that a restart knows whom to ask."""
        message, where = Jsonb(signed.message), Jsonb(msgspec.to_builtins(stop))
        async with self.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO api.leg (job_id, provider, epoch, model_id, offer, stop, most) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (key.job_id, key.provider, key.epoch, "0x" + offer.model_id.hex(), message, where, offer.most),
            )

    async def cap_leg(self, key: LegKey, completion_tokens: int) -> None:
        """A leg broke off: it is paid for that many tokens at most."""
        async with self.pool.connection() as connection:
            await self._set_leg(connection, key, "completion_tokens = %s", completion_tokens)

    async def issue(self, key: LegKey, completion_tokens: int, amount: int) -> int:
        """Raise the leg's stream by its amount, once; the stream's cumulative amount, to be signed. Committed before anything is signed."""
        async with self.pool.connection() as connection:
            given = {"j": key.job_id, "p": key.provider, "e": key.epoch, "n": completion_tokens, "a": amount}
            row = await (await connection.execute(ISSUE.encode(), given)).fetchone()
        assert row is not None
        return int(row["cumulative"])

    async def refuse(self, key: LegKey) -> None:
        """The stage signs nothing: take back what was issued. Should it redeem that voucher all the same, it only gets its next pay early."""
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT amount FROM api.leg WHERE job_id = %s AND provider = %s AND epoch = %s AND state IN ('open', 'asked') FOR UPDATE",
                (key.job_id, key.provider, key.epoch),
            )
            leg = await cursor.fetchone()
            if leg is None:
                return
            await self._set_leg(connection, key, "state = 'unpaid', amount = 0")
            await self._raise_stream(connection, key, -int(leg["amount"]))

    async def _set_leg(self, connection: AsyncConnection[Any], key: LegKey, change: str, *values: object, only: str = "true") -> bool:
        """Change a leg, if ``only`` holds of it; whether it did. Both texts are ours, never a caller's."""
        sql = f"UPDATE api.leg SET {change} WHERE job_id = %s AND provider = %s AND epoch = %s AND {only}"
        cursor = await connection.execute(sql.encode(), (*values, key.job_id, key.provider, key.epoch))
        return cursor.rowcount == 1

    async def _raise_stream(self, connection: AsyncConnection[Any], key: LegKey, amount: int) -> int:
        cursor = await connection.execute(
            "INSERT INTO api.voucher SELECT j.payer, l.provider, l.model_id, %(a)s FROM api.leg l JOIN api.job j ON j.id = l.job_id "
            "WHERE l.job_id = %(j)s AND l.provider = %(p)s AND l.epoch = %(e)s ON CONFLICT (payer, provider, model_id) "
            "DO UPDATE SET cumulative = api.voucher.cumulative + excluded.cumulative RETURNING payer, cumulative",
            {"a": amount, "j": key.job_id, "p": key.provider, "e": key.epoch},
        )
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute("UPDATE api.payer SET issued = issued + %s WHERE address = %s", (amount, row["payer"]))
        return int(row["cumulative"])

    async def close_leg(self, key: LegKey, reply: CloseReply) -> None:
        """The leg's receipt is here."""
        async with self.pool.connection() as connection:
            await self._set_leg(connection, key, "state = 'closed', reply = %s", Jsonb(msgspec.to_builtins(reply)), only="state = 'asked'")

    async def order_checks(self, job_id: str, verifier: str, model_id: bytes, amount: int) -> int:
        """Raise the verifier's stream by what its checks of a job cost; the stream's cumulative amount, to be signed. Committed before that."""
        async with self.pool.connection() as connection:
            given = {"j": job_id, "v": verifier, "m": "0x" + model_id.hex(), "a": amount}
            row = await (await connection.execute(ORDER_CHECKS.encode(), given)).fetchone()
        assert row is not None
        return int(row["cumulative"])

    async def refuse_checks(self, job_id: str, verifier: str) -> None:
        """The verifier took no order: take back what was issued."""
        async with self.pool.connection() as connection:
            await connection.execute(REFUSE_CHECKS.encode(), {"j": job_id, "v": verifier})

    async def note_findings(self, job_id: str, verifier: str, findings: list[dict[str, Any]]) -> None:
        """Keep what a verifier signed about a job's stages."""
        async with self.pool.connection() as connection:
            sql = "UPDATE api.check SET findings = %s WHERE job_id = %s AND verifier = %s"
            await connection.execute(sql, (Jsonb(findings), job_id, verifier))

    async def settle(self, job_id: str, state: str | None = None, completion_tokens: int | None = None) -> int:
        """Bring the job's figures in line with its legs: charge what was issued, hold what open legs may cost, release the rest.

        May be repeated. ``state`` ends the job. Returns what is charged, in wei.
        """
        async with transaction(self.pool) as connection:
            # Locked before its legs are read: two who settle it at once would else both release what is reserved.
            await connection.execute("SELECT FROM api.job WHERE id = %s FOR UPDATE", (job_id,))
            row = await (await connection.execute(SETTLE.encode(), {"j": job_id, "s": state, "n": completion_tokens})).fetchone()
        assert row is not None
        return int(row["charged"])

    async def unsettled(self) -> dict[str, list[StoredLeg]]:
        """This gateway's jobs that are open or have a leg without an end, with those legs."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT j.id, l.* FROM api.job j LEFT JOIN api.leg l ON l.job_id = j.id AND l.state IN ('open', 'asked') "
                "WHERE j.gateway = %s AND (j.state = 'open' OR l.state IS NOT NULL) ORDER BY j.created_at LIMIT 200",
                (self.gateway,),
            )
            rows = await cursor.fetchall()
        jobs: dict[str, list[StoredLeg]] = {row["id"]: [] for row in rows}
        for row in rows:
            if row["state"] is not None:
                key, offer = LegKey(row["job_id"], row["provider"], row["epoch"]), SessionOffer.from_json(row["offer"])
                stop = msgspec.convert(row["stop"], RouteStop)
                jobs[row["id"]].append(StoredLeg(key, offer, stop, row["state"], row["completion_tokens"]))
        return jobs

    async def set_anchor(self, key: LegKey, anchor: dict[str, Any]) -> None:
        """Keep the way from a leg's receipt to the chain."""
        async with self.pool.connection() as connection:
            await self._set_leg(connection, key, "anchor = %s", Jsonb(anchor))

    async def job(self, job_id: str) -> dict[str, Any] | None:
        """A job with its closed legs' stops, replies and anchors, in the order of their layers, and verifiers' findings; None where there is
        none."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, payer, model, charged::text, prompt_tokens, completion_tokens, state, extract(epoch FROM created_at)::bigint AS created, "
                "(SELECT count(*) FROM api.leg l WHERE l.job_id = j.id AND l.state IN ('open', 'asked')) AS unsettled, "
                "(SELECT COALESCE(jsonb_agg(jsonb_build_object('epoch', l.epoch, 'stop', l.stop, 'reply', l.reply, 'anchor', l.anchor) "
                "  ORDER BY (l.offer ->> 'firstLayer')::int, l.epoch), '[]') FROM api.leg l "
                " WHERE l.job_id = j.id AND l.state = 'closed') AS legs, "
                "(SELECT COALESCE(jsonb_agg(finding), '[]') FROM api.check c, jsonb_array_elements(c.findings) finding "
                " WHERE c.job_id = j.id) AS checks "
                "FROM api.job j WHERE id = %s",
                (job_id,),
            )
            return await cursor.fetchone()

    async def not_handed_in(self) -> list[dict[str, Any]]:
        """Legs whose receipts the indexer does not have yet: job_id, provider, epoch, reply."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT job_id, provider, epoch, reply FROM api.leg WHERE state = 'closed' AND NOT handed_in ORDER BY opened_at LIMIT 300"
            )
            return list(await cursor.fetchall())

    async def not_compared(self, seconds: int) -> list[dict[str, Any]]:
        """Some closed legs of the last ``seconds`` whose receipts were not compared with the anchored ones yet: job_id, provider, epoch, stop, reply.

        Any of them, so that those of a provider that is away keep no others waiting.
        """
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT job_id, provider, epoch, stop, reply FROM api.leg WHERE state = 'closed' AND NOT compared "
                "AND opened_at > now() - make_interval(secs => %s) ORDER BY random() LIMIT 300",
                (seconds,),
            )
            return list(await cursor.fetchall())

    async def mark_compared(self, key: LegKey) -> None:
        async with self.pool.connection() as connection:
            await self._set_leg(connection, key, "compared = true")

    async def mark_handed_in(self, key: LegKey) -> None:
        async with self.pool.connection() as connection:
            await self._set_leg(connection, key, "handed_in = true")
