"""Choose the stages for a job: the cheapest chain of offers that covers all layers, and of equal ones the least busy."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import structlog

from api import NoRoute
from protocol import Unavailable
from protocol.chain import Chain, struct_list
from protocol.receipts import bulk_price, execution_class_id, job_cost
from protocol.stage_rpc import StageClient, StageClients, StageRefused, StageUnavailable
from protocol.typed import ZERO32
from protocol.units import LayerRange, format_func
from protocol.wire import AttachRequest, RouteStop, SessionProgress, StageStatus, StatusRequest

log = structlog.get_logger()

NO_LOAD: Mapping[str, int] = MappingProxyType({})
FRESH_SECONDS = 3.0
COOLDOWN_SECONDS = 3.0


@dataclass(frozen=True)
class StageOffer:
    """An offer as the chain lists it, with how to reach its provider."""

    stop: RouteStop
    execution_class: bytes
    input_price: int
    cached_price: int
    output_price: int

    @property
    def layers(self) -> LayerRange:
        return LayerRange(self.stop.first_layer, self.stop.end_layer)

    def at(self, percent: int) -> "StageOffer":
        """The same at a share of its prices."""
        return StageOffer(
            self.stop,
            self.execution_class,
            bulk_price(self.input_price, percent),
            bulk_price(self.cached_price, percent),
            bulk_price(self.output_price, percent),
        )

    def cost(self, prompt: int, completion: int, cached: int = 0) -> int:
        return job_cost(prompt, cached, completion, self.input_price, self.cached_price, self.output_price)


Sort = Literal["price", "latency", "throughput"]
_KEYS: dict[Sort, tuple[int, ...]] = {"price": (0, 1, 2, 3), "latency": (0, 2, 3, 1), "throughput": (0, 3, 2, 1)}
"""By which of (rank in the order asked for, cost, stages, jobs) routes are compared, first to last."""


@dataclass(frozen=True)
class Wish:
    """What a developer asks of the stages. ``classes``: execution classes, one of which all of them have; ``only`` and ``ignore``: providers;
    ``order``: those to take first; ``most_input`` and ``most_output``: wei per million tokens, all stages together."""

    classes: tuple[bytes, ...]
    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    sort: Sort = "price"
    most_input: int | None = None
    most_output: int | None = None
    bulk: bool = False
    """Work that may wait, at the providers' share for such."""
    verified: bool = False
    """Every stage is to be checked before the answer is final, for ``most_check`` wei per million rows of a stage at most."""
    most_check: int | None = None

    def admits(self, provider: str) -> bool:
        return provider not in self.ignore and (self.only is None or provider in self.only)

    def rank(self, provider: str) -> int:
        return self.order.index(provider) if provider in self.order else len(self.order)

    def capped(self, most_input: int | None, most_output: int | None) -> "Wish":
        """The same, and no dearer than that."""
        return replace(self, most_input=_lower(self.most_input, most_input), most_output=_lower(self.most_output, most_output))

    def too_dear(self, route: Sequence[StageOffer]) -> str:
        """Which of the most that is to be paid a route passes, empty where none."""
        sums = {"prompt": sum(o.input_price for o in route), "completion": sum(o.output_price for o in route)}
        for name, most in (("prompt", self.most_input), ("completion", self.most_output)):
            if most is not None and sums[name] > most:
                return f"{name} tokens cost {format_func(sums[name])} a million, {format_func(most)} were to be paid at most"
        return ""


def _lower(one: int | None, other: int | None) -> int | None:
    return min((most for most in (one, other) if most is not None), default=None)


DEFAULT_WISH = Wish((execution_class_id("float32/sdpa"),))


def best_route(
    offers: Sequence[StageOffer], layers: LayerRange, prompt: int, completion: int, load: Mapping[str, int] = NO_LOAD, wish: Wish = DEFAULT_WISH
) -> list[StageOffer] | None:
    """The chain of offers over ``layers`` that is best as the wish sorts; by price: of least cost, then of fewest stages, then whose stages have
    fewest jobs, then earliest in the list. None where there is none.

    A model that fits on one provider is not split at the same price: fewer stages win ties. A provider serves one stage of a job. ``load``: jobs
    by provider.
    """
    best: dict[int, tuple[tuple[int, ...], list[StageOffer]]] = {layers.first: ((0, 0, 0, 0), [])}
    for edge in layers:
        if edge not in best:
            continue
        so_far, route = best[edge]
        for offer in offers:
            provider = offer.stop.provider
            if offer.layers.first != edge or any(provider == stage.stop.provider for stage in route):
                continue
            own = (wish.rank(provider), offer.cost(prompt, completion), 1, load.get(provider, 0))
            candidate = tuple(a + b for a, b in zip(so_far, own, strict=True))
            known = best.get(offer.layers.end)
            if known is None or _sorted(candidate, wish) < _sorted(known[0], wish):
                best[offer.layers.end] = candidate, [*route, offer]
    return best[layers.end][1] if layers.end in best else None


def _sorted(value: tuple[int, ...], wish: Wish) -> tuple[int, ...]:
    return tuple(value[i] for i in _KEYS[wish.sort])


@dataclass
class Router:
    """Offers from the chain, fresh to a few seconds; providers that just failed are passed over until they answer again."""

    chain: Chain
    load: Callable[[], Mapping[str, int]] = dict
    """How many jobs this gateway has at each provider now."""
    backed: set[str] = field(default_factory=set)
    """Providers to which this gateway has allocated bond; others would refuse its sessions."""
    bulk_percent: dict[str, int] = field(default_factory=dict)
    """Share of its prices at which a provider takes bulk work, where it said one."""
    clients: StageClients = field(default_factory=StageClients)
    _offers: dict[bytes, tuple[float, list[StageOffer]]] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)
    """Providers that failed, with the time before which nobody asks whether they are back."""
    replacements: int = 0
    replacement_seconds: float = 0.0
    """In all, from where a stage was seen to fail to the next token."""

    def offers(self, model_id: bytes) -> list[StageOffer]:
        """All offers of a model by providers that may be given work. Blocks on the node where nobody has refreshed them for a few seconds."""
        looked, offers = self._offers.get(model_id, (-FRESH_SECONDS, []))
        if time.monotonic() - looked > FRESH_SECONDS:
            try:
                return self.refresh(model_id)
            except Unavailable:
                if not offers:
                    raise  # else serving goes on while the node is away
        return offers

    def refresh(self, model_id: bytes) -> list[StageOffer]:
        """Read a model's offers. Blocks on the node. Raises Unavailable."""
        answers = self.chain.call("ProviderRegistry", "offersFor", model_id)
        offers = [_stage_offer(entry) for entry in struct_list("ProviderRegistry", "offersFor", answers)]
        self._offers[model_id] = (time.monotonic(), offers)
        return offers

    def known(self, model_id: bytes) -> list[StageOffer]:
        """All offers of a model as last read."""
        return self._offers.get(model_id, (0.0, []))[1]

    def choose(
        self, model_id: bytes, layers: LayerRange, prompt: int, completion: int, passed_over: Collection[str] = (), wish: Wish = DEFAULT_WISH
    ) -> list[StageOffer]:
        """The best stages over ``layers`` without ``passed_over``; of equal ones the least busy, or any. Raises NoRoute with the reason."""
        usable = self._usable(model_id, wish, passed_over)
        sorts: list[Sort] = [wish.sort, "price"]  # what is best otherwise may be too dear
        found: list[list[StageOffer]] = []
        too_dear, load = "", self.load()
        for execution_class in wish.classes:
            offers = [offer for offer in usable if offer.execution_class == execution_class]
            shuffled = random.sample(offers, len(offers))
            for sort in dict.fromkeys(sorts):
                route = best_route(shuffled, layers, prompt, completion, load, replace(wish, sort=sort))
                too_dear = wish.too_dear(route) if route else too_dear
                if route and not too_dear:
                    found.append(route)
                    break
        if found:
            return min(found, key=lambda route: sum(stage.cost(prompt, completion) for stage in route))
        raise NoRoute(self._why_none(model_id, layers, usable, wish, too_dear), code="no_route")

    def _why_none(self, model_id: bytes, layers: LayerRange, usable: Sequence[StageOffer], wish: Wish, too_dear: str) -> str:
        if too_dear:
            return f"no chain of stages is cheap enough: {too_dear}; raise provider.max_price, or the key's own limit"
        covered = sorted({str(offer.layers) for offer in usable})
        words = f"offered are layers {', '.join(covered)}" if covered else "no provider offers any layers"
        wanted = [offer.stop.provider for offer in self._in_class(model_id, wish)]
        unbacked = set(wanted) - self.backed
        words += f", {len(unbacked)} provider(s) wait for this gateway's bond" if unbacked else ""
        words += f", {len(self.resting)} provider(s) that failed are passed over until they answer again" if self.resting else ""
        left_out = {provider for provider in wanted if not wish.admits(provider)}
        words += f", {len(left_out)} provider(s) are left out by provider.only or provider.ignore" if left_out else ""
        return f"no chain of stages covers layers {layers}: {words}; try again shortly"

    def still(self, model_id: bytes, stops: Sequence[RouteStop], wish: Wish = DEFAULT_WISH) -> list[StageOffer] | None:
        """The offers of an earlier route's stages, where all of them may be given work as they might then."""
        offers = {offer.stop: offer for offer in self._usable(model_id, wish)}
        route = [offers[stop] for stop in stops] if all(stop in offers for stop in stops) else []
        return route if len({offer.execution_class for offer in route}) == 1 and not wish.too_dear(route) else None

    def _in_class(self, model_id: bytes, wish: Wish) -> list[StageOffer]:
        return [offer for offer in self.offers(model_id) if offer.execution_class in wish.classes]

    def _usable(self, model_id: bytes, wish: Wish, passed_over: Collection[str] = ()) -> list[StageOffer]:
        providers = self.backed - self.resting.keys() - set(passed_over)
        usable = [offer for offer in self._in_class(model_id, wish) if offer.stop.provider in providers and wish.admits(offer.stop.provider)]
        return [offer.at(self.bulk_percent.get(offer.stop.provider, 100)) for offer in usable] if wish.bulk else usable

    async def ask_percents(self) -> None:
        """Ask providers at which share of their prices they take bulk work; of one that does not answer the last word counts."""
        stops = {offer.stop.provider: offer.stop for _, offers in self._offers.values() for offer in offers if offer.stop.provider in self.backed}

        async def ask(stop: RouteStop) -> None:
            with contextlib.suppress(StageUnavailable, StageRefused):
                client = await self.clients.to(stop)
                self.bulk_percent[stop.provider] = (await client.call("Status", StatusRequest(), StageStatus, timeout=5)).bulk_percent

        await asyncio.gather(*(ask(stop) for provider, stop in stops.items() if provider not in self.resting))

    def failed(self, provider: str) -> None:
        """Pass the provider over until ``revive`` finds it back."""
        self.resting[provider] = time.monotonic() + COOLDOWN_SECONDS

    def replaced(self, seconds: float) -> None:
        """Count a stream that went on so long after one of its stages was seen to fail."""
        self.replacements += 1
        self.replacement_seconds += seconds

    async def revive(self) -> None:
        """Ask those that have rested whether they are back."""
        due = {provider for provider, until in self.resting.items() if until <= time.monotonic()}
        stops = {offer.stop.provider: offer.stop for _, offers in self._offers.values() for offer in offers}
        for provider in due:
            if provider not in stops or await _answers(stops[provider]):
                self.resting.pop(provider, None)
                log.info("provider is back", provider=provider)
            else:
                self.failed(provider)


async def _answers(stop: RouteStop) -> bool:
    """Whether the stage answers at all: it has no such session, and says so."""
    try:
        client = await StageClient.to(stop)
        try:
            await client.call("Progress", AttachRequest(ZERO32.hex(), 0), SessionProgress, timeout=2)
        finally:
            await client.close()
    except StageRefused:
        return True
    except StageUnavailable:
        return False
    return True


def _stage_offer(entry: dict[str, object]) -> StageOffer:
    offer = entry["offer"]
    assert isinstance(offer, dict)
    digest = entry["tlsCertHash"]
    assert isinstance(digest, bytes)
    stop = RouteStop(
        str(entry["provider"]), str(entry["operator"]), str(entry["endpoint"]), "0x" + digest.hex(), offer["firstLayer"], offer["endLayer"]
    )
    return StageOffer(stop, offer["executionClass"], offer["inputPrice"], offer["cachedPrice"], offer["outputPrice"])
