"""Prometheus metrics of the gateway. Labels are few and known beforehand: a path that nobody serves is one label, whatever it is."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from api.jobs import Jobs

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
METRICS = {
    "funcnet_gateway_requests_total": "answers, by route and status",
    "funcnet_gateway_request_seconds": "seconds from a request to its status, by route; of a stream that is the first text",
    "funcnet_gateway_jobs": "jobs that run now",
    "funcnet_gateway_sessions": "sessions open at providers",
    "funcnet_gateway_resting_providers": "providers that failed and are passed over until they answer again",
    "funcnet_gateway_replacement_seconds": "streams that went on with other stages, and seconds from where one was seen to fail to the next token",
    "funcnet_gateway_tokens_per_second": "tokens a second over the last ten seconds, by model",
    "funcnet_gateway_unsettled_jobs": "jobs that ended and wait for the database",
}
"""Each metric and what it says; docs/api.md lists them, and a test compares."""


class Metrics(Collector):
    """Counts answers, and reads the rest from the jobs when it is asked for."""

    def __init__(self, jobs: "Jobs") -> None:
        self.jobs = jobs
        self.registry = CollectorRegistry()
        self.requests = Counter("funcnet_gateway_requests", METRICS["funcnet_gateway_requests_total"], ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "funcnet_gateway_request_seconds", METRICS["funcnet_gateway_request_seconds"], ("route",), buckets=SECONDS, registry=self.registry
        )
        self.registry.register(self)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer whose status went out."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Called by the library at each scrape."""
        settler, router = self.jobs.settler, self.jobs.router
        values = {
            "funcnet_gateway_jobs": len(settler.live),
            "funcnet_gateway_sessions": sum(settler.load().values()),
            "funcnet_gateway_resting_providers": len(router.resting),
            "funcnet_gateway_unsettled_jobs": len(settler.ended),
        }
        for name, value in values.items():
            yield GaugeMetricFamily(name, METRICS[name], value=value)
        name = "funcnet_gateway_replacement_seconds"
        yield SummaryMetricFamily(name, METRICS[name], count_value=router.replacements, sum_value=router.replacement_seconds)
        rates = GaugeMetricFamily("funcnet_gateway_tokens_per_second", METRICS["funcnet_gateway_tokens_per_second"], labels=["model"])
        for model, meter in self.jobs.meters.items():
            rates.add_metric([model], meter.rate())
        yield rates
