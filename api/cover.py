"""What stands behind the gateway's promises: payers' credit read from the chain, its own bond allocated to providers, receipts handed in."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import structlog
from psycopg import Error as DatabaseError

from api.budget import Budget, LegKey
from api.checks import Checks
from api.models import Models
from api.peers import Peers
from api.routing import Router
from api.signing import Signer
from api.summaries import SUMMARY_SECONDS, Summaries, take
from protocol import ProtocolError
from protocol.chain import Chain
from protocol.database import AsyncPool, transaction
from protocol.units import FUNC

log = structlog.get_logger()

ALLOCATION = 100 * FUNC
"""Bond for each provider that serves a listed model: what may be promised to it between two redemptions."""
PAUSE_SECONDS = 1.0
ASK_SECONDS = 10
"""Between two questions to each provider at which share of its prices it takes bulk work, and to each verifier at which price checks."""
SWEEP_SECONDS = 60
"""Between two looks at tables that would grow."""
Work = Callable[[], Awaitable[None]]
UNKNOWN_PROVIDER = "0x0000000000000000000000000000000000000000"


@dataclass
class Cover:
    """One loop that keeps the gateway's books in step with the chain and the indexer. Of several gateways one does what changes either."""

    chain: Chain
    account: Signer
    budget: Budget
    pool: AsyncPool
    indexer_url: str
    models: Models
    router: Router
    checks: Checks
    summaries: Summaries
    peers: Peers
    sweeps: Sequence[Work] = ()
    """Of tables that would grow."""
    _summarised: int = 0
    _asked: int = 0
    _swept: int = 0

    async def run(self) -> None:
        """Until cancelled; what fails is logged and tried again."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while True:
                now = int(time.time())
                works: list[Work] = [
                    self._allocate,
                    self._refresh_all,
                    self.router.revive,
                    self.models.restore,
                    partial(self.summaries.put, self.pool, now),
                ]
                if now > self._asked + ASK_SECONDS:
                    self._asked = now
                    works += [self.router.ask_percents, self.checks.refresh]
                if self.peers.leads:
                    works += [partial(self._hand_in, http), partial(self._summarise, http, now)]
                if self.peers.leads and now > self._swept + SWEEP_SECONDS:
                    self._swept = now
                    works += self.sweeps
                for work in works:
                    try:
                        await work()
                    except (ProtocolError, DatabaseError, aiohttp.ClientError, TimeoutError) as error:
                        log.warning("will try again", reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def refresh_credit(self, payer: str) -> None:
        """Read what the payer's limit lets this gateway take, with what was taken already, since vouchers are cumulative."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT provider, model_id FROM api.voucher WHERE payer = %s", (payer,))
            streams = [(row["provider"], bytes.fromhex(row["model_id"].removeprefix("0x"))) for row in await cursor.fetchall()]
            row = await (await connection.execute("SELECT authorised FROM api.payer WHERE address = %s", (payer,))).fetchone()
        signed_for = 0 if row is None else int(row["authorised"])
        await self.budget.set_credit(payer, *await asyncio.to_thread(self.credit_of, payer, streams, signed_for))

    def credit_of(self, payer: str, streams: list[tuple[str, bytes]], signed_for: int) -> tuple[int, int]:
        """What the gateway may take in all, and what of it was taken. ``signed_for``: by a payer that signs its requests."""
        asked = [(payer, self.account.address, UNKNOWN_PROVIDER, model_id, signed_for) for model_id in self._model_ids()]
        free = [self.chain.call("PaymentEscrow", "availableWith", *stream)[0] for stream in asked]
        redeemed = sum(self.chain.call("Settlement", "redeemedOf", payer, self.account.address, provider, model_id) for provider, model_id in streams)
        return max(free, default=0) + redeemed, redeemed

    async def _refresh_all(self) -> None:
        """Of those who have any; another's credit is read when a key of its is made or used."""
        async with self.pool.connection() as connection:
            rows = await (await connection.execute("SELECT address FROM api.payer WHERE credit > 0 OR issued > 0")).fetchall()
        for row in rows:
            await self.refresh_credit(row["address"])

    def _model_ids(self) -> set[bytes]:
        return {model.model_id for model in self.models.values()}

    async def _allocate(self) -> None:
        await asyncio.to_thread(self._allocate_now)

    def _allocate_now(self) -> None:
        """Give each provider of a listed model its allocation, as far as the bond goes."""
        gateway = self.account.address
        # Refreshed here, so that no job waits for the node.
        providers = {offer.stop.provider for model_id in self._model_ids() for offer in self.router.refresh(model_id)}
        for provider in sorted(providers):
            if self.chain.call("PaymentEscrow", "allocationOf", gateway, provider) >= ALLOCATION // 2:
                self.router.backed.add(provider)
                continue
            if not self.peers.leads:
                continue
            balance, allocated, thawing, _ = self.chain.call("PaymentEscrow", "bondOf", gateway)
            if balance - allocated - thawing < ALLOCATION:
                log.warning("bond is used up", provider=provider, free=balance - allocated - thawing)
                return
            self.chain.send(self.account, "PaymentEscrow", "allocate", provider, ALLOCATION)
            self.router.backed.add(provider)
            log.info("allocated", provider=provider, amount=ALLOCATION)

    async def _hand_in(self, http: aiohttp.ClientSession) -> None:
        """Give the indexer the receipts of finished jobs, so that explorers can show them before they are anchored."""
        for leg in await self.budget.not_handed_in():
            async with http.post(f"{self.indexer_url}/v1/receipts", json=leg["reply"]["receipt"]) as answer:
                if answer.status >= 500:
                    return
            await self.budget.mark_handed_in(LegKey(leg["job_id"], leg["provider"], leg["epoch"]))

    async def _summarise(self, http: aiohttp.ClientSession, now: int) -> None:
        """Tell the indexer, signed, what work there was for whom and what ruled the others out."""
        if now < self._summarised + SUMMARY_SECONDS:
            return
        domain = self.chain.receipts_domain
        async with transaction(self.pool) as connection:
            told = await take(connection, self.account.address, now)
            signed = [await self.account.sign(summary, domain) for summary in told]
            body = [{"message": s.message, "signature": s.signature} for s in signed]
            async with http.post(f"{self.indexer_url}/v1/routing", json=body) as answer:
                if answer.status != 201:
                    log.warning("the indexer takes no routing summaries", status=answer.status, reason=(await answer.text())[:200])
        self._summarised = now

    async def verification(self, job_id: str) -> dict[str, Any] | None:
        """What the indexer knows of a job: signed, anchored, verified or convicted; None while it cannot be asked."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
                http.get(f"{self.indexer_url}/v1/jobs/{job_id}") as answer,
            ):
                return dict(await answer.json()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
