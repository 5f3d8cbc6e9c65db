"""Materialization on Spark: the rows, files and online values of the one-machine materialization."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError, InvalidRowsError, MissingSourceError, OvertakenError
from feature_store.frames import key_frame
from feature_store.offline.footers import file_metadata
from feature_store.store import FeatureStore
from tests.orders import CUSTOMER, START, Orders, hourly_activity, orders, some_orders, spending

if TYPE_CHECKING:
    from feature_store.transform.reports import MaterializationReport
    from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]

NOW = datetime.fromisoformat("2024-03-10T00:00:00Z")
DAY = timedelta(days=1)


@pytest.fixture
def open_at(tmp_path: Path, redis_server: RedisServer) -> Iterator[object]:
    """Opens a store of one engine; engines have folders of their own, and the online store is empty at first."""
    opened: list[FeatureStore] = []

    def open_one(engine: str, now: datetime = NOW) -> FeatureStore:
        redis_server.client().flushall()
        store = FeatureStore(
            offline=tmp_path / engine,
            online=redis_server.url,
            registry=f"sqlite:///{tmp_path / engine}.db",
            clock=FixedClock(now),
            engine=engine,
        )
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def materialize(store: FeatureStore, group: FeatureGroup, first: str, last: str) -> MaterializationReport:
    store.apply([group])
    return store.materialize(group, first, last, run_id="run-1")


def assert_same_files(one: FeatureStore, other: FeatureStore, group: FeatureGroup) -> None:
    """The same files with the same rows in the same order, the same digest and the same other metadata.

    Each partition on Spark claims its own time of ingestion: where one machine gives one to all, they follow it.
    """
    files = [store.offline.files(group.name) for store in (one, other)]
    assert [(file.date, file.name) for file in files[0]] == [(file.date, file.name) for file in files[1]]
    for left, right in zip(*files, strict=True):
        rows = [pl.read_parquet(file.path) for file in (left, right)]
        assert_frame_equal(*(frame.drop("ingested_at") for frame in rows), check_exact=True)
        later = (rows[1]["ingested_at"] - rows[0]["ingested_at"]).to_list()
        assert all(timedelta(0) <= each < timedelta(milliseconds=1) for each in later)
        described = [file_metadata(file.path) for file in (left, right)]
        # Sums of a profile are rounded in the order of rows, which is no part of a partition.
        assert all(metadata.pop("profile") for metadata in described)
        assert described[0] == described[1]


def online_values(store: FeatureStore, group: FeatureGroup, entity_ids: list[str]) -> list[dict[str, object]]:
    return store.get_online_features_batch(entity_ids, [group.name])


@pytest.mark.parametrize("layout", ["feature", "row"])
def test_spark_writes_what_one_machine_writes(spark, open_at, layout):
    group = spending(Orders(some_orders(customers=23)), online_layout=layout)
    customers = [f"c{number}" for number in range(24)]
    stores, values, reports = {}, {}, {}
    for engine in ("auto", "spark"):
        store = stores[engine] = open_at(engine)
        reports[engine] = materialize(store, group, "2024-03-02", "2024-03-09")
        values[engine] = online_values(store, group, customers)
    assert_same_files(stores["auto"], stores["spark"], group)
    assert values["spark"] == values["auto"]
    assert any(value["last_amount"] for value in values["spark"])
    # A pass on one machine writes an entity's newest row; a task has one partition, and some write older ones first.
    for report in reports.values():
        assert (report.online.rows, report.online.expired, report.online.pending) == (report.rows, 0, 0)
        assert report.online.written >= sum(value["last_amount"] is not None for value in values["auto"])
    for left, right in zip(reports["auto"].partitions, reports["spark"].partitions, strict=True):
        assert (left.key, left.window) == (right.key, right.window)
        assert (left.changed, left.withdrawn) == (right.changed, right.withdrawn) == (left.profile.rows, 0)
        assert (left.profile.rows, left.profile.entities) == (right.profile.rows, right.profile.entities)
        means = [[feature.mean for feature in side.profile.features.values()] for side in (left, right)]
        assert means[0] == pytest.approx(means[1], rel=1e-12)


class Order(msgspec.Struct):
    """An order, as a message tells it."""

    customer: str
    event_timestamp: datetime
    amount: int


def test_of_events_that_a_stream_counts_once_one_counts_here_too(spark, open_at):
    source = Orders(pl.concat([some_orders(), some_orders()]))
    EventStream(source, Order, CUSTOMER)
    group = spending(source)
    stores, values = [], []
    for engine in ("auto", "spark"):
        stores.append(open_at(engine))
        materialize(stores[-1], group, "2024-03-02", "2024-03-09")
        values.append(online_values(stores[-1], group, ["c1", "c2"]))
    assert_same_files(*stores, group)
    assert values[0] == values[1]
    assert values[0][0]["orders_3d"] <= 3


def test_hours_are_partitions_too(spark, open_at):
    group = hourly_activity(Orders(some_orders()))
    stores = []
    for engine in ("auto", "spark"):
        stores.append(open_at(engine))
        materialize(stores[-1], group, "2024-03-03-00:00", "2024-03-03-20:00")
    assert_same_files(*stores, group)


def test_what_is_equal_stays_what_is_gone_is_withdrawn_and_the_newest_event_wins(spark, open_at):
    source = Orders(some_orders())
    group = spending(source)
    store = open_at("spark")
    first = materialize(store, group, "2024-03-08", "2024-03-09")
    files = [(file.path, file.path.stat().st_ino) for file in store.offline.files(group.name)]
    before = online_values(store, group, ["c1", "c2"])
    again = materialize(store, group, "2024-03-08", "2024-03-09")
    assert (again.rows, again.changed, again.gone, again.online.rows) == (first.rows, 0, 0, 0)
    assert [(file.path, file.path.stat().st_ino) for file in store.offline.files(group.name)] == files
    # A backfill of the past leaves live values alone.
    assert materialize(store, group, "2024-03-02", "2024-03-07").changed
    assert online_values(store, group, ["c1", "c2"]) == before

    newest = pl.col("event_timestamp") >= START + 8 * DAY
    source.events = source.events.filter(~((pl.col("customer") == "c1") & newest))
    source.events = source.events.with_columns(amount=pl.col("amount") + newest.cast(pl.Int64))
    changed = materialize(store, group, "2024-03-08", "2024-03-09")
    assert (changed.changed, changed.gone, changed.withdrawn) == (first.partitions[1].profile.rows - 1, 1, 1)
    after = online_values(store, group, ["c1", "c2"])
    assert after[0]["last_amount"] == some_orders().filter(~newest, customer="c1")["amount"][-1]
    assert after[1]["last_amount"] == before[1]["last_amount"] + 1


def test_a_run_that_was_overtaken_writes_nothing_and_says_so(spark, open_at):
    source = Orders(some_orders())
    group = spending(source)
    later = open_at("spark", NOW)
    materialize(later, group, "2024-03-08", "2024-03-09")
    rows = later.offline.scan(later.registered(group)).collect()
    # The online store, by which clocks agree, has lost all it knew: this one is behind, and nothing tells it.
    earlier = open_at("spark", NOW - timedelta(hours=1))
    source.events = source.events.with_columns(pl.col("amount") + 1)
    with pytest.raises(OvertakenError, match="nothing was written"):
        materialize(earlier, group, "2024-03-08", "2024-03-09")
    assert_frame_equal(later.offline.scan(later.registered(group)).collect(), rows)


def test_rows_ahead_of_the_clock_are_refused_before_anything_is_written(spark, open_at):
    group = spending(Orders(some_orders(), landed=date(2024, 3, 10)))
    refused = {}
    for engine in ("auto", "spark"):
        store = open_at(engine, START + 4 * DAY)
        with pytest.raises(InvalidRowsError, match=r"(?s)partition 2024-03-05.*ahead of the store's present") as error:
            materialize(store, group, "2024-03-04", "2024-03-06")
        refused[engine] = error.value
        assert [file.date for file in store.offline.files(group.name)] == [date(2024, 3, 4)]
    assert refused["spark"].remedy == refused["auto"].remedy


def test_bad_rows_name_their_partition_and_all_others_are_written(spark, open_at):
    events = pl.concat([some_orders(), orders(("c1", START + 3 * DAY, 5_000), ("c4", START + 3 * DAY, 7_000))])
    group = spending(Orders(events))
    failures = {}
    for engine in ("auto", "spark"):
        store = open_at(engine)
        with pytest.raises(InvalidRowsError, match="partition 2024-03-04") as refused:
            materialize(store, group, "2024-03-02", "2024-03-07")
        failures[engine] = refused.value
        written = [file.date for file in store.offline.files(group.name)]
        assert written == [date(2024, 3, day) for day in (2, 3, 5, 6, 7)]
    assert failures["spark"].remedy == failures["auto"].remedy
    assert "last_amount" in str(failures["spark"])
    assert "5000" in str(failures["spark"])


def test_events_that_have_not_landed_are_said_so_before_anything_runs(spark, open_at):
    with pytest.raises(MissingSourceError, match="landed up to 2024-03-09"):
        materialize(open_at("spark"), spending(Orders(some_orders())), "2024-03-09", "2024-03-10")


def test_a_function_that_raises_is_named_with_its_reason(spark, open_at):
    group = spending(Orders(some_orders()))

    def broken(events: pl.LazyFrame) -> pl.LazyFrame:
        raise ZeroDivisionError("no such ratio")

    object.__setattr__(group, "transform", broken)
    with pytest.raises(FeatureStoreError, match=r"'spending' was not materialized.*ZeroDivisionError: no such ratio"):
        materialize(open_at("spark"), group, "2024-03-02", "2024-03-03")


def test_entities_that_cannot_be_seen_from_outside_are_computed_in_one_task(spark, open_at, caplog):
    renamed = Orders(some_orders().rename({"customer": "who"}))
    group = spending(renamed)
    inner = group.transform
    object.__setattr__(group, "transform", lambda events: inner(events.rename({"who": "customer"})))
    stores = []
    for engine in ("auto", "spark"):
        stores.append(open_at(engine))
        materialize(stores[-1], group, "2024-03-02", "2024-03-04")
    assert_same_files(*stores, group)
    assert "have no column customer" in caplog.text
    assert key_frame(CUSTOMER, ["c1"]).height == 1
