"""What becomes of a topic and of the source's files around a stream: nothing is torn apart, and nothing goes unsaid."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from feature_store.errors import StreamError
from feature_store.transform.comparison import difference
from tests.orders import START
from tests.streaming.pipeline import KEYS, PARTITIONS, batch, by_the_rule, random_orders, read_all, wait_until


def test_a_new_machine_goes_on_from_the_snapshot(pipeline, tmp_path):
    events = random_orders(600, customers=10)
    pipeline.publish(events[:400])
    pipeline.stream_all()
    for number in range(PARTITIONS):
        # What the snapshot holds cannot be read again.
        last = [m.offset() for m in read_all(pipeline.server, pipeline.stream.topic) if m.partition() == number]
        pipeline.server.delete_records(pipeline.stream.topic, max(last) + 1, number)
    pipeline.settings = replace(pipeline.settings, state=tmp_path / "another-machine")
    pipeline.publish(events[400:])
    streamer = pipeline.stream_all()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None
    labels = {"group": pipeline.group.name}
    assert streamer.metrics.registry.get_sample_value("feature_stream_lost_events_total", labels) == 0


def test_more_partitions_are_rejected_and_the_remedy_works(pipeline):
    source, events = pipeline.group.source, random_orders(600, customers=10)
    pipeline.publish(events[:300])
    pipeline.stream_all()
    pipeline.server.add_partitions(pipeline.stream.topic, PARTITIONS + 4)
    with pytest.raises(StreamError, match="stream rebuild"):
        pipeline.store.streamer(pipeline.group, pipeline.stream, pipeline.settings).run()
    # The files of the source land, as always; then the remedy.
    source.events = events[:300].clone()
    source.landed = events[299, "event_timestamp"].date()
    pipeline.store.streamer(pipeline.group, pipeline.stream, pipeline.settings).rebuild()
    pipeline.publish(events[300:])
    pipeline.stream_all()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None


def test_rows_of_a_topic_that_was_made_anew_are_drained(pipeline):
    events = random_orders(300, customers=10)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    pipeline.publish(events[:150])
    pipeline.stream_all()
    drainer.drain()
    rows = f"features.{pipeline.group.name}"
    pipeline.server.delete_topic(rows)
    wait_until(lambda: rows not in pipeline.server.admin().list_topics(timeout=10).topics, "the topic to go")
    pipeline.publish(events[150:])
    pipeline.stream_all()
    drainer.drain()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.offline()), KEYS) is None


def test_rows_that_retention_took_are_named_once_and_the_drain_goes_on(pipeline):
    events = random_orders(300, customers=1)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    pipeline.publish(events[:150])
    pipeline.stream_all()
    messages = read_all(pipeline.server, f"features.{pipeline.group.name}")
    (partition,) = {message.partition() for message in messages}
    pipeline.server.delete_records(f"features.{pipeline.group.name}", messages[-1].offset() - 4, partition)
    with pytest.raises(StreamError, match="Offsets 0 to "):
        drainer.drain()
    pipeline.publish(events[150:])
    pipeline.stream_all()
    drainer.drain()
    kept = by_the_rule(pipeline.offline())
    expected = batch(pipeline.group, events)
    assert expected.join(kept, on=KEYS, how="semi").height == kept.height > 100
    assert difference(expected.join(kept.select(KEYS), on=KEYS, how="semi"), kept, KEYS) is None


def test_a_stream_waits_for_days_between_and_heals_what_lacked_the_first(pipeline, caplog):
    """Days 0 and 1 have landed, day 2 has not; the topic begins in the middle of day 3."""
    source, events = pipeline.group.source, random_orders(400, customers=5, days=6)
    begin = START + timedelta(days=3, hours=12)
    source.events, source.landed = events, (START + timedelta(days=1)).date()
    pipeline.publish(events.filter(pl.col("event_timestamp") >= begin))
    expected = batch(pipeline.group, events).filter(pl.col("event_timestamp") >= begin)
    rows = pl.col("event_timestamp") >= begin
    missing = str((START + timedelta(days=2)).date())
    with caplog.at_level(logging.WARNING, "feature_store"), pipeline.streaming() as streamer:
        wait_until(lambda: missing in caplog.text, "the missing day to be named")
        assert pipeline.rows().is_empty()
        source.landed = (START + timedelta(days=2)).date()
        pipeline.wait()
        assert difference(expected, by_the_rule(pipeline.rows()), KEYS) is not None
        source.landed = (START + timedelta(days=3)).date()
        wait_until(lambda: difference(expected, by_the_rule(pipeline.rows()).filter(rows), KEYS) is None, "healing")
    assert (
        streamer.metrics.registry.get_sample_value("feature_stream_look_back_gap_days", {"group": pipeline.group.name})
        == 0
    )
