"""Of events that agree in a stream's identity one counts, in files too; where no stream carries a source, all do."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_store.clock import to_micros
from feature_store.definitions.entity import Entity
from feature_store.definitions.event_stream import EventStream
from feature_store.partitions import Window
from feature_store.streaming.state import GroupState
from feature_store.transform.compute import compute
from tests.orders import CUSTOMER, START, Orders
from tests.streaming.pipeline import EVENTS, Order, habits, order_stream

TWICE = pl.DataFrame([("c1", START, 5, 1), ("c1", START, 5, 1), ("c1", START, 5, 2)], schema=EVENTS, orient="row")


def counted(source: Orders) -> int:
    start = source.start
    source.start = start - timedelta(days=9)
    (row,) = compute(habits(source), Window(START, START + timedelta(days=1))).to_dicts()
    return row["orders_3d"]


def test_without_a_stream_all_count():
    assert counted(Orders(TWICE)) == 3


def test_with_a_stream_events_that_are_equal_in_its_columns_count_once():
    source = Orders(TWICE)
    EventStream(source, Order, CUSTOMER)
    assert counted(source) == 2


def test_an_identity_says_which_are_one_for_the_entity_that_keys_the_stream():
    source = Orders(TWICE)
    EventStream(source, Order, CUSTOMER, identity=("customer", "event_timestamp"))
    EventStream(source, Order, Entity("number", {"order_id": int}))
    assert counted(source) == 1


def test_one_pass_counts_as_many_as_a_pass_over_each_day():
    day = timedelta(days=1)
    rows = [("c1", START, 5, 1), ("c1", START + 3 * day, 7, 1), ("c1", START + 3 * day, 7, 1)]
    source = Orders(pl.DataFrame(rows, schema=EVENTS, orient="row"))
    EventStream(source, Order, CUSTOMER, identity=("order_id",))
    source.start = START - timedelta(days=9)
    group = habits(source)
    one_pass = compute(group, Window(START, START + 4 * day))
    by_day = pl.concat(
        [compute(group, Window(START + number * day, START + (number + 1) * day)) for number in range(4)]
    )
    assert one_pass.height == 2
    assert one_pass.sort("event_timestamp").equals(by_day.sort("event_timestamp"))


def test_an_event_from_a_fast_clock_makes_no_honest_one_late():
    group = habits(Orders(TWICE))
    lane = GroupState(group, order_stream(group.source)).new_lane()
    now, minute = to_micros(START), 60_000_000
    times = pl.Series([now - minute, now + 5 * minute, now - minute, now - 3 * minute, now])
    assert lane.too_late(times, timedelta(minutes=2), now).to_list() == [False, False, False, True, False]
    assert lane.watermark == now
