"""What is lost of the state is built anew: from snapshots, from the topic, from the source's files."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta

import msgspec
import polars as pl
import pytest

from feature_store.definitions.event_stream import EventStream
from feature_store.errors import DefinitionError, StreamError
from feature_store.streaming.streamer import Streamer
from feature_store.transform.comparison import difference
from tests.orders import START, Orders
from tests.streaming.pipeline import (
    KEYS,
    PARTITIONS,
    batch,
    by_the_rule,
    deliveries,
    habits,
    open_pipeline,
    random_orders,
    wait_until,
)


def test_without_its_snapshots_it_goes_on_from_the_topic(pipeline):
    events = random_orders(900, customers=20)
    delivered = deliveries(events, spread=200)
    for part in delivered.iter_slices(520):
        pipeline.publish(part)
        pipeline.stream_all()
        shutil.rmtree(pipeline.settings.state)
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None
    pipeline.assert_online(events)


def test_events_of_before_the_stream_come_from_the_sources_files(store, kafka_server, tmp_path):
    events = random_orders(1500, customers=20)
    begin = START + timedelta(days=4)
    history = events.filter(pl.col("event_timestamp") < begin)
    stream_part = events.filter(pl.col("event_timestamp") >= begin)
    pipeline = open_pipeline(store, kafka_server, tmp_path, "seeded")
    source = Orders(history, landed=(begin - timedelta(days=1)).date())
    pipeline.group = habits(source, "seeded")
    pipeline.publish(deliveries(stream_part))
    pipeline.stream_all()
    expected = batch(pipeline.group, events).filter(pl.col("event_timestamp") >= begin)
    found = by_the_rule(pipeline.rows()).filter(pl.col("event_timestamp") >= begin)
    assert difference(expected, found, KEYS) is None


def partitions(streamer: Streamer) -> float:
    return streamer.metrics.registry.get_sample_value("feature_stream_partitions", {"group": streamer.group.name})


def test_two_streamers_share_the_partitions_and_take_over_from_one_another(pipeline):
    events = random_orders(3000, customers=40)
    delivered = deliveries(events)
    with pipeline.streaming() as first:
        pipeline.publish(delivered[:1000])
        pipeline.wait()
        with pipeline.streaming() as second:
            for part in delivered[1000:1500].iter_slices(50):
                pipeline.publish(part)
            wait_until(lambda: partitions(first) and partitions(second), "a share for both")
            for part in delivered[1500:2500].iter_slices(100):
                pipeline.publish(part)
            pipeline.wait()
            assert partitions(first) + partitions(second) == PARTITIONS
        pipeline.publish(delivered[2500:])
        pipeline.wait()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None
    pipeline.assert_online(events)


def test_rows_that_a_late_event_undoes_are_taken_back(store, kafka_server, tmp_path):
    from tests.streaming.first_of_hour import first_orders

    pipeline = open_pipeline(store, kafka_server, tmp_path, "first_orders", group=first_orders)
    events = random_orders(800, customers=6)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    for part in deliveries(events, late=0.4, spread=60).iter_slices(300):
        pipeline.publish(part)
        pipeline.stream_all()
        drainer.drain()
    expected = batch(pipeline.group, events)
    assert difference(expected, by_the_rule(pipeline.offline()), KEYS) is None
    pipeline.assert_online(events)


def test_a_group_that_cannot_read_the_events_says_which_field(pipeline):
    renamed = msgspec.defstruct("Renamed", [("customer", str), ("event_timestamp", datetime), ("price", int)])
    pipeline.stream = EventStream(
        pipeline.group.source, renamed, topic=pipeline.stream.topic, entity=pipeline.group.entity
    )
    with pytest.raises(StreamError, match="amount"):
        pipeline.store.streamer(pipeline.group, pipeline.stream, pipeline.settings).run()


def test_several_partitions_need_a_key(pipeline):
    unkeyed = EventStream(pipeline.group.source, pipeline.stream.schema, topic=pipeline.stream.topic)
    with pytest.raises(StreamError, match="3 partitions"):
        pipeline.store.streamer(pipeline.group, unkeyed, pipeline.settings).run()


def test_a_schema_of_other_types_is_refused(pipeline):
    wrong = msgspec.defstruct("Wrong", [("event_timestamp", list)])
    with pytest.raises(DefinitionError, match=r"Wrong\.event_timestamp"):
        EventStream(pipeline.group.source, wrong)
