"""The demo of streams: weeks of flights as events through Kafka, and their agreement with a batch. `make stream-demo`.

It works on a store of its own, below the embedded folder, made anew each time. Without FEATURE_STORE_KAFKA it runs on
the mock cluster that the Kafka client brings along, which is enough for a look, but keeps nothing.
"""

from __future__ import annotations

import shutil
import threading
import time
from datetime import date

import polars as pl
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from feature_assets import flights
from feature_assets.flights.events import EVENTS
from feature_store.changes.validation import validate
from feature_store.clock import FixedClock
from feature_store.day_windows import day_window
from feature_store.definitions.event_stream import EventStream, stream_of
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.online.embedded import EmbeddedRedis
from feature_store.partitions import Window
from feature_store.settings import Settings, embedded_folder
from feature_store.store import FeatureStore
from feature_store.streaming.publishing import publish_events
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import ensure_topics, features_topic
from feature_store.transform.comparison import difference
from feature_store.transform.compute import apply_transform

LAST_DAY = date(2013, 1, 21)
PARTITIONS = 4
RATE = 500
RATE_SECONDS = 4
LABELS = 2000

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 120


def main() -> None:
    """Streams every group of the example, drains it, and compares it with a batch pass over the same events."""
    folder = embedded_folder().resolve() / "stream-demo"
    shutil.rmtree(folder, ignore_errors=True)
    span = Window(flights.START, day_window(LAST_DAY).end)
    redis = EmbeddedRedis(folder / "redis")
    settings, broker = _broker()
    agree = True
    try:
        with FeatureStore(
            folder / "offline", redis.ensure(), f"sqlite:///{folder / 'registry.db'}", FixedClock(span.end)
        ) as store:
            store.apply(flights.FEATURE_GROUPS)
            console.print(f"\n[bold]Flights of 1 to 21 January 2013 as events through {broker}[/]")
            table = Table("feature group", "topic", "events", "events/s", "rows", "batch, training, online")
            for group in flights.FEATURE_GROUPS:
                stream = stream_of(group, flights.STREAMS)
                agree = _stream(store, group, stream, settings, span, table) and agree
            console.print(table)
    finally:
        redis.stop()
    if not agree:
        raise SystemExit(1)


def _broker() -> tuple[StreamSettings, str]:
    state = embedded_folder().resolve() / "stream-demo" / "streams"
    settings = Settings.from_env()
    if settings.kafka:
        return StreamSettings(StreamSettings.of(settings).client, state=state), settings.kafka
    _Mock.producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    (broker,) = _Mock.producer.list_topics(timeout=10).brokers.values()
    client = {"bootstrap.servers": f"{broker.host}:{broker.port}", "log_level": "0"}
    return StreamSettings(client, state=state), "the client's mock cluster (set FEATURE_STORE_KAFKA for a broker)"


class _Mock:
    """Keeps the mock cluster alive: it ends with the producer that brought it up."""

    producer: Producer | None = None


def _stream(
    store: FeatureStore, group: FeatureGroup, stream: EventStream, settings: StreamSettings, span: Window, table: Table
) -> bool:
    inside = pl.col(EVENT_TIMESTAMP).is_between(span.start, span.end, closed="left")
    events = EVENTS[group.source.name]().filter(inside)
    topics = [stream.topic, features_topic(group.name), f"dead-letters.{group.name}", f"retries.{group.name}"]
    if _Mock.producer is not None:
        for topic in topics:
            _Mock.producer.list_topics(topic, timeout=10)  # the mock cluster makes a topic that is asked for
    else:
        ensure_topics(settings.client, {stream.topic: PARTITIONS})
    streamer = store.streamer(group, stream, settings)
    thread = threading.Thread(target=streamer.run, daemon=True)
    thread.start()
    slow = events[: RATE * RATE_SECONDS]
    publish_events(settings, stream, slow, rate=RATE)
    started = time.perf_counter()
    publish_events(settings, stream, events[slow.height :])
    counted = {"group": group.name}
    while (streamer.metrics.registry.get_sample_value("feature_stream_events_total", counted) or 0) < events.height:
        if not thread.is_alive():
            raise SystemExit(f"The streamer of {group.name} has ended: see above.")
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    streamer.stop()
    thread.join()
    store.drainer(group, settings).drain()
    store.stream_files(group).compact()
    expected = validate(group, apply_transform(group, events.lazy(), span))
    keys = [*group.entity.join_keys, EVENT_TIMESTAMP]
    found = store.offline.scan(store.registered(group)).collect().drop("ingested_at")
    differs = difference(expected, found, keys)
    online = store.check_consistency(group.name)
    # At the time of each row, a training set sees that row.
    labels = expected.select(keys).sample(min(expected.height, LABELS), seed=1, shuffle=True)
    trained = store.training_set(labels, [group.name]).select(expected.columns)
    differs = differs or difference(expected.join(labels, on=keys, how="semi"), trained, keys)
    left = events.height - slow.height
    speed = f"{left / seconds:,.0f}" if left else f"{RATE} (as sent)"
    verdict = str(differs or "") or ("[green]equal[/]" if online.passed else "[red]online differs[/]")
    table.add_row(group.name, stream.topic, f"{events.height:,}", speed, f"{found.height:,}", verdict)
    return differs is None and online.passed


if __name__ == "__main__":
    main()
