"""What a streamer measures of itself, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGES = ("receive", "decode", "state", "transform", "produce", "commit", "online")


class StreamMetrics:
    """The metrics of one streamer, in a registry of their own.

    Args:
        group: Name of the feature group, a label of every metric.
    """

    def __init__(self, group: str) -> None:
        self.registry = CollectorRegistry()
        labels = ("group",)

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"feature_stream_{name}", text, (*labels, *more), registry=self.registry)

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"feature_stream_{name}", text, (*labels, *more), registry=self.registry)

        self._group = group
        self.events = counter("events", "Events read, bad and repeated ones included.").labels(group)
        self.repeated = counter("repeated_events", "Events that had been delivered before.").labels(group)
        self.rows = counter("rows", "Feature rows emitted.").labels(group)
        self.retracted = counter("retracted_rows", "Feature rows taken back.").labels(group)
        self.dead_letters = counter("dead_letters", "Events sent to the dead-letter topic.").labels(group)
        self.restarts = counter("restarts", "Times that the stream was taken up anew after an error.").labels(group)
        self.lost = counter("lost_events", "Events that left the topic before they were read.").labels(group)
        self._seconds = counter("seconds", "Seconds spent, by stage; receive is waiting for events.", "stage")
        self.stages = {stage: self._seconds.labels(group, stage) for stage in STAGES}
        self._lag = gauge("lag_events", "Events of a partition that are not read yet.", "topic", "partition")
        self.partitions = gauge("partitions", "Partitions of the source's topic that are held.").labels(group)
        self.state_events = gauge("state_events", "Events held in the state.").labels(group)
        self.state_bytes = gauge("state_bytes", "Bytes held in the state, estimated.").labels(group)
        self.waiting = gauge("back_pressure", "1 while the online store holds the stream up, else 0.").labels(group)
        self.look_back_gap = gauge(
            "look_back_gap_days", "Days that the look-back needs, and the source has not landed: the stream waits."
        ).labels(group)
        self.fill = gauge("batch_fill", "Share of a micro-batch's size that the last one had: 1 is full load.").labels(
            group
        )
        self.delay = Histogram(
            "feature_stream_delay_seconds",
            "Seconds from a message's time to its row's being online, by the slowest of a micro-batch.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        ).labels(group)

    def lag(self, topic: str, partition: int, events: int) -> None:
        """Sets the lag of one partition."""
        self._lag.labels(self._group, topic, str(partition)).set(events)

    def forget_lag(self, topic: str, partition: int) -> None:
        """Takes a partition out of the lag: another streamer tells it."""
        with suppress(KeyError):
            self._lag.remove(self._group, topic, str(partition))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name].inc(time.perf_counter() - started)

    def serve(self, port: int) -> None:
        """Serves the metrics over HTTP, at `/metrics`."""
        start_http_server(port, registry=self.registry)
