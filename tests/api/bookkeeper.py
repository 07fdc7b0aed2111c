"""A process that keeps the books of made-up jobs at random until it is killed: ``python -m tests.api.bookkeeper URL KEY PAYER NAME SEED``."""

import asyncio
import random
import sys

from api import NoCredit
from api.budget import Budget, LegKey
from api.keys import ApiKey
from protocol.database import async_pool
from tests.api.test_money import REPLY, add_leg


async def run_job(budget: Budget, key: ApiKey, name: str, draw: random.Random) -> None:
    """A job whose steps come as they may: stages that sign, that refuse, that break off and are replaced."""
    legs: list[LegKey] = []
    try:
        await budget.reserve(key, name, "m", 5, 85, checks=10)
        for i in range(draw.randint(1, 4)):
            if i == 3:
                await budget.reserve_more(name, 25)
            legs.append(await add_leg(budget, name, f"0x{i}"))
    except NoCredit:
        if not legs:
            return
    for leg in legs:
        step = draw.choice(("close", "close", "refuse", "twice", "leave"))
        if step in ("close", "twice"):
            amount = draw.randint(5, 25)
            for _ in range(1 + (step == "twice")):
                await budget.issue(leg, 1, amount)
            await budget.close_leg(leg, REPLY)
        elif step == "refuse":
            await budget.issue(leg, 1, 9)
            await budget.refuse(leg)
    for verifier in ("0xv", "0xw")[: draw.randint(0, 2)]:
        await budget.order_checks(name, verifier, bytes(32), 5)
        if draw.random() < 0.5:
            await budget.refuse_checks(name, verifier)
    if legs and draw.random() < 0.9:
        await budget.settle(name, draw.choice(("done", "failed")), 1)


async def main() -> None:
    url, key_id, payer, gateway, seed = sys.argv[1:]
    draw, pool = random.Random(seed), async_pool(url)
    await pool.open()
    budget, key = Budget(pool, gateway), ApiKey(key_id, payer, None)
    print("ready", flush=True)
    for i in range(10**6):
        await asyncio.gather(*(run_job(budget, key, f"{gateway}-{seed}-{i}-{j}", draw) for j in range(4)))


if __name__ == "__main__":
    asyncio.run(main())
