"""Events per second through a streamer, beside a bare consumer-and-producer loop on the same broker.

    python -m benchmarks.streaming             both groups, 100,000 events each, then the delay at half the targets
    python -m benchmarks.streaming --events N  another number of events

Starts Kafka (one JVM, as the tests do) and Redis itself; all runs share this machine's cores with them. Each line tells
events per second, its share of the bare loop, and where the streamer's time went. Ratios travel between machines,
absolute figures do not.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

from feature_store.clock import SystemClock
from feature_store.definitions.entity import Entity
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.partitions import Window
from feature_store.store import FeatureStore
from feature_store.streaming.metrics import STAGES
from feature_store.streaming.publishing import publish_events
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.streamer import Streamer
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer

USER = Entity("user", {"user_id": int})
USERS = 5_000
TARGETS = {"stateless": 20_000, "lookback_7d": 5_000}
PARTITIONS = 4


class Click(msgspec.Struct):
    """An event."""

    event_timestamp: datetime
    user_id: int
    item: int
    price: float
    clicked: bool


@dataclass(frozen=True)
class NoFiles:
    """A source without files."""

    name: str = "clicks"
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def scan(self, window: Window) -> pl.LazyFrame:
        """Nothing to scan."""
        raise NotImplementedError

    def fingerprint(self, _: date) -> None:
        """Nothing has landed."""

    def landed_days(self) -> Iterator[date]:
        """Nothing has landed."""
        return iter(())


class Latest(FeatureSchema):
    """Of one event."""

    last_item: int = feature("Item of the event")
    last_price: float = feature("Price of the event")
    is_expensive: bool = feature("Whether it costs more than 50")


class Week(FeatureSchema):
    """Of a week's events."""

    events_7d: int = feature("Events in the last 7 days")
    clicks_7d: int = feature("Clicks in the last 7 days")
    greatest_price_7d: float = feature("Greatest price in the last 7 days")


SOURCE = NoFiles()


@feature_group(entity=USER, source=SOURCE, schema=Latest, owner="bench@example.com", ttl=timedelta(days=30))
def stateless(events: pl.LazyFrame) -> pl.LazyFrame:
    """One row per event, of that event alone."""
    return events.group_by("user_id", "event_timestamp").agg(
        pl.col("item").max().alias("last_item"),
        pl.col("price").max().alias("last_price"),
        (pl.col("price").max() > 50).alias("is_expensive"),
    )


@feature_group(
    entity=USER,
    source=SOURCE,
    schema=Week,
    owner="bench@example.com",
    lookback=timedelta(days=7),
    ttl=timedelta(days=30),
)
def lookback_7d(events: pl.LazyFrame) -> pl.LazyFrame:
    """Rolling counts of a week."""
    return (
        events.sort("user_id", "event_timestamp")
        .rolling("event_timestamp", period="7d", group_by="user_id")
        .agg(
            pl.len().cast(pl.Int64).alias("events_7d"),
            pl.col("clicked").sum().cast(pl.Int64).alias("clicks_7d"),
            pl.col("price").max().alias("greatest_price_7d"),
        )
        .unique(["user_id", "event_timestamp"], keep="first", maintain_order=True)
    )


def clicks(count: int, *, days: float, end: datetime) -> pl.DataFrame:
    """Returns events in order of time, spread over some days before an instant."""
    chance = np.random.default_rng(1)
    micros = np.sort(chance.integers(0, int(days * 86_400e6), count))
    begin = int((end - timedelta(days=days)).timestamp() * 1e6)
    return pl.DataFrame(
        {
            "event_timestamp": pl.Series(begin + micros).cast(pl.Datetime("us", "UTC")),
            "user_id": chance.integers(0, USERS, count),
            "item": chance.integers(0, 10_000, count),
            "price": chance.uniform(0, 100, count).round(2),
            "clicked": chance.uniform(size=count) < 0.1,
        }
    )


@contextmanager
def streaming(
    store: FeatureStore, group: FeatureGroup, stream: EventStream, settings: StreamSettings
) -> Iterator[Streamer]:
    streamer = store.streamer(group, stream, settings)
    thread = threading.Thread(target=streamer.run)
    thread.start()
    try:
        yield streamer
    finally:
        streamer.stop()
        thread.join()


def bare(bootstrap: str, topic: str, count: int) -> float:
    """The floor: read every message, write it to another topic, in transactions of 5,000 with the offsets."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bare",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "bare", "compression.type": "lz4"})
    producer.init_transactions(30)
    consumer.subscribe([topic])
    consumer.consume(1, 10)
    started, seen = time.perf_counter(), 1
    while seen < count:
        messages = consumer.consume(5000, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(f"{topic}.copy", message.value(), message.key())
        ends = {m.partition(): m.offset() + 1 for m in messages}
        offsets = [TopicPartition(topic, number, offset) for number, offset in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        seen += len(messages)
    seconds = time.perf_counter() - started
    consumer.close()
    return count / seconds


def wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def value(streamer: Streamer, name: str, **labels: str) -> float:
    found = streamer.metrics.registry.get_sample_value(
        f"feature_stream_{name}", {"group": streamer.group.name, **labels}
    )
    return found or 0.0


def throughput(
    server: KafkaServer, store: FeatureStore, group: FeatureGroup, settings: StreamSettings, count: int
) -> float:
    stream = EventStream(SOURCE, Click, USER, topic=f"clicks.{group.name}")
    server.create_topic(stream.topic, PARTITIONS)
    server.create_topic(f"{stream.topic}.copy", PARTITIONS)
    events = clicks(count, days=7 if group.lookback else 0.01, end=datetime.now(UTC))
    publish_events(settings, stream, events)
    floor = bare(server.bootstrap, stream.topic, count)
    with streaming(store, group, stream, settings) as streamer:
        wait(lambda: value(streamer, "events_total") > 0)
        first, started = value(streamer, "events_total"), time.perf_counter()
        before = {stage: value(streamer, "seconds_total", stage=stage) for stage in STAGES}
        wait(lambda: value(streamer, "events_total") >= count)
        seconds = time.perf_counter() - started
        spent = {stage: value(streamer, "seconds_total", stage=stage) - before[stage] for stage in STAGES}
    speed = (count - first) / seconds
    total = sum(spent.values())
    kafka = (spent["receive"] + spent["commit"]) / total
    shares = {"kafka": kafka, "decode": spent["decode"] / total, "state": spent["state"] / total}
    shares |= {name: spent[name] / total for name in ("transform", "produce", "online")}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    print(
        f"{group.name:12} {speed:9,.0f} events/s   target {TARGETS[group.name]:6,}   "
        f"bare loop {floor:9,.0f} (ratio {speed / floor:.2f})   {shown}",
        flush=True,
    )
    return speed


def delay(
    server: KafkaServer, store: FeatureStore, group: FeatureGroup, settings: StreamSettings, seconds: float
) -> None:
    """From an event's being sent to its row's being readable, asked by another client of the same process."""
    rate = TARGETS[group.name] / 2
    stream = EventStream(SOURCE, Click, USER, topic=f"clicks.{group.name}.slow")
    server.create_topic(stream.topic, PARTITIONS)
    options = {"bootstrap.servers": server.bootstrap, "linger.ms": 5, "partitioner": "murmur2_random"}
    producer = Producer(options)
    catalog = store.catalog()
    selections = catalog.select([group.name])[:1]
    delays: list[float] = []
    encode = msgspec.json.Encoder().encode
    with streaming(store, group, stream, settings) as streamer:
        history = clicks(20_000, days=6.5, end=datetime.now(UTC) - timedelta(minutes=1))
        publish_events(settings, stream, history)
        wait(lambda: value(streamer, "events_total") >= history.height)
        stop = threading.Event()

        def send() -> None:
            started, sent = time.monotonic(), 0
            while not stop.is_set():
                due = int((time.monotonic() - started) * rate)
                for number in range(sent, due):
                    event = Click(datetime.now(UTC), 10 + number % USERS, number % 10_000, 1.0, clicked=False)
                    producer.produce(stream.topic, encode(event), str(event.user_id).encode())
                sent = due
                producer.poll(0.005)
            producer.flush()

        thread = threading.Thread(target=send)
        thread.start()
        ended = time.monotonic() + seconds
        while time.monotonic() < ended:
            probe = Click(datetime.now(UTC), len(delays) % 10, 7, 1.0, clicked=False)
            began = time.perf_counter()
            producer.produce(stream.topic, encode(probe), str(probe.user_id).encode())
            while True:
                (state,) = store.online.read_states([str(probe.user_id)], selections, catalog)
                event_time = next(iter(state.values())).event_timestamp
                if event_time is not None and event_time >= probe.event_timestamp:
                    break
                time.sleep(0.003)
            delays.append(time.perf_counter() - began)
            time.sleep(0.02)
        stop.set()
        thread.join()
    p50, p99 = np.percentile(delays, [50, 99]) * 1000
    shown = f"delay p50 {p50:.0f} ms, p99 {p99:.0f} ms ({len(delays)} probes)"
    print(f"{group.name:12} at {rate:6,.0f} events/s: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--delay-seconds", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaServer() as server, RedisServer() as redis:
        root = Path(folder)
        settings = StreamSettings({"bootstrap.servers": server.bootstrap, "log_level": "0"}, state=root / "state")
        store = FeatureStore(root / "offline", redis.url, f"sqlite:///{root / 'registry.db'}", SystemClock())
        groups = [stateless, lookback_7d]
        store.apply(groups)
        for group in groups:
            throughput(server, store, group, settings, arguments.events)
        if arguments.delay_seconds:
            for group in groups:
                slow = replace(settings, linger_seconds=0.05, state=root / "slow")
                delay(server, store, group, slow, arguments.delay_seconds)
        store.close()


if __name__ == "__main__":
    main()
