"""The streamer: a group's source topic in, rows online within a second, and every row once in `features.{group}`.

A micro-batch goes through in this order, and each step says what a death after it leaves:

1. read events, compute rows (nothing has happened yet);
2. one Kafka transaction: rows, dead letters and the offsets of the events, all or nothing;
3. write the rows online, newest wins (a successor that finds the offsets ahead of its state writes them again);
4. add the events to the state; now and then a snapshot (what lies after the snapshot is read again).
"""

from __future__ import annotations

import logging
import time

import polars as pl
from confluent_kafka import KafkaException

from feature_store.errors import StreamError
from feature_store.streaming.context import LONGEST_PAUSE, StreamContext
from feature_store.streaming.dead_letters import ensure_group_topics
from feature_store.streaming.instance import Instance
from feature_store.streaming.session import Session
from feature_store.streaming.topics import features_topic, partitions_of

_LOG = logging.getLogger(__name__)


class Streamer(StreamContext):
    """Runs one group on its stream, in one of any number of processes; see `StreamContext`."""

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
                pause = 0.1 if time.monotonic() - started > 10 * LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
                self.stopping.wait(pause)

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
