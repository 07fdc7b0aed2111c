"""What a key's owner asks about: credit, usage, and what one answer cost and who gave it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import aiohttp
from fastapi import APIRouter, Depends, Query, Request

from api import BadRequest, NoSuchModel
from api.budget import Budget
from api.keys import ApiKey, KeyStore
from protocol.database import AsyncPool, Row
from protocol.receipts import EXECUTION_CLASSES, StageReceipt
from protocol.units import FUNC

GROUPS = {"day": "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", "model": "model", "key": "key_id"}


@dataclass(frozen=True)
class Dollars:
    """FUNC in US dollars, by a rate that the gateway's operator sets; none where it sets none."""

    per_func: Decimal | None

    def of(self, wei: int) -> str | None:
        """Dollars as a decimal string with as many places as a wei needs not, but a token does."""
        return None if self.per_func is None else f"{Decimal(wei) / FUNC * self.per_func:.9f}"

    def priced(self, model: dict[str, Any]) -> dict[str, Any]:
        """A model with its prices in dollars as well."""
        if self.per_func is None or model["pricing"] is None:
            return model
        told = {**model, "pricing_usd": {name: f"{Decimal(price) * self.per_func:f}" for name, price in model["pricing"].items()}}
        return told if model["check_price"] is None else {**told, "check_price_usd": f"{Decimal(model['check_price']) * self.per_func:f}"}

    def beside(self, name: str, wei: int) -> dict[str, str | None]:
        """An amount in wei, and in dollars where there is a rate."""
        return {name: str(wei)} | ({} if self.per_func is None else {f"{name}_usd": self.of(wei)})


@dataclass
class Account:
    """Answers from the gateway's books; what is locked on chain, and until when, by the indexer."""

    pool: AsyncPool
    keys: KeyStore
    budget: Budget
    dollars: Dollars
    gateway: str
    indexer_url: str

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter()

        @router.get("/v1/credits")
        async def credits(key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            """What can be spent now, what is set aside for jobs that run, what was signed for and is not redeemed yet, and when what is locked
            becomes free. Amounts in wei of FUNC, as decimal strings."""
            return await self.credits(key)

        @router.get("/v1/usage")
        async def usage(
            key: ApiKey = Depends(caller),  # noqa: B008
            by: Annotated[list[Literal["day", "model", "key"]], Query(description="what to sum by; may be repeated")] = ["day", "model"],  # noqa: B006
            since: Annotated[datetime | None, Query(description="jobs from this time on, with its zone")] = None,
            limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        ) -> dict[str, Any]:
            """Jobs, tokens and cost of the key's payer, newest day first."""
            if since is not None and since.tzinfo is None:
                raise BadRequest(f"'since' is {since.isoformat()} without a time zone; end it with Z or %2B00:00", "since")
            return {"object": "list", "data": await self.usage(key.payer, list(dict.fromkeys(by)), since, limit)}

        @router.get("/v1/generation/{name}")
        async def generation(name: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            """One answer by its id: model, tokens, cost, and the stages that gave it."""
            return await self.generation(key.payer, name)

        return router

    async def credits(self, key: ApiKey) -> dict[str, Any]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT credit, issued, reserved, redeemed FROM api.payer WHERE address = %s", (key.payer,))
            row = await cursor.fetchone()
            cursor = await connection.execute(
                "SELECT id, model, reserved, created_at FROM api.job WHERE payer = %s AND reserved > 0 ORDER BY created_at LIMIT 100", (key.payer,)
            )
            running = await cursor.fetchall()
        credit, issued, reserved, redeemed = (int(row[name]) for name in ("credit", "issued", "reserved", "redeemed")) if row else (0, 0, 0, 0)
        return {
            "payer": key.payer,
            **self.dollars.beside("available", max(0, credit - issued - reserved)),
            **self.dollars.beside("reserved", reserved),
            **self.dollars.beside("pending", max(0, issued - redeemed)),
            **self.dollars.beside("spent", issued),
            "reservations": [self._reservation(job) for job in running],
            "on_chain": await self._locked(key.payer),
            "key": await self.keys.one(key.id),
            "meaning": {
                "reserved": "the most that running jobs may cost; what a job does not cost is free again when it ends",
                "pending": "signed for and not redeemed by the providers yet; it is theirs",
            },
        }

    def _reservation(self, job: Row) -> dict[str, Any]:
        amount = self.dollars.beside("amount", int(job["reserved"]))
        return {"job_id": job["id"], "model": job["model"], **amount, "since": job["created_at"].isoformat()}

    async def _locked(self, payer: str) -> dict[str, Any] | None:
        """The payer's deposit, and its limit for this gateway, as the indexer has them; None while it cannot be asked."""
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http:
                deposit = await _first(http, f"{self.indexer_url}/v1/facts/deposit?payer={payer}")
                limit = await _first(http, f"{self.indexer_url}/v1/facts/limit?payer={payer}&gateway={self.gateway}")
        except (aiohttp.ClientError, TimeoutError):
            return None
        told: dict[str, Any] = {"deposit": deposit.get("balance", "0"), "reserved_for_this_gateway": limit.get("reserved", "0")}
        if deposit.get("thawing", "0") != "0":
            told |= {"withdrawing": deposit["thawing"], "withdrawable_at": deposit["thawedAt"]}
        if limit:
            told |= {"limit_per_period": limit["amountPerPeriod"], "period_ends_at": limit["periodEnd"], "limit_ends_at": limit["endsAt"]}
        return told

    async def usage(self, payer: str, by: list[str], since: datetime | None, limit: int) -> list[dict[str, Any]]:
        columns = ", ".join(f"{GROUPS[name]} AS {name}" for name in by)
        places = ", ".join(str(i + 1) for i in range(len(by)))
        newest = ", ".join(f"{i + 1}{' DESC' if name == 'day' else ''}" for i, name in enumerate(by))
        query = (
            f"SELECT {columns}, count(*) AS jobs, sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens, "
            "sum(charged) AS cost FROM api.job WHERE payer = %(payer)s AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s) "
            f"GROUP BY {places} ORDER BY {newest} LIMIT %(limit)s"
        )
        async with self.pool.connection() as connection:
            rows = await (await connection.execute(query.encode(), {"payer": payer, "since": since, "limit": limit})).fetchall()
        return [{**row, **self.dollars.beside("cost", int(row.pop("cost")))} for row in rows]

    async def generation(self, payer: str, name: str) -> dict[str, Any]:
        job_id = name.rpartition("-")[2]
        job = await self.budget.job(job_id)
        if job is None or job["payer"] != payer:
            raise NoSuchModel(f"no answer {name!r} of this payer", code="no_such_generation")
        return {
            "id": job_id,
            "object": "generation",
            "model": job["model"],
            "created": job["created"],
            "state": job["state"],
            "prompt_tokens": job["prompt_tokens"],
            "completion_tokens": job["completion_tokens"],
            **self.dollars.beside("cost", int(job["charged"])),
            "stages": [_stage(StageReceipt.from_json(leg["reply"]["receipt"]["message"])) for leg in job["legs"]],
            "unsettled_stages": job["unsettled"],
        }


def _stage(receipt: StageReceipt) -> dict[str, Any]:
    return {
        "provider": receipt.provider,
        "layers": str(receipt.layers),
        "execution_class": EXECUTION_CLASSES.get(receipt.execution_class, "unknown"),
        "cached_tokens": receipt.cached_count,
        "completion_tokens": receipt.completion_tokens,
        "amount": str(receipt.amount),
        "receipt_number": receipt.number,
    }


async def _first(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url) as answer:
        rows = (await answer.json()).get("data", []) if answer.status == 200 else []
    return dict(rows[0]) if rows else {}
