"""The flights of 2013 replayed as departures, arrivals and weather: stream, batch and training values agree."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_assets import flights
from feature_assets.flights.events import EVENTS
from feature_store.changes.validation import validate
from feature_store.clock import FixedClock
from feature_store.day_windows import day_window
from feature_store.definitions.event_stream import stream_of
from feature_store.partitions import Window
from feature_store.store import FeatureStore
from feature_store.streaming.publishing import publish_events
from feature_store.streaming.settings import StreamSettings
from feature_store.transform.comparison import difference
from feature_store.transform.compute import apply_transform
from tests.servers.kafka import KafkaServer
from tests.streaming.pipeline import Pipeline

FIRST = date(2013, 1, 1)
PARTITIONS = 2


def replay(folder: Path, redis_url: str, server: KafkaServer, *, last: date, labels: int) -> None:
    span = Window(day_window(FIRST).start, day_window(last).end)
    clock = FixedClock(span.end)
    stores = {
        name: FeatureStore(folder / name, redis_url, f"sqlite:///{folder / name}.db", clock)
        for name in ("stream", "batch")
    }
    settings = StreamSettings(
        {"bootstrap.servers": server.bootstrap, "log_level": "0"}, state=folder / "state", session_seconds=2
    )
    drained = stores["stream"]
    for store in stores.values():
        store.apply(flights.FEATURE_GROUPS)
    for group in flights.FEATURE_GROUPS:
        stream = replace(stream_of(group, flights.STREAMS), source=_Unlanded(group.source.name, span.start))
        topic = f"{stream.topic}.{folder.name}"
        stream = replace(stream, topic=topic)
        streamed = replace(group, source=stream.source)
        server.create_topic(topic, PARTITIONS)
        events = EVENTS[group.source.name]().filter(
            pl.col("event_timestamp").is_between(span.start, span.end, closed="left")
        )
        assert publish_events(settings, stream, events) == events.height
        pipeline = Pipeline(drained, server, streamed, stream, settings)
        pipeline.stream_all()
        keys = [*group.entity.join_keys, "event_timestamp"]
        expected = validate(group, apply_transform(group, events.lazy(), span))
        drained.drainer(group, settings).drain()
        drained.stream_files(group).compact()
        found = pipeline.offline().drop("ingested_at")
        assert difference(expected, found, keys) is None, group.name
        report = drained.check_consistency(group.name, entities=200)
        assert report.passed, report

        landed = replace(group, source=_Landed(group.source.name, events, span.start))
        stores["batch"].materialize(landed, span.start, span.end - timedelta(days=1))
        chosen = expected.sample(min(labels, expected.height), seed=1).select(keys)
        asked = chosen.with_columns(pl.col("event_timestamp") + timedelta(minutes=7))
        asked = asked.filter(pl.col("event_timestamp") < span.end)
        values = {name: store.training_set(asked, [group.name]) for name, store in stores.items()}
        assert difference(values["batch"], values["stream"], keys) is None, group.name
        assert values["stream"].drop(keys).null_count().sum_horizontal().item() < values["stream"].height


class _Unlanded:
    """A source without files: the stream has to do with what it delivers."""

    def __init__(self, name: str, start: datetime) -> None:
        self.name, self.start = name, start

    def scan(self, window: Window) -> pl.LazyFrame:
        raise AssertionError(window)

    def fingerprint(self, day: date) -> None:
        return None

    def landed_days(self):
        return iter(())


class _Landed(_Unlanded):
    def __init__(self, name: str, events: pl.DataFrame, start: datetime) -> None:
        super().__init__(name, start)
        self._events = events

    def scan(self, window: Window) -> pl.LazyFrame:
        return self._events.lazy().filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))


def test_a_week_of_flights(tmp_path, redis_url, kafka_server):
    replay(tmp_path, redis_url, kafka_server, last=date(2013, 1, 7), labels=500)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_quarter_of_flights(tmp_path, redis_url, kafka_server):
    replay(tmp_path, redis_url, kafka_server, last=date(2013, 3, 31), labels=20_000)
