"""Choose the stages for a job: the cheapest chain of offers that covers all layers, and of equal ones the least busy."""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import structlog

from api import NoRoute
from protocol import Unavailable
from protocol.chain import Chain, struct_list
from protocol.receipts import execution_class_id, job_cost
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.typed import ZERO32
from protocol.units import LayerRange
from protocol.wire import AttachRequest, RouteStop, SessionProgress

log = structlog.get_logger()

NO_LOAD: Mapping[str, int] = MappingProxyType({})
FRESH_SECONDS = 2.0
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

    def cost(self, prompt: int, completion: int, cached: int = 0) -> int:
        return job_cost(prompt, cached, completion, self.input_price, self.cached_price, self.output_price)


def cheapest_route(
    offers: Sequence[StageOffer], layers: LayerRange, prompt: int, completion: int, load: Mapping[str, int] = NO_LOAD
) -> list[StageOffer] | None:
    """The chain of offers over ``layers`` of least cost, then of fewest stages, then whose stages have fewest jobs, then earliest in the list; None
    where there is none.

    A model that fits on one provider is not split at the same price: fewer stages win ties. A provider serves one stage of a job. ``load``: jobs
    by provider.
    """
    best: dict[int, tuple[int, int, int, list[StageOffer]]] = {layers.first: (0, 0, 0, [])}
    for edge in range(layers.first, layers.end):
        if edge not in best:
            continue
        cost, hops, jobs, route = best[edge]
        for offer in offers:
            if offer.layers.first != edge or any(offer.stop.provider == stage.stop.provider for stage in route):
                continue
            candidate = (cost + offer.cost(prompt, completion), hops + 1, jobs + load.get(offer.stop.provider, 0), [*route, offer])
            known = best.get(offer.layers.end)
            if known is None or candidate[:3] < known[:3]:
                best[offer.layers.end] = candidate
    return best[layers.end][3] if layers.end in best else None


@dataclass
class Router:
    """Offers from the chain, fresh to a few seconds; providers that just failed are passed over until they answer again."""

    chain: Chain
    execution_class: str = "float32/sdpa"
    load: Callable[[], Mapping[str, int]] = dict
    """How many jobs this gateway has at each provider now."""
    backed: set[str] = field(default_factory=set)
    """Providers to which this gateway has allocated bond; others would refuse its sessions."""
    _offers: dict[bytes, tuple[float, list[StageOffer]]] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)
    """Providers that failed, with the time before which nobody asks whether they are back."""

    def offers(self, model_id: bytes) -> list[StageOffer]:
        """All offers of a model by providers that may be given work. Blocks on the node at most every few seconds."""
        looked, offers = self._offers.get(model_id, (-FRESH_SECONDS, []))
        if time.monotonic() - looked > FRESH_SECONDS:
            try:
                answers = self.chain.call("ProviderRegistry", "offersFor", model_id)
            except Unavailable:
                if not offers:
                    raise
                return offers  # serving goes on while the node is away
            offers = [_stage_offer(entry) for entry in struct_list("ProviderRegistry", "offersFor", answers)]
            self._offers[model_id] = (time.monotonic(), offers)
        return offers

    def choose(self, model_id: bytes, layers: LayerRange, prompt: int, completion: int, passed_over: Collection[str] = ()) -> list[StageOffer]:
        """The cheapest stages over ``layers`` without ``passed_over``; of equal ones the least busy, or any. Raises NoRoute with the reason."""
        usable = self._usable(model_id, passed_over)
        route = cheapest_route(random.sample(usable, len(usable)), layers, prompt, completion, self.load())
        if route is None:
            covered = sorted({str(offer.layers) for offer in usable})
            words = f"offered are layers {', '.join(covered)}" if covered else "no provider offers any layers"
            unbacked = {offer.stop.provider for offer in self._in_class(model_id)} - self.backed
            words += f", {len(unbacked)} provider(s) wait for this gateway's bond" if unbacked else ""
            rest = f", {len(self.resting)} provider(s) that failed are passed over until they answer again" if self.resting else ""
            raise NoRoute(f"no chain of stages covers layers {layers}: {words}{rest}; try again shortly", code="no_route")
        return route

    def still(self, model_id: bytes, stops: Sequence[RouteStop]) -> list[StageOffer] | None:
        """The offers of an earlier route's stages, where all of them may be given work as they might then."""
        offers = {offer.stop: offer for offer in self._usable(model_id)}
        return [offers[stop] for stop in stops] if all(stop in offers for stop in stops) else None

    def _in_class(self, model_id: bytes) -> list[StageOffer]:
        wanted = execution_class_id(self.execution_class)
        return [offer for offer in self.offers(model_id) if offer.execution_class == wanted]

    def _usable(self, model_id: bytes, passed_over: Collection[str] = ()) -> list[StageOffer]:
        providers = self.backed - self.resting.keys() - set(passed_over)
        return [offer for offer in self._in_class(model_id) if offer.stop.provider in providers]

    def failed(self, provider: str) -> None:
        """Pass the provider over until ``revive`` finds it back."""
        self.resting[provider] = time.monotonic() + COOLDOWN_SECONDS

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
