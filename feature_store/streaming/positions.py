"""How far a group has read and committed, and when its last rows were ingested: kept beside the offsets in Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import TopicPartition

from feature_store.streaming.topics import TopicInfo


class Committed:
    """What is committed of the topics that a session reads.

    Offsets carry the incarnation of their topic: of one that was made anew nothing has been read.

    Args:
        topics: The topics as they are now, by name.
    """

    def __init__(self, topics: Mapping[str, TopicInfo]) -> None:
        self._topics = topics
        self._offsets: dict[tuple[str, int], int] = {}
        self._ingested: dict[int, int] = {}

    def read(self, position: TopicPartition, low: int, high: int) -> tuple[int, int] | None:
        """Takes what is committed of a partition; returns offsets that are gone and were never read, if there are any.

        Args:
            position: What the broker tells.
            low: The first offset that the partition has.
            high: The one after its last.
        """
        ingested, _, identity = (position.metadata or "").partition(":")
        if ingested:
            known = self._ingested.get(position.partition, int(ingested))
            self._ingested[position.partition] = max(known, int(ingested))
        offset = max(position.offset, 0)
        if offset > high or (identity and identity != self._topics[position.topic].identity):
            offset = 0
        self._offsets[position.topic, position.partition] = max(offset, low)
        # A group that has never read begins with what there is.
        return (offset, low) if offset < low and position.offset >= 0 and identity else None

    def offset(self, topic: str, number: int) -> int:
        """Returns the offset from which on nothing is committed."""
        return self._offsets.get((topic, number), 0)

    def last_ingestion(self, numbers: Iterable[int], default: int) -> int:
        """Returns the latest ingestion time given to rows of some partitions, microseconds since 1970."""
        return max((self._ingested.get(number, default) for number in numbers), default=default)

    def ingested(self, numbers: Iterable[int], micros: int) -> None:
        """Notes the ingestion time of rows that are given now."""
        self._ingested |= dict.fromkeys(numbers, micros)

    def next_offsets(self, following: Mapping[tuple[str, int], int]) -> list[TopicPartition]:
        """Returns what is to be committed."""
        return [
            TopicPartition(topic, number, offset, f"{self._ingested[number]}:{self._topics[topic].identity}")
            for (topic, number), offset in following.items()
        ]

    def advance(self, following: Mapping[tuple[str, int], int]) -> None:
        """Notes what has been committed."""
        self._offsets |= following
