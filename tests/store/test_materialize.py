from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.errors import (
    InvalidRequestError,
    InvalidRowsError,
    MissingSourceError,
    OvertakenError,
    RegistryConflictError,
)
from feature_store.partitions import Partitioning
from feature_store.streaming.settings import StreamSettings
from feature_store.transform.reports import MaterializationReport
from tests.orders import START, Orders, hourly_activity, orders, some_orders, spending

SPAN = ("2024-03-01", "2024-03-09")


def snapshot(store, group):
    rows = store.offline.scan(store.registered(group)).collect()
    return rows.sort("customer", "event_timestamp", "ingested_at")


def test_a_range_in_one_pass_equals_day_by_day(open_store, tmp_path):
    group = spending(Orders(some_orders()))
    store = open_store()
    store.apply([group])
    done = store.materialize(group, *SPAN)
    at_once = snapshot(store, group)
    assert [partition.key for partition in done.partitions] == [f"2024-03-0{day}" for day in range(1, 10)]
    assert at_once.height == done.rows > 0
    for partition in done.partitions:
        store.materialize(group, partition.key)
    assert_frame_equal(snapshot(store, group), at_once)


def test_hourly_partitions_have_a_file_each_and_read_as_one_history(store):
    source = Orders(some_orders())
    group = hourly_activity(source)
    store.apply([group])
    done = store.materialize(group, "2024-03-02-00:00", "2024-03-03-23:00")
    assert len(done.partitions) == 48
    assert {file.name for file in store.offline.files("activity")} == {f"batch-{hour:02}.parquet" for hour in range(24)}
    in_span = source.events.filter(pl.col("event_timestamp").dt.date().is_between(date(2024, 3, 2), date(2024, 3, 3)))
    assert snapshot(store, group).height == in_span.height


@pytest.mark.parametrize(
    ("first", "last", "hours"),
    [
        ("2024-03-02-05:00", None, 1),
        ("2024-03-02-05", "2024-03-02-07", 3),
        ("2024-03-02", None, 24),
        (date(2024, 3, 2), "2024-03-03-01:00", 26),
        (datetime(2024, 3, 2, 5, 59), datetime(2024, 3, 2, 9, tzinfo=timezone(timedelta(hours=2))), 3),
    ],
)
def test_partitions_are_named_by_key_by_day_or_by_an_instant(store, first, last, hours):
    group = hourly_activity(Orders(some_orders()))
    store.apply([group])
    reports: list[MaterializationReport] = []
    done = store.materialize(group, first, last, progress=reports.append)
    assert reports == [done]
    assert len(done.partitions) == done.asked == hours
    assert done.partitions[0].key == ("2024-03-02-00:00" if hours > 20 else "2024-03-02-05:00")
    assert str(done).startswith(f"activity: {hours} of {hours} partitions, {done.partitions[0].key} to ")
    assert done.online.rows == done.rows == snapshot(store, group).height


@pytest.mark.parametrize("first", ["2024-3-2", "2024-03-02-05:00", "", "x", 20240302, None])
def test_what_names_no_partition_is_refused(store, first):
    group = spending(Orders(some_orders()))
    store.apply([group])
    with pytest.raises(InvalidRequestError, match=f"{first!r} is not the key of a partition"):
        store.materialize(group, first)
    with pytest.raises(InvalidRequestError, match="empty"):
        store.materialize(group, "2024-03-03", "2024-03-02")


def test_the_passes_of_a_long_range_are_one_report(store):
    group = spending(Orders(some_orders()))
    store.apply([group])
    span = Partitioning.DAILY.span("2024-03-01", "2024-03-09")
    earlier = dataclasses.replace(group, start=START - timedelta(days=100))
    lines: list[str] = []
    done = store.materialize(
        earlier, START - timedelta(days=91), "2024-03-09", progress=lambda now: lines.append(str(now))
    )
    assert len(done.partitions) == 100
    assert [line.split(",")[0] for line in lines] == [f"spending: {n} of 100 partitions" for n in (92, 100)]
    (last,) = store.writes.materialize_passes(group, span)
    assert done.rows == sum(partition.profile.rows for partition in last.partitions)


def test_memory_is_bounded_by_passes(store):
    source = Orders(some_orders())
    group = spending(source)
    store.apply([group])
    from feature_store.transform.materialization import Materialization, materialize

    job = Materialization(
        store.current_catalog.bind(group), store.offline, store.online, store.clock, partitions_per_pass=4
    )
    passes = list(materialize(job, Partitioning.DAILY.span(*SPAN)))
    assert [len(done.partitions) for done in passes] == [4, 4, 1]
    assert all(window.end - window.start <= timedelta(days=4 + 3) for window in source.scans)


def test_the_online_store_holds_the_newest_visible_row(store, clock):
    group = spending(Orders(some_orders()))
    store.apply([group])
    store.materialize(group, *SPAN)
    clock.set(datetime(2024, 3, 9, 23, 59, tzinfo=UTC))
    customers = [f"c{number}" for number in range(5)]
    online = store.get_online_features_batch(customers, ["spending"])
    offline = store.get_offline_features(customers, ["spending"], [clock.now()] * 5)
    assert online == offline.drop("entity_id", "as_of_timestamp").to_dicts()
    assert any(value is not None for row in online for value in row.values())


def test_a_backfill_of_the_past_never_changes_a_newer_online_value(store, clock):
    group = spending(Orders(some_orders()))
    store.apply([group])
    store.materialize(group, *SPAN)
    before = store.get_online_features_batch(["c1", "c2", "c3"], ["spending"])
    clock.set(clock.now() + timedelta(hours=1))
    store.materialize(group, "2024-03-02", "2024-03-05")
    assert store.get_online_features_batch(["c1", "c2", "c3"], ["spending"]) == before


def test_rows_that_break_the_schema_name_their_partition_and_leave_the_others(store):
    bad = orders(("c9", datetime(2024, 3, 4, 12, tzinfo=UTC), 5000))
    group = spending(Orders(pl.concat([some_orders(), bad])))
    store.apply([group])
    with pytest.raises(InvalidRowsError, match=r"partition 2024-03-04.*refused, nothing was written(.|\n)*5000"):
        store.materialize(group, *SPAN)
    assert [window.start.day for window in store.offline.materialized(store.registered(group))] == [
        1,
        2,
        3,
        *range(5, 10),
    ]
    assert store.get_online_features("c9", ["last_amount"]) == {"last_amount": None}


def test_a_day_that_has_not_landed_is_an_error_that_names_it(store):
    group = spending(Orders(some_orders(), landed=date(2024, 3, 5)))
    store.apply([group])
    with pytest.raises(MissingSourceError, match="2024-03-05"):
        store.materialize(group, *SPAN)


def test_a_later_source_wins_over_an_earlier_pass_of_the_same_partition(open_store):
    early = open_store(FixedClock(datetime(2024, 3, 10, 1, tzinfo=UTC)))
    late = open_store(FixedClock(datetime(2024, 3, 10, 2, tzinfo=UTC)))
    when = datetime(2024, 3, 9, 12, tzinfo=UTC)
    corrected = spending(Orders(orders(("c1", when, 20))))

    class Overtaken(Orders):
        def scan(self, window):
            events = super().scan(window)
            late.materialize(corrected, "2024-03-09")
            return events

    old = spending(Overtaken(orders(("c1", when, 10))))
    late.apply([corrected])
    with pytest.raises(OvertakenError, match=r"partition 2024-03-09.*nothing was written"):
        early.materialize(old, "2024-03-09")
    for store in (early, late):
        assert store.get_online_features("c1", ["last_amount"]) == {"last_amount": 20}
        assert snapshot(store, old)["last_amount"].to_list() == [20]


def test_running_again_leaves_the_same_content(store, clock):
    group = spending(Orders(some_orders()))
    store.apply([group])
    store.materialize(group, *SPAN)
    before = store.offline.content(store.offline.files("spending"))
    clock.set(clock.now() + timedelta(hours=1))
    store.materialize(group, *SPAN, run_id="another")
    assert store.offline.content(store.offline.files("spending")) == before
    group.source.events = group.source.events.with_columns(amount=pl.col("amount") + 1)
    store.materialize(group, *SPAN)
    assert store.offline.content(store.offline.files("spending")) != before


class Less(FeatureSchema):
    orders_3d: int = feature("Orders in the last 3 days", ge=1, nullable=False)
    amount_3d: int = feature("Amount of the orders in the last 3 days, in cents", ttl=timedelta(days=5))


class Renamed(Less):
    last_amount_v2: int = feature("Amount of the newest order, in cents")


@pytest.mark.parametrize("schema", [Less, Renamed])
def test_a_schema_that_lacks_a_live_feature_is_refused_before_anything_is_computed(store, schema):
    source = Orders(some_orders())
    group = spending(source)
    store.apply([group])
    store.materialize(group, *SPAN)
    before = store.get_online_features("c4", ["spending"]), snapshot(store, group)
    scans = len(source.scans)
    changed = dataclasses.replace(group, schema=schema)
    row = pl.DataFrame({"customer": ["c4"], "event_timestamp": [START], "orders_3d": [1], "amount_3d": [5]})
    settings = StreamSettings({"bootstrap.servers": "localhost:1"})
    for attempt in (
        lambda: store.apply([changed]),
        lambda: store.materialize(changed, *SPAN),
        lambda: store.ingest(changed, row),
        lambda: store.drainer(changed, settings),
    ):
        with pytest.raises(RegistryConflictError, match=r"lacks last_amount:v1.*feature-store retire last_amount:v1"):
            attempt()
    assert len(source.scans) == scans
    assert store.get_online_features("c4", ["spending"]) == before[0]
    assert_frame_equal(snapshot(store, group), before[1])


def test_a_retired_feature_may_leave_the_schema(store, clock):
    group = spending(Orders(some_orders()))
    store.apply([group])
    store.materialize(group, *SPAN)
    store.retire(FeatureRef("last_amount", 1))
    less = dataclasses.replace(group, schema=Less, transform=lambda events: group.transform(events).drop("last_amount"))
    store.apply([less])
    clock.set(clock.now() + timedelta(hours=1))
    store.materialize(less, *SPAN)
    row = pl.DataFrame({"customer": ["new"], "event_timestamp": [clock.now()], "orders_3d": [1], "amount_3d": [5]})
    store.ingest(less, row)
    for customer in ("c4", "new"):
        online = store.get_online_features(customer, ["spending"])
        assert set(online) == {"orders_3d", "amount_3d"}
        assert online["amount_3d"] is not None
        offline = store.get_offline_features([customer], ["spending"], [clock.now()])
        assert offline.drop("entity_id", "as_of_timestamp").to_dicts() == [online]
