"""What the server measures of itself, for Prometheus. Labels are few and bounded: routes and statuses, never names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Counter(
            "feature_server_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "feature_server_request_seconds",
            "Seconds from a request's headers to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_work = Gauge("feature_server_requests_in_work", "Requests in work.", registry=self._registry)
        self.values = Counter("feature_server_values", "Feature values answered.", registry=self._registry)
        self.rows_pushed = Counter("feature_server_pushed_rows", "Rows accepted by /push.", registry=self._registry)
        self.batch = Histogram(
            "feature_server_read_requests",
            "Requests that one read of the online store answers.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self.read_seconds = Histogram(
            "feature_server_read_seconds",
            "Seconds of one read of the online store.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.read_errors = Counter(
            "feature_server_read_errors", "Reads of the online store that failed.", registry=self._registry
        )
        self.catalog_age = Gauge(
            "feature_server_catalog_age_seconds",
            "Seconds since the catalog was last looked at.",
            registry=self._registry,
        )
        # To look up a labelled child costs as much as to count: each is looked up once.
        self._counters: dict[tuple[str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts one answer."""
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self._requests.labels(route, str(status))
            self._timers.setdefault(route, self._seconds.labels(route))
        counter.inc()
        self._timers[route].observe(seconds)

    def observe_read(self, requests: int, seconds: float, *, failed: bool) -> None:
        """Counts one read of the online store."""
        self.batch.observe(requests)
        self.read_seconds.observe(seconds)
        if failed:
            self.read_errors.inc()

    def exposition(self) -> bytes:
        """Returns all metrics in the text format."""
        return generate_latest(self._registry)
