"""Is the work worth its price? A gateway names the prices of a session; they have to be those that this provider offers on chain, or more."""

import time
from dataclasses import dataclass, field
from typing import Any

from protocol import Unavailable
from protocol.chain import Chain, struct_list
from protocol.receipts import SessionOffer, bulk_price
from provider import Refused

FRESH_SECONDS = 30.0


@dataclass
class Pricing:
    """The provider's own offers on chain, at most FRESH_SECONDS old; older ones serve while the node is away."""

    chain: Chain
    provider: str
    bulk_percent: int = 100
    """Of its prices, for work that waits while others are served."""
    _offers: list[dict[str, Any]] = field(default_factory=list)
    _read_at: float = -FRESH_SECONDS

    def require(self, offer: SessionOffer, bulk: bool = False) -> None:
        """Raise Refused for a stage that is not offered, or for less than it is offered for; Unavailable where nothing is known yet."""
        percent = self.bulk_percent if bulk else 100
        if time.monotonic() - self._read_at < FRESH_SECONDS and not self._fault(offer, percent):
            return
        self._read()  # what is too cheap by an old look may have become cheaper
        if fault := self._fault(offer, percent):
            raise Refused(fault)

    def _fault(self, offer: SessionOffer, percent: int) -> str:
        """What is wrong with the offer's prices, empty where nothing is."""
        stage = (offer.model_id, offer.first_layer, offer.end_layer, offer.execution_class)
        given: tuple[int, ...] = offer.input_price, offer.cached_price, offer.output_price
        found, asked = False, given
        for own in self._offers:
            if not own["active"] or (own["modelId"], own["firstLayer"], own["endLayer"], own["executionClass"]) != stage:
                continue
            asked = tuple(bulk_price(own[name], percent) for name in ("inputPrice", "cachedPrice", "outputPrice"))
            found = True
            if all(g >= a for g, a in zip(given, asked, strict=True)):
                return ""
        if not found:
            return f"layers {offer.layers} of model {offer.model_id.hex()[:16]} are not offered in this class by {self.provider} on chain"
        words = f"{given} wei per million input, cached and output tokens are offered, {asked} are asked"
        return f"{words} on chain" if percent == 100 else f"{words} for bulk work"

    def _read(self) -> None:
        try:
            values = self.chain.call("ProviderRegistry", "offersOf", self.provider)
        except Unavailable:
            if not self._offers:
                raise
            return
        self._offers, self._read_at = struct_list("ProviderRegistry", "offersOf", values), time.monotonic()
