"""The books while processes that write them are killed: never more than was set aside, nothing twice, nothing lost."""

import asyncio
import os
import random
import sys

import pytest

from api.budget import Budget
from funcnet.network import Network
from protocol.database import AsyncPool
from tests.api.test_money import PAYER, make_key, pool  # noqa: F401

BOOKS = """
SELECT k.budget, k.spent, k.reserved, p.credit, p.issued, p.reserved AS payer_reserved,
       (SELECT COALESCE(sum(charged), 0) FROM api.job) AS charged, (SELECT COALESCE(sum(reserved), 0) FROM api.job) AS held,
       (SELECT COALESCE(sum(cumulative), 0) FROM api.voucher) AS vouchers, (SELECT COALESCE(sum(amount), 0) FROM api.leg) AS legs,
       (SELECT COALESCE(sum(amount), 0) FROM api.check) AS checks,
       (SELECT count(*) FROM api.job) AS jobs
FROM api.key k JOIN api.payer p ON p.address = k.payer
"""


async def require_books(pool: AsyncPool) -> dict[str, int]:  # noqa: F811
    """What has to hold between any two transactions."""
    async with pool.connection() as connection:
        row = await (await connection.execute(BOOKS.encode())).fetchone()
    assert row is not None
    books = {name: int(value) for name, value in row.items()}
    assert books["spent"] == books["charged"]
    assert books["reserved"] == books["payer_reserved"] == books["held"]
    assert books["issued"] == books["vouchers"] == books["legs"] + books["checks"]
    assert books["issued"] <= books["credit"]
    assert books["spent"] + books["reserved"] <= books["budget"]
    return books


SEEDS = range(20 if os.environ.get("FUNCNET_LONG") else 1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_books__killed_writers__add_up_at_any_time_and_settle_to_the_last_wei(pool: AsyncPool, small: Network, seed: int) -> None:  # noqa: F811
    draw, key = random.Random(seed), await make_key(pool, 20_000, credit=15_000)
    command = [sys.executable, "-m", "tests.api.bookkeeper", small.database_for("money"), key.id, PAYER]

    async def start(name: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(*command, f"writer-{name}", str(seed), stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 30)
        return process

    writers = list(await asyncio.gather(*(start(i) for i in range(2))))
    try:
        for kill in range(2, 6):
            await asyncio.sleep(draw.uniform(0.05, 0.6))
            writers[0].kill()
            await writers.pop(0).wait()
            await require_books(pool)
            writers.append(await start(kill))
    finally:
        for writer in writers:
            writer.kill()
            await writer.wait()
    assert (await require_books(pool))["jobs"] > 50
    for name in range(6):
        budget = Budget(pool, f"writer-{name}")
        while unsettled := await budget.unsettled():
            for job_id, legs in unsettled.items():
                for leg in legs:
                    await budget.refuse(leg.key)
                await budget.settle(job_id, "failed", 0)
    books = await require_books(pool)
    assert books["reserved"] == 0
    assert books["spent"] == books["issued"] > 0
