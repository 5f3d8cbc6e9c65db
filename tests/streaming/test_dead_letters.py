"""Bad events: one by one to the dead-letter topic as they came, and back after a fix."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
from confluent_kafka import Producer

from feature_store.streaming.dead_letters import replay_dead_letters
from feature_store.transform.comparison import difference
from tests.orders import START
from tests.streaming.pipeline import KEYS, batch, by_the_rule, random_orders, read_all, wait_until

NOW = START + timedelta(days=9)
TIME = "2024-03-05T12:00:00Z"
BAD = {
    b'{"customer": "c1", "event_timesta': "truncated",
    b'{"customer": "c1", "event_timestamp": "2024-03-05T12:00:00Z", "amount": "ten"}': "$.amount",
    b'{"customer": "c1", "amount": 10}': "event_timestamp",
    b'{"customer": null, "event_timestamp": "2024-03-05T12:00:00Z", "amount": 10}': "'customer' is null",
    b'{"customer": "c1", "event_timestamp": "2924-03-05T12:00:00Z", "amount": 10}': "future",
    b'{"customer": "c1", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 99999999}': "greatest_3d",
    b'{"customer": "c2", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 1}': "key is not the id",
    b'{"customer": "c1", "event_timestamp": "2024-01-01T00:00:00Z", "amount": 1}': "behind the newest",
    b'{"customer": "c1", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 92233720368547758070}': "int64",
    b"[1], {}": "Expected `object`",
    b"": "",
}


def send(pipeline, messages) -> None:
    producer = Producer({"bootstrap.servers": pipeline.server.bootstrap, "log_level": 0})
    for value, key, headers in messages:
        producer.produce(pipeline.stream.topic, value, key, headers=headers)
    assert producer.flush(30) == 0


def test_bad_events_are_kept_as_they_came_and_the_stream_goes_on(pipeline):
    events = random_orders(500, customers=5)
    pipeline.publish(events[:250])
    version = [("schema-version", b"7")]
    good = b'{"customer": "c1", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 10}'
    send(pipeline, [(value, b"c1", [("trace", b"x")]) for value in BAD] + [(good, b"c1", version), (None, b"c1", [])])
    pipeline.publish(events[250:])
    streamer = pipeline.stream_all()

    letters = read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")
    by_value = {message.value(): message for message in letters}
    assert set(by_value) == {*BAD, good, None} - {b""} | {b""}
    assert len(letters) == len(BAD) + 2
    for value, reason in {**BAD, good: "Schema version '7' is unknown", None: "no value"}.items():
        headers = dict(by_value[value].headers())
        assert reason in headers["dead-letter.error"].decode(), value
        assert headers["dead-letter.topic"].decode() == pipeline.stream.topic
        assert headers["dead-letter.definition"].decode() == pipeline.group.code_version
        assert headers["dead-letter.attempts"] == b"1"
        assert by_value[value].key() == b"c1"
    origins = {(dict(m.headers())["dead-letter.partition"], dict(m.headers())["dead-letter.offset"]) for m in letters}
    assert len(origins) == len(letters)
    assert dict(by_value[b"[1], {}"].headers())["trace"] == b"x"
    exposed = streamer.metrics.registry.get_sample_value(
        "feature_stream_dead_letters_total", {"group": pipeline.group.name}
    )
    assert exposed == len(letters)
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None


def test_dead_letters_come_back_after_a_fix_and_only_once(pipeline):
    events = random_orders(300, customers=4)
    early = events.with_row_index("n").filter(pl.col("n") % 7 == 3).drop("n")
    strict = replace(pipeline.stream, versions=(1,))
    pipeline.stream = strict
    pipeline.publish(events.join(early, on="order_id", how="anti"))
    from feature_store.streaming.decoding import encode_events

    values = encode_events(early)
    send(
        pipeline, [(v, k.encode(), [("schema-version", b"2")]) for v, k in zip(values, early["customer"], strict=True)]
    )
    pipeline.stream_all()
    assert len(read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")) == early.height

    # Run before the fix, each is a dead letter again, of the same origin.
    assert replay_dead_letters(pipeline.settings, pipeline.group.name) == early.height
    retries = f"retries.{pipeline.group.name}"
    with pipeline.streaming():
        wait_until(
            lambda: len(read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")) == 2 * early.height, "letters"
        )
    again = read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")[early.height :]
    assert {dict(message.headers())["dead-letter.topic"].decode() for message in again} == {strict.topic}
    assert {dict(message.headers())["dead-letter.attempts"] for message in again} == {b"2"}

    pipeline.stream = replace(strict, versions=(1, 2), allowed_lateness=timedelta(days=9))
    assert replay_dead_letters(pipeline.settings, pipeline.group.name) == early.height
    assert replay_dead_letters(pipeline.settings, pipeline.group.name) == 0
    expected = batch(pipeline.group, events)
    with pipeline.streaming():
        wait_until(lambda: difference(expected, by_the_rule(pipeline.rows()), KEYS) is None, "the rows of a batch")
    assert len(read_all(pipeline.server, retries)) == 2 * early.height
    pipeline.assert_online(events)
