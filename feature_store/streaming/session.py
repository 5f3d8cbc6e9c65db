"""One session of a streamer: a consumer, a transactional producer, and the state of the partitions that it holds.

Ends with the first error of the broker; the streamer opens another. All that a session knows is in Kafka and in the
snapshots, so to end one costs no more than reading again what came after the snapshots.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from feature_store.changes.validation import stored_rows
from feature_store.clock import nearest_datetime, to_micros
from feature_store.day_windows import day_window
from feature_store.definitions.names import INGESTED_AT
from feature_store.errors import FeatureStoreError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.streaming.brokers import TIMEOUT, Failures
from feature_store.streaming.context import StreamContext
from feature_store.streaming.dead_letters import Letter, letter_messages, letter_of, read_letters
from feature_store.streaming.delivery import Delivery, as_headers
from feature_store.streaming.instance import Instance
from feature_store.streaming.lag import LagReporter, TopicChangedError
from feature_store.streaming.micro_batches import MicroBatches, Outcome
from feature_store.streaming.positions import Committed
from feature_store.streaming.rows import KIND, RETRACTION, RowCodec
from feature_store.streaming.snapshots import Layout, Snapshots
from feature_store.streaming.state import EARLIEST, GroupState, Lane
from feature_store.streaming.topics import TopicInfo, dead_letter_topic, features_topic, retry_topic

_LOG = logging.getLogger(__name__)
_SECONDS = 30.0
_LANDING_SECONDS = 5.0
_FIRST = to_micros(nearest_datetime(-(2**62))) + 86_400_000_000

Rebalance = Callable[[Consumer, list[TopicPartition]], None]


class Session:
    """Reads, computes, writes, until it is told to stop or the broker fails.

    Args:
        streamer: The streamer whose session it is.
        instance: Which of its group's streamers this is.
        topics: What the source's topic, and that of retries, are now.
        layout: Over which partitions the state is spread.
    """

    def __init__(
        self, streamer: StreamContext, instance: Instance, topics: Mapping[str, TopicInfo], layout: Layout
    ) -> None:
        self._own = streamer
        self._name = instance.name
        self._failure: Exception | None = None
        self._metrics = streamer.metrics
        settings = streamer.settings
        self._source = topics[streamer.stream.topic]
        self._topics = {name: topics[name] for name in (self._source.name, retry_topic(streamer.group.name))}
        self._layout = layout
        self._features = features_topic(streamer.group.name)
        self._letters = dead_letter_topic(streamer.group.name)
        self._definition = streamer.group.code_version
        self._codec = RowCodec(streamer.registered)
        self._state = GroupState(streamer.group, streamer.stream)
        self._batches = MicroBatches(streamer, self._state)
        self._snapshots = Snapshots(streamer.files, self._source)
        self._committed = Committed(self._topics)
        self._dead: set[Letter] | None = None
        self._saved_at = self._looked_at = time.monotonic()
        self._too_large = False
        self.failures = Failures(settings.client)
        self._producer = Producer(
            {
                **self.failures.options,
                "transactional.id": instance.name,
                "transaction.timeout.ms": int(settings.transaction_seconds * 1000),
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                # How large a message may be is for the broker to say.
                "message.max.bytes": 1_000_000_000,
                # The same partition for an entity as Kafka's own clients choose.
                "partitioner": "murmur2_random",
            }
        )
        self._consumer = Consumer(
            {
                **self.failures.options,
                "group.id": f"feature-store.{streamer.group.name}",
                # A member that comes back in time gets the partitions that it had, and no others: of another topic, or
                # where the topic has more of them now, it is another member.
                "group.instance.id": f"{instance.name}.{self._source.name}.{self._source.partitions}"[-240:],
                "isolation.level": "read_committed",
                "enable.auto.commit": "false",
                "auto.offset.reset": "earliest",
                # Partitions of one number go to one member, the retries with the source.
                "partition.assignment.strategy": "range",
                "session.timeout.ms": int(settings.session_seconds * 1000),
                "heartbeat.interval.ms": int(settings.session_seconds * 300),
                "max.poll.interval.ms": 900_000,
                "queued.max.messages.kbytes": 32_768,
                "fetch.wait.max.ms": 50,
            }
        )
        self.failures.watch(self._producer, self._consumer)
        self._lag = LagReporter(settings.client, self._topics, self._metrics)

    def run(self) -> None:
        """Streams until the streamer is stopped.

        Raises:
            KafkaException: If the broker fails.
            LookBackGapError: If days have not landed that a look-back needs.
            TopicChangedError: If a topic has got more partitions.
        """
        self._producer.init_transactions(TIMEOUT)
        self._consumer.subscribe(
            list(self._topics),
            on_assign=self._kept(self._assigned),
            on_revoke=self._kept(self._revoked),
            on_lost=self._kept(self._lost),
        )
        self._lag.start()
        settings = self._own.settings
        while not self._own.stopping.is_set():
            self._own.promote()
            self._lag.check()
            with self._metrics.stage("receive"):
                messages = self._consumer.consume(settings.batch_events, timeout=settings.linger_seconds)
            if self._failure is not None:
                raise self._failure
            replayed, fresh = self._sorted_out(messages)
            if replayed:
                self._micro_batch(replayed, fresh=False)
            if fresh:
                self._micro_batch(fresh, fresh=True)
                self._metrics.fill.set(len(fresh) / settings.batch_events)
            now = time.monotonic()
            if now - self._looked_at > _LANDING_SECONDS:
                self._take_landed()
                self._looked_at = now
            if now - self._saved_at > settings.checkpoint_seconds:
                self._save()
        self._save()

    def close(self) -> None:
        """Leaves the consumer group. What has not been saved is read again by whoever comes next."""
        self._lag.stop()
        self._state.lanes.clear()
        self._consumer.close()

    def _kept(self, callback: Rebalance) -> Rebalance:
        """Returns a callback that raises nothing: the client loses what is raised in one, and ends in a SystemError."""

        def call(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                callback(consumer, partitions)
            except Exception as error:  # noqa: BLE001 - raised by `run`, after the client's call
                self._failure = error

        return call

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        partitions = [tp for tp in partitions if tp.topic in self._topics]
        beyond = [tp for tp in partitions if tp.partition >= self._topics[tp.topic].partitions]
        if beyond:
            raise TopicChangedError(f"Topic {beyond[0].topic!r} has got more partitions.")
        low: dict[tuple[str, int], int] = {}
        high: dict[tuple[str, int], int] = {}
        for position in partitions:
            key = (position.topic, position.partition)
            low[key], high[key] = consumer.get_watermark_offsets(position, timeout=_SECONDS)
        for position in consumer.committed(partitions, timeout=_SECONDS):
            if position.error is not None:
                raise KafkaException(position.error)
            key = (position.topic, position.partition)
            lost = self._committed.read(position, low[key], high[key])
            if lost is not None:
                self._metrics.lost.inc(lost[1] - lost[0])
                _LOG.error(
                    "Offsets %d to %d of topic %s, partition %d, are gone and were never read for %s: compute their "
                    "days by batch, and let the topic keep its messages longer.",
                    *(lost[0], lost[1] - 1, position.topic, position.partition, self._own.group.name),
                )
        for number in {position.partition for position in partitions}:
            self._state.lanes[number] = self._loaded(number, low)
        for position in partitions:
            offset = self._state.lanes[position.partition].offsets.get(position.topic)
            begin = self._layout.since.get(position.partition) if position.topic == self._source.name else None
            position.offset = offset if offset is not None else begin if begin is not None else OFFSET_BEGINNING
        consumer.assign(partitions)
        self._hold()
        for topic, number in low:
            self._lag.position(topic, number, self._committed.offset(topic, number))

    def _loaded(self, number: int, low: Mapping[tuple[str, int], int]) -> Lane:
        found = self._snapshots.load(number, self._state)
        if found is None:
            return self._state.new_lane()
        offsets = {topic: found.offsets.get(topic, 0) for topic in self._topics}
        ahead = any(offset > self._committed.offset(topic, number) for topic, offset in offsets.items())
        behind = any(offset < low.get((topic, number), 0) for topic, offset in offsets.items())
        # So old that the topic no longer has what follows, or of messages that were never committed.
        return self._state.new_lane() if ahead or behind else found

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._save()
        self._lost(_, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for position in partitions:
            self._state.lanes.pop(position.partition, None)
        self._hold()

    def _hold(self) -> None:
        self._metrics.partitions.set(len(self._state.lanes))
        self._lag.hold(set(self._state.lanes))

    def _sorted_out(self, messages: Sequence[Message]) -> tuple[list[Delivery], list[Delivery]]:
        """Returns the messages that were committed before, and those that are new."""
        replayed: list[Delivery] = []
        fresh: list[Delivery] = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.fatal() or not (error.retriable() or error.code() in _PASSING):
                    raise KafkaException(error)
                continue
            delivery = Delivery.of(message)
            lane = self._state.lanes.get(delivery.partition)
            if lane is None or delivery.offset < lane.offsets.get(delivery.topic, 0):
                continue
            committed = self._committed.offset(delivery.topic, delivery.partition)
            (fresh if delivery.offset >= committed else replayed).append(delivery)
        return replayed, fresh

    def _micro_batch(self, messages: list[Delivery], *, fresh: bool) -> None:
        following = {(message.topic, message.partition): message.offset + 1 for message in messages}
        if not fresh:
            messages = self._without_dead_letters(messages)
        chunks = list(self._batches.chunks(messages))
        done: dict[tuple[str, int], int] = {}
        for number, chunk in enumerate(chunks):
            if chunk.withdrawn:
                outcome = self._batches.withdrawal(chunk.withdrawn, fresh=fresh)
                self._carry_out(outcome, chunk.withdrawn, {}, fresh=fresh)
            done |= {(message.topic, message.partition): message.offset + 1 for message in chunk.messages}
            outcome = self._batches.outcome(chunk.messages, fresh=fresh)
            is_last = number == len(chunks) - 1
            self._carry_out(outcome, chunk.messages, following if is_last else done, fresh=fresh)
            self._metrics.repeated.inc(outcome.repeated if fresh else 0)
        if fresh:
            self._metrics.events.inc(len(messages))

    def _carry_out(
        self,
        outcome: Outcome,
        messages: Sequence[Delivery],
        following: dict[tuple[str, int], int],
        *,
        fresh: bool,
    ) -> None:
        """Does what a micro-batch comes to: in the topics, online, in the state."""
        metrics = self._metrics
        numbers = {message.partition for message in messages} or {number for _, number in following}
        if not numbers:
            return
        ingested_at = nearest_datetime(self._committed.last_ingestion(numbers, EARLIEST))
        if fresh:
            ingested_at = nearest_datetime(self._claimed(numbers))
        rows = stored_rows(outcome.rows, self._own.registered, ingested_at)
        standing = stored_rows(outcome.standing, self._own.registered, ingested_at)
        retracted = outcome.retracted.with_columns(pl.lit(ingested_at, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
        if fresh:
            self._transact(messages, rows, retracted, outcome.rejected, following)
        with metrics.stage("online"):
            self._own.delivered(lambda: self._own.delivery.deliver(rows, retracted, standing))
        if fresh:
            metrics.rows.inc(rows.height)
            metrics.retracted.inc(retracted.height)
            metrics.dead_letters.inc(len(outcome.rejected))
        if fresh and messages:
            metrics.delay.observe(max(0.0, time.time() - min(message.sent_ms for message in messages) / 1000))
        with metrics.stage("state"):
            self._batches.accept(outcome)
            for (topic, number), offset in following.items():
                self._state.lanes[number].offsets[topic] = offset
                self._lag.position(topic, number, offset)

    def _without_dead_letters(self, messages: list[Delivery]) -> list[Delivery]:
        """Returns messages without those that became dead letters.

        What they were judged by then may have changed since, and then they have come back, or will.
        """
        if self._dead is None:
            self._dead = read_letters(self._own.settings, self._own.group.name)
        dead = self._dead
        return [message for message in messages if letter_of(message) not in dead]

    def _claimed(self, numbers: set[int]) -> int:
        """Returns a time that is later than that of all rows emitted before for entities of some partitions.

        Whatever the clocks of several machines say: the last one is committed beside the offsets.
        """
        at_least = nearest_datetime(max(self._committed.last_ingestion(numbers, EARLIEST), _FIRST) + 1)
        given = self._own.delivered(lambda: self._own.delivery.claim(self._name, at_least))
        self._committed.ingested(numbers, to_micros(given))
        return to_micros(given)

    def _transact(
        self,
        messages: Sequence[Delivery],
        rows: pl.DataFrame,
        retracted: pl.DataFrame,
        rejected: Mapping[int, str],
        following: Mapping[tuple[str, int], int],
    ) -> None:
        produce = self._producer.produce
        with self._metrics.stage("produce"):
            self._producer.begin_transaction()
            for key, value in zip(*self._codec.encode(rows), strict=True):
                produce(self._features, value, key)
            for key, value in zip(*self._codec.encode(retracted), strict=True):
                produce(self._features, value, key, headers=[(KIND, RETRACTION)])
            most = self._own.letter_bytes
            for letter, name, headers in letter_messages(messages, rejected, self._definition, most):
                produce(self._letters, letter, name, headers=as_headers(headers), on_delivery=self._letter_sent)
        with self._metrics.stage("commit"):
            if following:
                offsets = self._committed.next_offsets(following)
                self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), _SECONDS)
            try:
                self._producer.commit_transaction(_SECONDS)
            except KafkaException:
                if self._too_large:
                    # The next session meets the same messages, and sends less of them.
                    self._own.letter_bytes = max(self._own.letter_bytes // 4, 1_000)
                raise
        self._committed.advance(following)
        self._own.delivered(lambda: self._own.delivery.committed(self._name))

    def _letter_sent(self, error: KafkaError | None, _: object) -> None:
        self._too_large = self._too_large or (error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE)

    def _take_landed(self) -> None:
        """Computes anew the rows that lacked what has landed meanwhile."""
        for number, lane in self._state.lanes.items():
            days = [day for day in lane.unseen if self._own.group.source.fingerprint(day) is not None]
            if not days:
                continue
            _LOG.info("%s: %s has landed, rows that lacked it are computed again.", self._own.group.name, days)
            outcome = self._batches.landed(number, pl.concat([self._events_of(day) for day in days]))
            self._carry_out(
                outcome, [], {(topic, number): offset for topic, offset in lane.offsets.items()}, fresh=True
            )
            lane.unseen = [day for day in lane.unseen if day not in days]
            self._state.seeded = None
            self._own.seed(self._state)

    def _events_of(self, day: date) -> pl.DataFrame:
        window = day_window(day)
        return self._own.past.events(to_micros(window.start), to_micros(window.end) - 1)

    def _save(self) -> None:
        with self._metrics.stage("state"):
            try:
                for number, lane in self._state.lanes.items():
                    if lane.offsets:
                        self._snapshots.save(number, lane, self._state)
            except (FeatureStoreError, OSError) as error:
                _LOG.warning(
                    "The state of %s is not saved, what follows is read again: %s", self._own.group.name, error
                )
            self._metrics.state_events.set(self._state.rows)
            self._metrics.state_bytes.set(self._state.size)
        self._saved_at = time.monotonic()


_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - the client's public constants look like this
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._PARTITION_EOF,  # noqa: SLF001
    }
)
