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
from confluent_kafka import Consumer, KafkaException, TopicPartition

from feature_store.errors import DecodingOutageError, StreamError
from feature_store.streaming.brokers import PERMANENT, TIMEOUT, named
from feature_store.streaming.context import LONGEST_PAUSE, StreamContext
from feature_store.streaming.dead_letters import ensure_group_topics
from feature_store.streaming.instance import Instance
from feature_store.streaming.lag import TopicChangedError
from feature_store.streaming.past_files import LookBackGapError
from feature_store.streaming.session import Session
from feature_store.streaming.snapshots import Snapshots
from feature_store.streaming.topics import TopicInfo, features_topic, retry_topic, topic_info, topic_infos
from feature_store.transform.compute import transformed

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
        names = [self.stream.topic, retry_topic(self.group.name)]
        with Instance(self.settings.state, self.group.name) as instance:
            pause = 0.1
            while not self.stopping.is_set():
                topic = topic_info(self.settings.client, self.stream.topic)
                self._check_keyed(topic)
                # Without a look-back an entity has no past that could be torn apart.
                layout = Snapshots(self.files, topic).layout(entities_move=bool(self.group.lookback))
                ensure_group_topics(self.settings, self.group.name, features_topic(self.group.name), topic.partitions)
                started = time.monotonic()
                gap: LookBackGapError | None = None
                session = Session(self, instance, topic_infos(self.settings.client, names), layout)
                try:
                    session.run()
                except KafkaException as error:
                    self._take_up(session, error, instance)
                except TopicChangedError as error:
                    _LOG.warning("%s The stream of %s is taken up anew.", error, self.group.name)
                except LookBackGapError as error:
                    gap = error
                except DecodingOutageError as error:
                    _LOG.warning("The stream of %s waits: %s", self.group.name, error)
                    self.metrics.restarts.inc()
                finally:
                    session.close()
                if gap is not None:
                    self._wait_for(gap)
                # A session that held for a while had recovered: the next failure is a new one.
                pause = 0.1 if time.monotonic() - started > 10 * LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
                self.stopping.wait(pause)

    def _take_up(self, session: Session, error: KafkaException, instance: Instance) -> None:
        """Notes an error of the broker that ended a session.

        Raises:
            StreamError: If no waiting heals it.
        """
        problem = error.args[0]
        if problem.fatal() and problem.name() == "FENCED_INSTANCE_ID":  # pragma: no cover
            raise StreamError(f"Another process is {instance.name!r}: {problem.str()}.") from error
        if session.failures.is_permanent or problem.code() in PERMANENT:
            raise session.failures.named(error, f"The stream of {self.group.name!r} cannot go on") from error
        _LOG.warning("The stream of %s is taken up anew: %s", self.group.name, problem.str())
        self.metrics.restarts.inc()

    def _wait_for(self, gap: LookBackGapError) -> None:
        """Waits until days have landed that a look-back needs."""
        _LOG.warning("%s", gap)
        self.metrics.look_back_gap.set(len(gap.days))
        pause = 0.5
        while not self.stopping.wait(pause):
            landed = set(self.group.source.landed_days())
            if landed.issuperset(gap.days):
                break
            pause = min(pause * 1.5, 30.0)
        self.metrics.look_back_gap.set(0)

    def rebuild(self) -> None:
        """Begins the state anew at what was read last: its past comes from the source's files.

        For a topic that has got more partitions. No streamer of the group may run.

        Raises:
            StreamError: If no broker answers, or there is no such topic.
        """
        topic = topic_info(self.settings.client, self.stream.topic)
        consumer = Consumer({**self.settings.client, "group.id": f"feature-store.{self.group.name}"})
        try:
            asked = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            committed = consumer.committed(asked, timeout=TIMEOUT)
        except KafkaException as error:
            raise named(self.settings.client, error.args[0], f"Topic {topic.name!r} cannot be read") from error
        finally:
            consumer.close()
        Snapshots(self.files, topic).begin({found.partition: max(found.offset, 0) for found in committed})

    def _check_keyed(self, topic: TopicInfo) -> None:
        if topic.partitions > 1 and self.stream.entity is None:
            raise StreamError(
                f"Topic {topic.name!r} has {topic.partitions} partitions, and its stream does not say by which entity "
                "they are keyed: declare EventStream(entity=...), and key each message by the entity id."
            )

    def _check_readable(self) -> None:
        try:
            transformed(self.group, pl.LazyFrame(schema=self.stream.columns)).collect_schema()
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise StreamError(
                f"Feature group {self.group.name!r} cannot read the events of stream {self.stream.topic!r}: {reason}. "
                f"Its schema {self.stream.schema.__name__} has the fields {list(self.stream.columns)}: correct it, or "
                "the group's function."
            ) from error
