"""Materialization on Spark: the rows, files and online values of the one-machine materialization."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError, InvalidRowsError, MissingSourceError
from feature_store.frames import key_frame
from feature_store.offline.footers import file_metadata
from feature_store.store import FeatureStore
from tests.orders import CUSTOMER, START, Orders, hourly_activity, orders, some_orders, spending

if TYPE_CHECKING:
    from feature_store.transform.reports import MaterializationReport
    from tests.servers.redis import RedisServer

pytestmark = pytest.mark.timeout(600)

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
    """The same files with the same rows in the same order, the same digest and the same other metadata."""
    files = [store.offline.files(group.name) for store in (one, other)]
    assert [(file.date, file.name) for file in files[0]] == [(file.date, file.name) for file in files[1]]
    for left, right in zip(*files, strict=True):
        assert_frame_equal(pl.read_parquet(left.path), pl.read_parquet(right.path), check_exact=True)
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
    assert reports["spark"].online == reports["auto"].online
    for left, right in zip(reports["auto"].partitions, reports["spark"].partitions, strict=True):
        assert (left.key, left.window, left.written.superseded) == (right.key, right.window, right.written.superseded)
        assert (left.profile.rows, left.profile.entities) == (right.profile.rows, right.profile.entities)
        means = [[feature.mean for feature in side.profile.features.values()] for side in (left, right)]
        assert means[0] == pytest.approx(means[1], rel=1e-12)


def test_hours_are_partitions_too(spark, open_at):
    group = hourly_activity(Orders(some_orders()))
    one, other = open_at("auto"), open_at("spark")
    for store in (one, other):
        materialize(store, group, "2024-03-03-00:00", "2024-03-03-20:00")
    assert_same_files(one, other, group)


def test_the_later_pass_stays_and_the_newest_event_wins(spark, open_at):
    source = Orders(some_orders())
    group = spending(source)
    later, earlier = open_at("spark", NOW), open_at("spark", NOW - timedelta(hours=1))
    materialize(later, group, "2024-03-08", "2024-03-09")
    before = online_values(later, group, ["c1", "c2"])
    source.events = source.events.with_columns(pl.col("amount") + 1)
    report = materialize(earlier, group, "2024-03-08", "2024-03-09")
    assert [partition.written.superseded for partition in report.partitions] == [True, True]
    assert report.online.written == 0
    assert online_values(later, group, ["c1", "c2"]) == before
    # A backfill of the past leaves live values alone.
    materialize(later, group, "2024-03-02", "2024-03-05")
    assert online_values(later, group, ["c1", "c2"]) == before


def test_bad_rows_name_their_partition_and_those_before_it_are_written(spark, open_at):
    events = pl.concat([some_orders(), orders(("c1", START + 3 * DAY, 5_000), ("c4", START + 3 * DAY, 7_000))])
    group = spending(Orders(events))
    failures = {}
    for engine in ("auto", "spark"):
        store = open_at(engine)
        with pytest.raises(InvalidRowsError, match="partition 2024-03-04") as refused:
            materialize(store, group, "2024-03-02", "2024-03-07")
        failures[engine] = refused.value
        assert [file.date for file in store.offline.files(group.name)] == [date(2024, 3, 2), date(2024, 3, 3)]
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
    one, other = open_at("auto"), open_at("spark")
    for store in (one, other):
        materialize(store, group, "2024-03-02", "2024-03-04")
    assert_same_files(one, other, group)
    assert "have no column customer" in caplog.text
    assert key_frame(CUSTOMER, ["c1"]).height == 1
