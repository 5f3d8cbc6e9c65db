"""The streamer: a group's source topic in, rows online within a second, and every row once in `features.{group}`.

A micro-batch goes through in this order, and each step says what a death after it leaves:

1. read events, compute rows (nothing has happened yet);
2. one Kafka transaction: rows, dead letters and the offsets of the events, all or nothing;
3. write the rows online, newest wins (a successor that finds the offsets ahead of its state writes them again);
4. add the events to the state; now and then a snapshot (what lies after the snapshot is read again).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import polars as pl
from confluent_kafka import KafkaException

from feature_store.catalog import Group
from feature_store.clock import Clock
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError, StreamError
from feature_store.streaming.dead_letters import ensure_group_topics
from feature_store.streaming.instance import Instance
from feature_store.streaming.metrics import StreamMetrics
from feature_store.streaming.session import Session
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import features_topic, partitions_of

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0
PROMOTE_SECONDS = 0.5

Result = TypeVar("Result")


class RowDelivery(Protocol):
    """Where rows go: `changes.streaming_rows.StreamedRows`."""

    def claim(self, streamer: str, at_least: datetime) -> datetime:
        """Returns when rows are ingested that a streamer gives now."""
        ...

    def committed(self, streamer: str) -> None:
        """Says that the rows of a streamer's last claim are in the topic of rows."""
        ...

    def deliver(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Brings rows online, and takes rows back."""
        ...

    def promote(self) -> None:
        """Brings rows online whose time has come."""
        ...


class Streamer:
    """Runs one group on its stream, in one of any number of processes.

    Args:
        group: The feature group.
        record: The group as it is registered.
        stream: The stream that feeds it.
        settings: How to run.
        clock: Tells the present, by which events are too far ahead and rows get `ingested_at`.
        delivery: Gives rows their times, and brings them online.
        metrics: Where to count.
        may_wait: Errors of the delivery after which it is tried again, until it succeeds.
    """

    def __init__(
        self,
        group: FeatureGroup,
        record: Group,
        stream: EventStream,
        settings: StreamSettings,
        *,
        clock: Clock,
        delivery: RowDelivery,
        metrics: StreamMetrics | None = None,
        may_wait: type[Exception] = FeatureStoreError,
    ) -> None:
        self.group = group
        self.record = record
        self.stream = stream
        self.settings = settings
        self.clock = clock
        self.metrics = metrics or StreamMetrics(group.name)
        self.delivery = delivery
        self._may_wait = may_wait
        self._promoted_at = 0.0
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Ends `run` after the micro-batch in work."""
        self.stopping.set()

    def run(self) -> None:
        """Streams until `stop` is called. What the broker or the online store do in between is waited for.

        Raises:
            StreamError: If the topics, the keys or the definitions do not allow it.
        """
        self._check_readable()
        partitions = partitions_of(self.settings.client, self.stream.topic)
        if partitions > 1 and self.stream.entity is None:
            raise StreamError(
                f"Topic {self.stream.topic!r} has {partitions} partitions, and its stream does not say by which entity "
                "they are keyed: declare EventStream(entity=...), and key each message by the entity id."
            )
        ensure_group_topics(self.settings, self.group.name, features_topic(self.group.name), partitions)
        with Instance(self.settings.state, self.group.name) as instance:
            pause = 0.1
            while not self.stopping.is_set():
                started = time.monotonic()
                session = Session(self, instance)
                try:
                    session.run()
                except KafkaException as error:
                    problem = error.args[0]
                    if problem.fatal() and problem.name() == "FENCED_INSTANCE_ID":  # pragma: no cover
                        raise StreamError(f"Another process is {instance.name!r}: {problem.str()}.") from error
                    _LOG.warning("The stream of %s is taken up anew: %s", self.group.name, problem.str())
                    self.metrics.restarts.inc()
                finally:
                    session.close()
                # A session that held for a while had recovered: the next failure is a new one.
                pause = 0.1 if time.monotonic() - started > 10 * _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
                self.stopping.wait(pause)

    def delivered(self, deliver: Callable[[], Result]) -> Result:
        """Returns what a step of the delivery answers, waiting for an online store that does not.

        Raises:
            StreamError: If the streamer is stopped meanwhile.
        """
        pause = 0.05
        while True:
            try:
                answer = deliver()
            except self._may_wait as error:
                self.metrics.waiting.set(1)
                _LOG.warning("The online store holds up the stream of %s: %s", self.group.name, error)
                if self.stopping.wait(pause):
                    raise StreamError("Stopped while the online store did not answer; nothing is lost.") from error
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.metrics.waiting.set(0)
                return answer

    def promote(self) -> None:
        """Brings rows online whose time has come, at most twice a second; what fails is tried again then."""
        now = time.monotonic()
        if now - self._promoted_at < PROMOTE_SECONDS:
            return
        self._promoted_at = now
        with suppress(self._may_wait):
            self.delivery.promote()

    def seeds(self, until: int) -> pl.DataFrame:
        """Returns the events of one look-back and the allowed lateness before an instant, from the source's files.

        Args:
            until: Microseconds since 1970: the first event that the stream has.
        """
        columns = self.stream.columns
        nothing = pl.DataFrame(schema=columns)
        if not self.group.lookback:
            return nothing
        from feature_store.definitions.source import day_window
        from feature_store.errors import MissingSourceError

        end = datetime.fromtimestamp(until / 1e6, UTC)
        begin = end - self.group.lookback - self.stream.allowed_lateness
        parts = [nothing]
        for day in self.group.source.landed_days():
            if begin.date() <= day <= end.date():
                try:
                    events = self.group.source.scan(day_window(day))
                except MissingSourceError:
                    continue
                parts.append(events.select(pl.col(name).cast(dtype) for name, dtype in columns.items()).collect())
        time_of = pl.col("event_timestamp").to_physical()
        return pl.concat(parts).filter(time_of < until)

    def _check_readable(self) -> None:
        try:
            self.group.transform(pl.LazyFrame(schema=self.stream.columns)).collect_schema()
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise StreamError(
                f"Feature group {self.group.name!r} cannot read the events of stream {self.stream.topic!r}: {reason}. "
                f"Its schema {self.stream.schema.__name__} has the fields {list(self.stream.columns)}: correct it, or "
                "the group's function."
            ) from error
