"""One session of a streamer: a consumer, a transactional producer, and the states of the partitions that it holds.

Ends with the first error of the broker; the streamer opens another. All that a session knows is in Kafka and in the
snapshots, so to end one costs no more than reading again what came after the snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from feature_store.changes.validation import stored_rows
from feature_store.clock import to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE, entity_id_expression
from feature_store.streaming.context import StreamContext
from feature_store.streaming.dead_letters import Letter, letter_headers, letter_of, read_letters
from feature_store.streaming.decoding import VERSION_HEADER, EventDecoder, Payload
from feature_store.streaming.delivery import Delivery, as_headers
from feature_store.streaming.instance import Instance
from feature_store.streaming.rows import KIND, RETRACTION, RowCodec
from feature_store.streaming.state import EARLIEST, PartitionState
from feature_store.streaming.topics import dead_letter_topic, features_topic, retry_topic
from feature_store.transform.micro_batch import (
    SEQUENCE,
    MicroBatchRows,
    Past,
    compute_micro_batch,
    nothing,
    rows_since,
)

_SECONDS = 30.0
_PARTITION = "_partition"


class Session:
    """Reads, computes, writes, until it is told to stop or the broker fails.

    Args:
        streamer: The streamer whose session it is.
        instance: Which of its group's streamers this is.
    """

    def __init__(self, streamer: StreamContext, instance: Instance) -> None:
        self._own = streamer
        self._instance = instance
        self._metrics = streamer.metrics
        settings = streamer.settings
        self._topics = [streamer.stream.topic, retry_topic(streamer.group.name)]
        self._features = features_topic(streamer.group.name)
        self._letters = dead_letter_topic(streamer.group.name)
        self._definition = streamer.group.code_version
        self._decoder = EventDecoder(streamer.stream)
        self._codec = RowCodec(streamer.registered)
        self._states: dict[int, PartitionState] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._ingested: dict[int, int] = {}
        self._dead: set[Letter] | None = None
        self._saved_at = time.monotonic()
        self._producer = Producer(
            {
                **settings.client,
                "transactional.id": instance.name,
                "transaction.timeout.ms": int(settings.transaction_seconds * 1000),
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                # The same partition for an entity as Kafka's own clients choose.
                "partitioner": "murmur2_random",
            }
        )
        self._consumer = Consumer(
            {
                **settings.client,
                "group.id": f"feature-store.{streamer.group.name}",
                "group.instance.id": instance.name,
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

    def run(self) -> None:
        """Streams until the streamer is stopped.

        Raises:
            KafkaException: If the broker fails.
        """
        self._producer.init_transactions(_SECONDS)
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        settings = self._own.settings
        while not self._own.stopping.is_set():
            self._own.promote()
            with self._metrics.stage("receive"):
                messages = self._consumer.consume(settings.batch_events, timeout=settings.linger_seconds)
            replayed, fresh = self._sorted_out(messages)
            if replayed:
                self._micro_batch(replayed, fresh=False)
            if fresh:
                self._micro_batch(fresh, fresh=True)
                self._metrics.fill.set(len(fresh) / settings.batch_events)
            if time.monotonic() - self._saved_at > settings.checkpoint_seconds:
                self._save()
        self._save()

    def close(self) -> None:
        """Leaves the consumer group. What has not been saved is read again by whoever comes next."""
        self._states.clear()
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for position in consumer.committed(partitions, timeout=_SECONDS):
            if position.error is not None:
                raise KafkaException(position.error)
            key = (position.topic, position.partition)
            self._committed[key] = max(position.offset, 0)
            ingested = int(position.metadata or EARLIEST)
            self._ingested[position.partition] = max(self._ingested.get(position.partition, EARLIEST), ingested)
        numbers = {position.partition for position in partitions}
        low = {}
        for position in partitions:
            low[position.topic, position.partition], _ = consumer.get_watermark_offsets(position, timeout=_SECONDS)
        for number in numbers:
            self._states[number] = self._loaded(number, low)
        for position in partitions:
            offset = self._states[position.partition].offsets.get(position.topic)
            position.offset = OFFSET_BEGINNING if offset is None else offset
        consumer.assign(partitions)
        self._metrics.partitions.set(len(self._states))

    def _loaded(self, number: int, low: dict[tuple[str, int], int]) -> PartitionState:
        state = PartitionState(self._own.group, self._own.stream)
        found = state.load(self._instance.snapshot(number))
        offsets = {topic: state.offsets.get(topic, 0) for topic in self._topics}
        ahead = any(offset > self._committed.get((topic, number), 0) for topic, offset in offsets.items())
        behind = any(offset < low.get((topic, number), 0) for topic, offset in offsets.items())
        if not found or ahead or behind:
            # Of another topic of that name, or so old that the topic no longer has what follows.
            return PartitionState(self._own.group, self._own.stream)
        return state

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._save()
        self._lost(_, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for position in partitions:
            self._states.pop(position.partition, None)
        self._metrics.partitions.set(len(self._states))

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
            state = self._states.get(delivery.partition)
            if state is None or delivery.offset < state.offsets.get(delivery.topic, 0):
                continue
            committed = self._committed.get((delivery.topic, delivery.partition), 0)
            (fresh if delivery.offset >= committed else replayed).append(delivery)
        return replayed, fresh

    def _micro_batch(self, messages: list[Delivery], *, fresh: bool) -> None:
        metrics = self._metrics
        if not fresh:
            messages = self._without_dead_letters(messages)
            if not messages:
                return
        with metrics.stage("decode"):
            events, refused = self._events(messages)
        with metrics.stage("state"):
            new, past = self._new_events(events, refused)
        with metrics.stage("transform"):
            result = self._computed(new, past)
        refused |= result.refused
        numbers = {message.partition for message in messages}
        ingested_at = self._ingestion_time(numbers, fresh=fresh)
        rows = stored_rows(result.rows, self._own.registered, ingested_at)
        standing = stored_rows(self._standing(new, result), self._own.registered, ingested_at)
        retracted = result.retracted.with_columns(pl.lit(ingested_at, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
        following = {(message.topic, message.partition): message.offset + 1 for message in messages}
        if fresh:
            self._transact(messages, rows, retracted, refused, following)
            metrics.events.inc(len(messages))
            metrics.rows.inc(rows.height)
            metrics.retracted.inc(retracted.height)
            metrics.dead_letters.inc(len(refused))
            metrics.repeated.inc(events.height - sum(part.height for part in new.values()))
        with metrics.stage("online"):
            self._own.delivered(lambda: self._own.delivery.deliver(rows, retracted, standing))
        if fresh:
            metrics.delay.observe(max(0.0, time.time() - min(message.sent_ms for message in messages) / 1000))
        with metrics.stage("state"):
            for number, part in new.items():
                accepted = part.filter(~pl.col(SEQUENCE).is_in(list(refused))) if refused else part
                self._states[number].add(accepted.drop(SEQUENCE), result.last_rows)
            for (topic, number), offset in following.items():
                self._states[number].offsets[topic] = offset
                self._report_lag(topic, number, offset)

    def _without_dead_letters(self, messages: list[Delivery]) -> list[Delivery]:
        """Returns messages without those that became dead letters.

        What they were judged by then may have changed since, and then they have come back, or will.
        """
        if self._dead is None:
            self._dead = read_letters(self._own.settings, self._own.group.name)
        dead = self._dead
        for message in messages:
            if letter_of(message) in dead:
                self._states[message.partition].offsets[message.topic] = message.offset + 1
        return [message for message in messages if letter_of(message) not in dead]

    def _events(self, messages: Sequence[Delivery]) -> tuple[pl.DataFrame, dict[int, str]]:
        """Returns the typed events, with their position and partition, and what was refused."""
        stream, entity = self._own.stream, self._own.group.entity
        payloads = []
        for message in messages:
            version = dict(message.headers).get(VERSION_HEADER) if message.headers else None
            payloads.append(Payload(message.value, version))
        decoded = self._decoder.decode(payloads)
        refused = dict(decoded.refused)
        numbers = [messages[position].partition for position in decoded.positions]
        events = decoded.events.with_columns(
            pl.Series(SEQUENCE, decoded.positions, dtype=pl.Int64), pl.Series(_PARTITION, numbers, dtype=pl.Int64)
        )
        latest = self._own.clock.now() + stream.most_ahead
        needed = [*entity.join_keys, EVENT_TIMESTAMP]
        conditions = {f"Field {name!r} is null.": pl.col(name).is_null() for name in needed}
        ahead = (
            f"The event lies in the future: after {latest.isoformat()}, the store's present and {stream.most_ahead}."
        )
        conditions[ahead] = pl.col(EVENT_TIMESTAMP) > latest
        if stream.entity is not None:
            keys = [(messages[position].key or b"").decode("utf-8", "replace") for position in decoded.positions]
            events = events.with_columns(pl.Series(ENTITY_ID, keys, dtype=pl.String))
            wrong = pl.col(ENTITY_ID).ne_missing(entity_id_expression(entity))
            conditions[f"The message's key is not the id of its {entity.name}."] = wrong
        for reason, condition in conditions.items():
            bad = events.filter(condition)
            if bad.height:
                refused |= dict.fromkeys(bad[SEQUENCE].to_list(), reason)
                events = events.filter(~condition)
        return (events.drop(ENTITY_ID) if stream.entity is not None else events), refused

    def _new_events(
        self, events: pl.DataFrame, refused: dict[int, str]
    ) -> tuple[dict[int, pl.DataFrame], dict[int, Past]]:
        """Returns the events of each partition that count, and what is known of their entities."""
        new, past = {}, {}
        for (number,), part in events.partition_by(_PARTITION, as_dict=True, include_key=False).items():
            state = self._states[number]
            micros = part[EVENT_TIMESTAMP].to_physical()
            if state.seeds is None:
                state.seeds = self._own.seeds(int(micros.min()))  # type: ignore[arg-type]
            late = state.too_late(micros)
            if late.any():
                reason = f"The event comes more than {self._own.stream.allowed_lateness} behind the newest one."
                refused |= dict.fromkeys(part.filter(late)[SEQUENCE].to_list(), reason)
                part = part.filter(~late)  # noqa: PLW2901
            if part.is_empty():
                continue
            new[number], past[number] = state.without_repeated(part)
        return new, past

    def _computed(self, new: dict[int, pl.DataFrame], past: dict[int, Past]) -> MicroBatchRows:
        parts = [part for part in new.values() if part.height]
        if not parts:
            return nothing(self._own.group)
        seeds = [known.seeds for known in past.values() if known.seeds is not None]
        known = Past(
            pl.concat([known.events for known in past.values()]),
            pl.concat([known.last_rows for known in past.values()]),
            pl.concat(seeds) if seeds else None,
        )
        return compute_micro_batch(self._own.group, pl.concat(parts), known)

    def _standing(self, new: dict[int, pl.DataFrame], result: MicroBatchRows) -> pl.DataFrame:
        """Returns the rows that are left to each entity of which one is taken back, as far back as the state tells."""
        if result.retracted.is_empty():
            return result.rows.clear()
        group = self._own.group
        entities = result.retracted.select(group.entity.join_keys.keys()).unique()
        found = [result.rows.clear()]
        for number, part in new.items():
            state = self._states[number]
            events = state.events_of(entities, part.drop(SEQUENCE))
            if events.height:
                found.append(rows_since(group, events, _moment(max(state.complete_from, _FIRST))))
        return pl.concat(found)

    def _ingestion_time(self, numbers: set[int], *, fresh: bool) -> datetime:
        """Returns a time that is later than that of all rows emitted before for entities of some partitions.

        Whatever the clocks of several machines say: the last one is committed beside the offsets.
        """
        last = max(self._ingested.get(number, EARLIEST) for number in numbers)
        if not fresh:
            return _moment(last)
        delivery, name = self._own.delivery, self._instance.name
        given = self._own.delivered(lambda: delivery.claim(name, _moment(max(last, _FIRST) + 1)))
        self._ingested |= dict.fromkeys(numbers, to_micros(given))
        return given

    def _transact(
        self,
        messages: Sequence[Delivery],
        rows: pl.DataFrame,
        retracted: pl.DataFrame,
        refused: dict[int, str],
        following: dict[tuple[str, int], int],
    ) -> None:
        produce = self._producer.produce
        with self._metrics.stage("produce"):
            self._producer.begin_transaction()
            for key, value in zip(*self._codec.encode(rows), strict=True):
                produce(self._features, value, key)
            for key, value in zip(*self._codec.encode(retracted), strict=True):
                produce(self._features, value, key, headers=[(KIND, RETRACTION)])
            for position, reason in sorted(refused.items()):
                message = messages[position]
                headers = as_headers(letter_headers(message, reason, self._definition))
                produce(self._letters, message.value, message.key, headers=headers)
        with self._metrics.stage("commit"):
            offsets = [
                TopicPartition(topic, number, offset, str(self._ingested[number]))
                for (topic, number), offset in following.items()
            ]
            self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), _SECONDS)
            self._producer.commit_transaction(_SECONDS)
        self._committed |= following
        self._own.delivered(lambda: self._own.delivery.committed(self._instance.name))

    def _report_lag(self, topic: str, number: int, offset: int) -> None:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
        self._metrics.lag(topic, number, max(0, end - offset))

    def _save(self) -> None:
        with self._metrics.stage("state"):
            for number, state in self._states.items():
                if state.offsets:
                    state.save(self._instance.snapshot(number))
            self._metrics.state_events.set(sum(state.rows for state in self._states.values()))
            self._metrics.state_bytes.set(sum(state.size for state in self._states.values()))
        self._saved_at = time.monotonic()


_FIRST = to_micros(datetime(1, 1, 2, tzinfo=UTC))

_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - the client's public constants look like this
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._PARTITION_EOF,  # noqa: SLF001
    }
)


def _moment(micros: int) -> datetime:
    return pl.Series([micros], dtype=pl.Int64).cast(TIMESTAMP_TYPE).item().astimezone(UTC)  # type: ignore[no-any-return]
