"""Prometheus metrics: read from the follower when they are asked for, so that nothing is counted twice."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from indexer.following import Following

METRICS = {
    "funcnet_indexer_leading": "1 where this indexer is the one that writes",
    "funcnet_indexer_ready": "1 where /readyz is well",
    "funcnet_indexer_halted": "1 where a final block was replaced, and nothing is written or told until somebody has looked",
    "funcnet_indexer_block": "the newest block in the tables",
    "funcnet_indexer_head": "the newest block of the chain, as last seen",
    "funcnet_indexer_finalized": "the newest block in the tables that is final",
    "funcnet_indexer_blocks_total": "blocks written",
    "funcnet_indexer_events_total": "events written",
    "funcnet_indexer_reorgs_total": "reorgs undone",
    "funcnet_indexer_deepest_reorg": "blocks of the deepest reorg undone",
    "funcnet_indexer_missing_logs_total": "times that logs were missing by their numbers",
    "funcnet_indexer_healed_total": "times that missing logs were got after all",
    "funcnet_indexer_stale_heads_total": "times that a node told an older head than another had",
    "funcnet_indexer_faults_total": "steps that failed",
    "funcnet_indexer_live_seconds": "seconds from the notice of the newest block to its rows",
}
"""Each metric and what it says; docs/indexer.md lists them, and a test compares."""


class Metrics(Collector):
    """What a follower knows of itself."""

    def __init__(self, following: "Following") -> None:
        self.following = following
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by the library at each scrape."""
        values = self._values()
        for name, words in METRICS.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, words, value=values[name])

    def _values(self) -> dict[str, float]:
        following = self.following
        cursor, counts = following.cursor, following.follower.counts
        return {
            "funcnet_indexer_leading": float(following.leading),
            "funcnet_indexer_ready": float(following.fault is None),
            "funcnet_indexer_halted": float(bool(cursor and cursor.halted)),
            "funcnet_indexer_block": cursor.number if cursor else 0,
            "funcnet_indexer_head": cursor.head if cursor else 0,
            "funcnet_indexer_finalized": cursor.finalized if cursor else 0,
            "funcnet_indexer_blocks_total": counts.blocks,
            "funcnet_indexer_events_total": counts.events,
            "funcnet_indexer_reorgs_total": counts.reorgs,
            "funcnet_indexer_deepest_reorg": counts.deepest_reorg,
            "funcnet_indexer_missing_logs_total": counts.missing,
            "funcnet_indexer_healed_total": counts.healed,
            "funcnet_indexer_stale_heads_total": counts.stale,
            "funcnet_indexer_faults_total": following.faults,
            "funcnet_indexer_live_seconds": following.live_seconds,
        }
