"""The lag of a streamer, by the broker's end offsets: it goes on while the stream itself is held up."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from feature_store.errors import FeatureStoreError
from feature_store.streaming.brokers import TIMEOUT, admin_of
from feature_store.streaming.metrics import StreamMetrics
from feature_store.streaming.topics import TopicInfo

_SECONDS = 2.0


class TopicChangedError(FeatureStoreError):
    """A topic has got more partitions while it was read."""


class LagReporter:
    """Asks the broker for the ends of the partitions that are held, in a thread of its own.

    Args:
        client: Options of the Kafka client.
        topics: The topics as they were when the session began.
        metrics: Is told.
    """

    def __init__(self, client: Mapping[str, str], topics: Mapping[str, TopicInfo], metrics: StreamMetrics) -> None:
        self._admin, _ = admin_of(client)
        self._topics = topics
        self._metrics = metrics
        self._held: set[int] = set()
        self._positions: dict[tuple[str, int], int] = {}
        self._changed = ""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="feature-store-lag", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, and takes all partitions out of the metric."""
        self._stopping.set()
        self.hold(set())

    def hold(self, numbers: set[int]) -> None:
        """Says which partitions are held now; the others leave the metric."""
        with self._lock:
            for topic in self._topics:
                for number in self._held - numbers:
                    self._metrics.forget_lag(topic, number)
                    self._positions.pop((topic, number), None)
            self._held = set(numbers)

    def position(self, topic: str, number: int, offset: int) -> None:
        """Says which offset of a partition is the next one."""
        self._positions[topic, number] = offset

    def check(self) -> None:
        """Looks whether the topics are still what they were.

        Raises:
            TopicChangedError: If one has another number of partitions.
        """
        if self._changed:
            raise TopicChangedError(self._changed)

    def _run(self) -> None:
        while not self._stopping.wait(_SECONDS):
            with suppress(KafkaException, TimeoutError):
                self._look()

    def _look(self) -> None:
        for name, topic in self._topics.items():
            found = self._admin.list_topics(name, timeout=TIMEOUT).topics.get(name)
            if found is not None and found.error is None and len(found.partitions) != topic.partitions:
                self._changed = f"Topic {name!r} had {topic.partitions} partitions, and has {len(found.partitions)}."
        asked = {
            TopicPartition(name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for name, topic in self._topics.items()
            for number in sorted(self._held)
            if number < topic.partitions
        }
        if not asked:
            return
        for position, future in self._admin.list_offsets(asked).items():
            end = future.result(TIMEOUT).offset
            with self._lock:
                if position.partition in self._held and not self._stopping.is_set():
                    at = self._positions.get((position.topic, position.partition))
                    if at is not None:
                        self._metrics.lag(position.topic, position.partition, max(0, end - at))
