"""Messages as others write them, through a real broker: changes, tombstones, epochs, sizes, and what is malformed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import polars as pl
from confluent_kafka import Producer
from hypothesis import HealthCheck, Phase, given, seed, settings

from feature_store.clock import to_micros
from feature_store.transform.comparison import difference
from tests.streaming.pipeline import EVENTS, KEYS, batch, by_the_rule, random_orders, read_all, wait_until
from tests.streaming.test_hostile_messages import values

HOSTILE = 400


def send(pipeline, messages) -> None:
    """Sends keys and values, to one partition, so that their order is that of the topic."""
    options = {"bootstrap.servers": pipeline.server.bootstrap, "log_level": 0, "message.max.bytes": 20_000_000}
    producer = Producer(options)
    for key, value in messages:
        producer.produce(pipeline.stream.topic, value, key, 0)
    assert producer.flush(30) == 0


def event(order: dict, **changed: object) -> dict:
    """Returns an order as Debezium tells it: its time in microseconds since 1970."""
    return {**order, "event_timestamp": to_micros(order["event_timestamp"]), **changed}


def change(op: str, before: dict | None, after: dict | None) -> bytes:
    return json.dumps({"schema": {}, "payload": {"op": op, "before": before, "after": after, "ts_ms": 1}}).encode()


def hostile_values() -> list[bytes | None]:
    """Returns a seeded share of what the generator of hostile messages makes."""
    found: list[bytes | None] = []

    @seed(1)
    @settings(
        max_examples=HOSTILE,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=values)
    def gather(value: bytes | None) -> None:
        found.append(value)

    gather()
    return found


def test_of_hostile_messages_each_is_a_row_or_a_letter_and_the_others_go_on(pipeline):
    events = random_orders(60, customers=3)
    hostile = hostile_values()
    pipeline.publish(events[:30])
    send(pipeline, [("c1", value) for value in hostile])
    pipeline.publish(events[30:])
    streamer = pipeline.stream_all()
    registry, group = streamer.metrics.registry, {"group": pipeline.group.name}
    letters = read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")
    origins = {dict(letter.headers())["dead-letter.offset"] for letter in letters}
    assert len(origins) == len(letters) <= len(hostile)
    assert all(dict(letter.headers())["dead-letter.error"].strip() for letter in letters)
    assert registry.get_sample_value("feature_stream_events_total", group) == events.height + len(hostile)
    assert registry.get_sample_value("feature_stream_dead_letters_total", group) == len(letters)
    assert registry.get_sample_value("feature_stream_restarts_total", group) == 0
    found = by_the_rule(pipeline.rows()).filter(pl.col("customer") != "c1")
    expected = batch(pipeline.group, events.filter(pl.col("customer") != "c1"))
    assert difference(expected, found, KEYS) is None


def test_a_letter_that_is_too_large_holds_the_head_and_the_size(pipeline):
    events = random_orders(20, customers=2)
    pipeline.publish(events[:10])
    bad = b'{"x": "' + b"y" * 1_020_000 + b'"}'
    send(pipeline, [("c1", bad)])
    pipeline.publish(events[10:])
    pipeline.stream_all()
    (letter,) = read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")
    assert bad.startswith(letter.value())
    assert dict(letter.headers())["dead-letter.size"] == b"%d" % len(bad)
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None


def test_changes_of_a_table_come_to_what_the_table_holds(pipeline):
    """The table is the oracle: whatever was inserted, changed and deleted, the rows are a batch's over what is left."""
    changes = {"envelope": "debezium", "identity": ("order_id",), "epoch": "us", "tombstones": "ignore"}
    pipeline.stream = replace(pipeline.stream, **changes, allowed_lateness=timedelta(days=9))
    orders = random_orders(60, customers=3).to_dicts()
    table = {order["order_id"]: order for order in orders}
    messages = [(order["customer"], change("c", None, event(order))) for order in orders]
    for order in orders[::5]:
        moved = order["event_timestamp"] + timedelta(hours=1)
        later = {**order, "amount": order["amount"] + 7, "event_timestamp": moved}
        messages.append((order["customer"], change("u", event(order), event(later))))
        table[order["order_id"]] = later
    for order in orders[2::7]:
        messages.append((order["customer"], change("d", event(table.pop(order["order_id"])), None)))
        messages.append((order["customer"], None))  # Debezium sends one after each delete
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    for begin in range(0, len(messages), 25):
        send(pipeline, messages[begin : begin + 25])
        pipeline.stream_all()
        drainer.drain()
    left = pl.DataFrame(list(table.values()), schema=EVENTS)
    assert difference(batch(pipeline.group, left), by_the_rule(pipeline.offline()), KEYS) is None
    pipeline.assert_online(left)
    assert not read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")


def test_a_message_without_a_value_withdraws_the_entity(pipeline):
    pipeline.stream = replace(pipeline.stream, tombstones="withdraw", epoch="us")
    events = random_orders(80, customers=3)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)

    def as_messages(part: pl.DataFrame) -> list[tuple[str, bytes]]:
        return [(order["customer"], json.dumps(event(order)).encode()) for order in part.iter_rows(named=True)]

    send(pipeline, as_messages(events[:40]))
    pipeline.stream_all()
    drainer.drain()
    send(pipeline, [*as_messages(events[40:50]), ("c1", None), *as_messages(events[50:])])
    pipeline.stream_all()
    drainer.drain()
    is_gone = (pl.col("customer") == "c1") & (pl.int_range(pl.len()) < 50)
    left = events.filter(~is_gone)
    assert left.filter(pl.col("customer") == "c1").height
    assert difference(batch(pipeline.group, left), by_the_rule(pipeline.offline()), KEYS) is None
    pipeline.assert_online(left)


def test_a_hook_reads_what_nothing_else_does(pipeline):
    def pipes(value: bytes) -> dict[str, object]:
        customer, time, amount, number = value.decode().split("|")
        return {"customer": customer, "event_timestamp": int(time), "amount": int(amount), "order_id": int(number)}

    pipeline.stream = replace(pipeline.stream, decode=pipes, epoch="us", key_format="json")
    events = random_orders(40, customers=3)
    messages = [
        (json.dumps({"customer": row["customer"]}), "|".join(map(str, event(row).values())).encode())
        for row in events.iter_rows(named=True)
    ]
    send(pipeline, [*messages[:20], ('{"customer": "c1"}', b"c1|today|1|1"), *messages[20:]])
    pipeline.stream_all()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None
    (letter,) = read_all(pipeline.server, f"dead-letters.{pipeline.group.name}")
    assert "today" in dict(letter.headers())["dead-letter.error"].decode()


def test_a_replay_sends_each_letter_once_beside_a_streamer(pipeline):
    from feature_store.streaming.dead_letters import replay

    send(pipeline, [(f"c{number}", b"{bad") for number in range(5)])
    letters = f"dead-letters.{pipeline.group.name}"
    with pipeline.streaming():
        wait_until(lambda: len(read_all(pipeline.server, letters)) == 5, "the letters")
        assert replay(pipeline.settings, pipeline.group.name).sent == 5
        wait_until(lambda: len(read_all(pipeline.server, letters)) == 10, "the letters, again")
