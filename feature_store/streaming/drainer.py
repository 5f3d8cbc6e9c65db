"""The drainer: from the topic `features.{group}` into the offline store, a few files at a time.

It goes on from what the files themselves tell, not from offsets that Kafka keeps: the last micro-batch is read and
written again, under the same names, so that one which was cut off is completed and one which was not stays as it is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import polars as pl
from confluent_kafka import Consumer, KafkaException, TopicPartition

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import StreamError
from feature_store.streaming.brokers import Failures
from feature_store.streaming.delivery import END_OF_PARTITION, Delivery
from feature_store.streaming.rows import KIND, RETRACTION, RowCodec
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import TopicInfo, end_name, features_topic, topic_info

_SECONDS = 30.0
_CHUNK = 10_000


class RowFiles(Protocol):
    """Where rows go: `offline.stream_files.StreamFiles`."""

    def exclusively(self) -> AbstractContextManager[None]:
        """Keeps other drainers of the group waiting."""
        ...

    def write(
        self, topic: str, partition: int, first: int, last: int, rows: pl.DataFrame, gone: pl.DataFrame
    ) -> Sequence[object]:
        """Writes the rows of a range of offsets; what is there already stays. `gone` is what `remove` is given next."""
        ...

    def accepted_losses(self, topic: str) -> dict[int, int]:
        """Returns before which offset of each partition it is known that rows are gone."""
        ...

    def accept_loss(self, topic: str, partition: int, before: int) -> None:
        """Takes note that the rows before an offset are gone, where they were not drained."""
        ...

    def last_batches(self, topic: str) -> dict[int, tuple[int, int]]:
        """Returns the range of offsets that was written last, by partition."""
        ...

    def remove(self, retracted: pl.DataFrame) -> int:
        """Takes back rows."""
        ...


class DrainNotes(Protocol):
    """Who is told of a drain: `changes.streaming_rows.DrainedRows`."""

    def begin(self) -> None:
        """Takes note of the rows that are in the topic now."""
        ...

    def write(self, rows: pl.DataFrame) -> None:
        """Takes note of rows that were written."""
        ...

    def withdraw(self, gone: pl.DataFrame) -> None:
        """Takes note of rows that were taken back."""
        ...

    def end(self) -> None:
        """Says that all rows of then are in the offline store."""
        ...


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did.

    Attributes:
        rows: Rows written.
        files: Files that hold them.
        retracted: Rows taken back.
        lag: Messages that came while it ran, and are still to be drained.
        delay_seconds: Age of the oldest message among those drained when it was in its file; 0 where there was none.
        ends: The offset at which each partition ended, by the names of `topics.ends_of`.
    """

    rows: int
    files: int
    retracted: int
    lag: int
    delay_seconds: float
    ends: Mapping[str, int]


class Drainer:
    """Drains one group.

    Args:
        group: The group as it is registered.
        settings: How to reach the broker.
        files: Where the rows go.
        notes: Is told.
    """

    def __init__(self, group: RegisteredGroup, settings: StreamSettings, files: RowFiles, notes: DrainNotes) -> None:
        self._settings = settings
        self._topic = self._lane = features_topic(group.name)
        self._codec = RowCodec(group)
        self._keys = list(group.entity.join_keys)
        self._files = files
        self._notes = notes

    def drain(self) -> DrainReport:
        """Writes all rows that are committed now; waits while another process drains the group.

        Raises:
            StreamError: If no broker answers, or rows have left the topic before they were drained.
        """
        topic = topic_info(self._settings.client, self._topic)
        failures = Failures(self._settings.client)
        with self._files.exclusively():
            self._notes.begin()
            consumer = Consumer(
                {
                    **failures.options,
                    "group.id": f"feature-store.{self._topic}",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": "false",
                    "auto.offset.reset": "error",
                    "enable.partition.eof": "true",
                    "fetch.wait.max.ms": 50,
                }
            )
            failures.watch(consumer)
            try:
                report = self._drain(consumer, topic)
            except KafkaException as error:
                raise failures.named(error, f"Topic {self._topic!r} cannot be drained") from error
            else:
                self._notes.end()
                return report
            finally:
                consumer.close()

    def _drain(self, consumer: Consumer, topic: TopicInfo) -> DrainReport:
        # Files carry the incarnation of their topic: offsets of one that was made anew are others.
        self._lane = f"{topic.name}.{topic.identity}"
        done = self._files.last_batches(self._lane)
        accepted = self._files.accepted_losses(self._lane)
        following: dict[int, int] = {}
        for number in range(topic.partitions):
            low, _ = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=_SECONDS)
            first, last = done.get(number, (0, -1))
            if low > max(last + 1, accepted.get(number, 0)):
                self._files.accept_loss(self._lane, number, low)
                raise StreamError(
                    f"Offsets {last + 1} to {low - 1} of topic {self._topic!r}, partition {number}, are gone and were "
                    "never drained. Let the topic keep its messages longer, compute the days of these rows by batch, "
                    "and drain again: the next drain goes on with what is left."
                )
            # What the topic no longer has cannot be written again.
            following[number] = first if low <= first else max(last + 1, low)
            done[number] = (first, last)
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in following.items()])
        tally = _Tally()
        again: dict[int, list[Delivery]] = defaultdict(list)
        for messages in self._batches(consumer, set(following), tally):
            fresh: dict[int, list[Delivery]] = defaultdict(list)
            for message in messages:
                number = message.partition
                (again if message.offset <= done[number][1] else fresh)[number].append(message)
            for number, part in fresh.items():
                self._write_again(number, done[number], again)
                first = max(following[number], done[number][1] + 1)
                following[number] = part[-1].offset + 1
                written = self._write(number, first, part[-1].offset, part)
                tally.files += written.files
                tally.retracted += written.retracted
                tally.rows += written.rows
                oldest = min(message.sent_ms for message in part)
                tally.delay = max(tally.delay, time.time() - oldest / 1000)
        for number in list(again):
            self._write_again(number, done[number], again)
        lag = 0
        for number, end in tally.ends.items():
            _, high = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=_SECONDS)
            lag += max(0, high - end)
        ends = {end_name(topic, number): end for number, end in tally.ends.items()}
        return DrainReport(tally.rows, tally.files, tally.retracted, lag, tally.delay, ends)

    def _write_again(self, number: int, offsets: tuple[int, int], again: dict[int, list[Delivery]]) -> None:
        """Writes the last micro-batch of before once more: exactly its range, so that the names are the same."""
        messages = again.pop(number, [])
        if messages and messages[0].offset >= offsets[0]:
            self._write(number, *offsets, messages)

    def _batches(self, consumer: Consumer, unfinished: set[int], tally: _Tally) -> Iterator[list[Delivery]]:
        """Yields committed messages until the end of each partition, of at most so many rows at a time."""
        gathered: list[Delivery] = []
        quiet_since = time.monotonic()
        while unfinished:
            for message in consumer.consume(_CHUNK, timeout=0.5):
                quiet_since = time.monotonic()
                error = message.error()
                if error is None:
                    gathered.append(Delivery.of(message))
                elif error.code() == END_OF_PARTITION:
                    unfinished.discard(message.partition() or 0)
                    tally.ends[message.partition() or 0] = message.offset() or 0
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
            if time.monotonic() - quiet_since > _SECONDS:
                raise StreamError(f"Topic {self._topic!r} cannot be drained: the broker has not answered for a while.")
            if len(gathered) >= self._settings.drain_rows:
                yield gathered
                gathered = []
        if gathered:
            yield gathered

    def _write(self, number: int, first: int, last: int, messages: list[Delivery]) -> _Written:
        values = [message.value or b"{}" for message in messages if not message.headers]
        # Of rows that were computed again within one file, the last alone counts.
        identity = [*self._keys, EVENT_TIMESTAMP]
        rows = self._codec.decode(values).sort(INGESTED_AT, maintain_order=True)
        rows = rows.unique(identity, keep="last", maintain_order=True)
        taken_back = [message.value or b"{}" for message in messages if (KIND, RETRACTION) in message.headers]
        gone = self._codec.decode(taken_back).select(*self._keys, EVENT_TIMESTAMP, INGESTED_AT)
        if gone.height:
            gone = gone.sort(INGESTED_AT).unique(identity, keep="last")
        written = self._files.write(self._lane, number, first, last, rows, gone) if rows.height else []
        removed = self._files.remove(gone) if gone.height else 0
        if rows.height:
            self._notes.write(rows)
        if gone.height:
            self._notes.withdraw(gone)
        return _Written(rows.height, len(written), removed)


class _Written(NamedTuple):
    rows: int
    files: int
    retracted: int


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    files: int = 0
    retracted: int = 0
    delay: float = 0.0
    ends: dict[int, int] = field(default_factory=dict)
