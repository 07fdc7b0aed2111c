"""Counts why each provider got a job or not, for the routing summaries that answer *why no work*. No money: a crash loses the last of them."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from psycopg import AsyncConnection

from api.routing import StageOffer, Wish
from protocol.database import AsyncPool, Row
from protocol.routing import REASONS, RoutingSummary

SUMMARY_SECONDS = 10.0


@dataclass(frozen=True)
class Routing:
    """How one job was routed. ``offers``: all of its model; ``route``: the stages taken, none where there was no chain; ``sticky``: taken for their
    rows; ``away``: providers that had failed or refused."""

    offers: Sequence[StageOffer]
    route: Sequence[StageOffer]
    wish: Wish
    backed: Collection[str]
    away: Collection[str]
    sticky: bool
    prompt: int
    completion: int

    def reason(self, offer: StageOffer) -> str:
        """Why an offer was not taken: one of REASONS."""
        provider = offer.stop.provider
        if offer.execution_class not in self.wish.classes:
            return "execution_class"
        if provider not in self.backed:
            return "bond"
        if provider in self.away:
            return "reachability"
        if not self.wish.admits(provider):
            return "wish"
        if not self.route:
            return "wish" if self.wish.most_input is not None or self.wish.most_output is not None else "no_chain"
        if self.sticky:
            return "prefix"
        taken = [stage for stage in self.route if stage.layers == offer.layers]
        as_cheap = any(offer.cost(self.prompt, self.completion) <= stage.cost(self.prompt, self.completion) for stage in taken)
        return "load" if as_cheap and self.wish.sort == "price" and not self.wish.order else "price"

    def outcomes(self) -> Iterable[tuple[str, str]]:
        """Each provider with an offer, and `chosen` or what ruled it out: of several offers, that which came closest."""
        order = list(REASONS)
        for provider in dict.fromkeys(offer.stop.provider for offer in self.offers):
            if any(stage.stop.provider == provider for stage in self.route):
                yield provider, "chosen"
            else:
                yield provider, min((self.reason(offer) for offer in self.offers if offer.stop.provider == provider), key=order.index)


@dataclass
class Summaries:
    """By provider and model. Counted here, and brought into the database, where one gateway takes those of all to sign them."""

    since: int
    counts: dict[tuple[str, bytes], Counter[str]] = field(default_factory=dict)

    def note(self, model_id: bytes, routing: Routing) -> None:
        """Count one job."""
        for provider, outcome in routing.outcomes():
            self.counts.setdefault((provider, model_id), Counter())[outcome] += 1

    async def put(self, pool: AsyncPool, now: int) -> None:
        """Bring what was counted into the database; counting begins anew."""
        counts, since = self.counts, self.since
        rows = [(*key, outcome, count, since) for key, counted in counts.items() for outcome, count in counted.items()]
        async with pool.connection() as connection:
            await connection.cursor().executemany(
                "INSERT INTO api.routing AS r VALUES (%s, %s, %s, %s, %s) ON CONFLICT (provider, model_id, outcome) "
                "DO UPDATE SET count = r.count + excluded.count, since = least(r.since, excluded.since)",
                sorted(rows),  # in one order, so that two gateways do not wait for each other
            )
            self.counts, self.since = {}, now


async def take(connection: AsyncConnection[Row], gateway: str, now: int) -> list[RoutingSummary]:
    """What all gateways counted, to be signed; gone from the database once the caller's transaction is committed."""
    rows = await (await connection.execute("DELETE FROM api.routing RETURNING *")).fetchall()
    counts: dict[tuple[str, bytes], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row["provider"], bytes(row["model_id"])), Counter())[row["outcome"]] += row["count"]
    since = min((row["since"] for row in rows), default=now)
    return [
        RoutingSummary(gateway, provider, model_id, since, now, counted.total(), counted["chosen"], *(counted[reason] for reason in REASONS))
        for (provider, model_id), counted in counts.items()
    ]
