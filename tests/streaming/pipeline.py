"""What the tests of streams share: a stream of orders, and a store that streams them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition

from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.store import FeatureStore
from feature_store.streaming.decoding import encode_events
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.streamer import Streamer
from feature_store.transform.comparison import Difference, difference
from tests.orders import CUSTOMER, START, Orders, orders
from tests.servers.kafka import KafkaServer

DEADLINE = 60
KEYS = ["customer", "event_timestamp"]
LOOKBACK = timedelta(days=3)
PARTITIONS = 3


class Order(msgspec.Struct):
    customer: str | None
    event_timestamp: datetime
    amount: int | None
    order_id: int = 0


EVENTS = {"customer": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "amount": pl.Int64, "order_id": pl.Int64}


class Habits(FeatureSchema):
    orders_3d: int = feature("Orders in the last 3 days", ge=1, nullable=False)
    amount_3d: int = feature("Amount of the orders in the last 3 days, in cents")
    mean_3d: float = feature("Mean amount of an order in the last 3 days, in cents")
    greatest_3d: int = feature("Greatest amount of an order in the last 3 days, in cents", le=100_000)


def habits(source: Orders, name: str = "habits") -> FeatureGroup:
    """Returns a group whose rows do not depend on the order of events, ties in time included."""

    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Habits,
        owner="team@example.com",
        lookback=LOOKBACK,
        ttl=LOOKBACK,
        name=name,
    )
    def spent(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        return (
            events.sort("customer", "event_timestamp")
            .rolling("event_timestamp", period="3d", group_by="customer")
            .agg(
                pl.len().cast(pl.Int64).alias("orders_3d"),
                pl.col("amount").sum().alias("amount_3d"),
                pl.col("amount").max().alias("greatest_3d"),
            )
            .unique(["customer", "event_timestamp"], keep="first", maintain_order=True)
            .with_columns((pl.col("amount_3d") / pl.col("orders_3d")).alias("mean_3d"))
        )

    return spent


def no_files() -> Orders:
    """A source of which nothing has landed: the stream has no other past than its own."""
    source = Orders(orders().with_columns(order_id=pl.lit(0, pl.Int64)))
    source.landed = START.date() - timedelta(days=1)
    return source


def order_stream(source: Orders, **arguments: object) -> EventStream:
    given: dict[str, object] = {"entity": CUSTOMER, "allowed_lateness": LOOKBACK, **arguments}
    return EventStream(source, Order, **given)  # type: ignore[arg-type]


def random_orders(count: int, customers: int, *, days: int = 8, seed: int = 0) -> pl.DataFrame:
    """Returns distinct orders in order of time; minutes are coarse, so that some share theirs."""
    chance = random.Random(seed)
    step = days * 24 * 60 // 10
    rows = [
        (
            f"c{chance.randrange(customers)}",
            START + timedelta(minutes=10 * chance.randrange(step)),
            chance.randrange(1000),
            n,
        )
        for n in range(count)
    ]
    rows.sort(key=lambda row: row[1])
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


def deliveries(
    events: pl.DataFrame, *, late: float = 0.1, twice: float = 0.1, spread: int = 400, seed: int = 0
) -> pl.DataFrame:
    """Returns events as an unreliable network delivers them: some late, some twice, none lost."""
    chance = random.Random(seed)
    positions = [(n + (chance.randrange(spread) if chance.random() < late else 0), n) for n in range(events.height)]
    positions += [(n + chance.randrange(spread), n) for n in range(events.height) if chance.random() < twice]
    return events[[n for _, n in sorted(positions)]]


def publish(server: KafkaServer, topic: str, events: pl.DataFrame) -> None:
    """Sends events, keyed by customer."""
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 5, "log_level": 0})
    for key, value in zip(events["customer"], encode_events(events), strict=True):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(DEADLINE) == 0


def read_all(server: KafkaServer, topic: str) -> list[Message]:
    """Returns all committed messages of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": server.bootstrap,
            "group.id": "reader",
            "enable.partition.eof": "true",
            "enable.auto.commit": "false",
            "log_level": 0,
        }
    )
    numbers = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
    found = []
    deadline = time.monotonic() + DEADLINE
    while numbers:
        assert time.monotonic() < deadline
        for message in consumer.consume(1000, 0.2):
            if message.error():
                numbers.discard(message.partition())
            else:
                found.append(message)
    consumer.close()
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def wait_for_commits(server: KafkaServer, group: str, topic: str, seconds: float = DEADLINE) -> None:
    """Waits until a group's streamers have committed all that is in a topic."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": f"feature-store.{group}", "log_level": 0})

    def is_done() -> bool:
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            positions = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=10)
            ends = [consumer.get_watermark_offsets(position, timeout=10)[1] for position in positions]
        except (KafkaException, KeyError):
            return False  # a broker that has just been started is not ready for all
        return all(max(position.offset, 0) >= end for position, end in zip(positions, ends, strict=True))

    try:
        wait_until(is_done, "the stream to catch up", seconds)
    finally:
        consumer.close()


@dataclass
class Pipeline:
    """A store, a group on its stream, and a broker."""

    store: FeatureStore
    server: KafkaServer
    group: FeatureGroup
    stream: EventStream
    settings: StreamSettings
    streamers: list[Streamer] = field(default_factory=list)

    @contextmanager
    def streaming(self):
        """Streams in a thread while the block lasts."""
        streamer = self.store.streamer(self.group, self.stream, self.settings)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                streamer.run()
            except BaseException as error:
                failed.append(error)
                logging.getLogger(__name__).exception("the streamer has died")

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield streamer
        finally:
            streamer.stop()
            thread.join(DEADLINE)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    def stream_all(self) -> Streamer:
        """Streams until all that is in the topic has been committed."""
        with self.streaming() as streamer:
            self.wait()
        return streamer

    def wait(self, seconds: float = DEADLINE) -> None:
        wait_for_commits(self.server, self.group.name, self.stream.topic, seconds)

    def publish(self, events: pl.DataFrame) -> None:
        publish(self.server, self.stream.topic, events)

    def offline(self) -> pl.DataFrame:
        """Returns the rows of the offline store, all that were written."""
        return self.store.offline.scan(self.store.registered(self.group)).collect()

    def assert_online(self, events: pl.DataFrame, *, wait: bool = False) -> None:
        """Asserts that what is online is what the rule says of a batch pass over some events.

        Args:
            events: The events, each once.
            wait: Whether to wait for it: the offsets are committed a moment before the rows are written.
        """
        rows = batch(self.group, events).sort("event_timestamp").unique("customer", keep="last")
        visible = pl.col("event_timestamp") + LOOKBACK > self.store.clock.now()
        expected = rows.filter(visible).drop("event_timestamp")
        assert expected.height
        customers = expected["customer"].to_list()

        def wrong() -> Difference | None:
            found = pl.DataFrame(self.store.get_online_features_batch(customers, [self.group.name]))
            return difference(expected, found.insert_column(0, pl.Series("customer", customers)), ["customer"])

        if wait:
            wait_until(lambda: wrong() is None, "the rows to be online")
        assert wrong() is None

    def rows(self) -> pl.DataFrame:
        """Returns the rows in the features topic, all that were emitted."""
        from feature_store.streaming.rows import RowCodec

        codec = RowCodec(self.store.registered(self.group))
        messages = read_all(self.server, f"features.{self.group.name}")
        return codec.decode([message.value() for message in messages if not message.headers()])


def open_pipeline(
    store: FeatureStore,
    server: KafkaServer,
    folder: Path,
    name: str,
    *,
    group: Callable[[Orders, str], FeatureGroup] = habits,
    **arguments: object,
) -> Pipeline:
    source = no_files()
    defined = group(source, name)
    stream = order_stream(source, topic=f"orders-{name}", **arguments)
    server.create_topic(stream.topic, PARTITIONS)
    store.apply([defined])
    settings = StreamSettings(
        {"bootstrap.servers": server.bootstrap, "log_level": "0"},
        state=folder / "streams",
        session_seconds=1,
        linger_seconds=0.05,
    )
    return Pipeline(store, server, defined, stream, settings)


def by_the_rule(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the row that counts of each customer and time: the one that was ingested last."""
    return rows.sort("ingested_at").unique(KEYS, keep="last").drop("ingested_at")


def batch(group: FeatureGroup, events: pl.DataFrame) -> pl.DataFrame:
    """Returns what one batch pass over distinct events gives."""
    from feature_store.changes.validation import validate
    from feature_store.partitions import Window
    from feature_store.transform.compute import apply_transform

    span = Window(START - timedelta(days=400), START + timedelta(days=4000))
    return validate(group, apply_transform(group, events.lazy(), span))
