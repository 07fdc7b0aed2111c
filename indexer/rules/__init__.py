"""What each event does to the facts: one module an area, each imported so that its rules are known."""

from indexer.facts import RULES
from indexer.rules import market, registry, staking, verification

__all__ = ["RULES", "market", "registry", "staking", "verification"]
