"""Routing summaries: a gateway's signed word on what work it had for a provider, and what ruled the provider out of the rest."""

from dataclasses import dataclass
from typing import ClassVar

from protocol.typed import U32, U64, Addr, Bytes32, TypedStruct

REASONS = {
    "price": "a chain of cheaper stages was taken",
    "load": "another stage at the same price had fewer jobs, or was drawn",
    "bond": "the gateway has put up no bond for the provider yet",
    "execution_class": "the job asked for another execution class",
    "reachability": "the provider had just failed, or refused the job",
    "wish": "the developer left the provider out, or asked for a lower price",
    "prefix": "the rows that the prompt begins with lay at another provider",
    "no_chain": "no other stages were there to make a whole of it; the job was refused",
}
"""What can rule an offer out, and what it means."""


@dataclass(frozen=True)
class RoutingSummary(TypedStruct):
    """Of one provider's offers of one model by one gateway, from ``since`` until ``until`` (Unix seconds). ``jobs``: that there were; ``chosen``:
    that the provider got; the others by what ruled it out, so that all of them sum to ``jobs``."""

    TYPE_NAME: ClassVar[str] = "RoutingSummary"

    gateway: Addr
    provider: Addr
    model_id: Bytes32
    since: U64
    until: U64
    jobs: U32
    chosen: U32
    price: U32
    load: U32
    bond: U32
    execution_class: U32
    reachability: U32
    wish: U32
    prefix: U32
    no_chain: U32

    @property
    def adds_up(self) -> bool:
        return self.since <= self.until and self.jobs == self.chosen + sum(getattr(self, reason) for reason in REASONS)
