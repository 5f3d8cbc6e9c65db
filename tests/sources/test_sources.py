"""Every source answers alike, reads the time that it is asked for, and tells which days have changed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dagster_feature_store.feature_groups import source_asset
from feature_store.definitions.source import Source, fingerprints
from feature_store.errors import FeatureStoreError, MissingSourceError, SettingsError
from feature_store.partitions import Partitioning, Window
from feature_store.sources.delta import DeltaSource
from feature_store.sources.query import SqlSource
from feature_store.transform.compute import compute
from tests.orders import Orders, spending
from tests.sources import places
from tests.sources.places import SCHEMA, START

pytestmark = pytest.mark.slow

DAYS = 6


def events(day: int) -> pl.DataFrame:
    rows = [
        (f"c{number % 3}", START + timedelta(days=day, hours=5 * number, microseconds=number), 10 * day + number)
        for number in range(5)
        if (day + number) % 4
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


ALL = pl.concat([events(day) for day in range(DAYS)]).rename({"made_at": "event_timestamp"})


@pytest.fixture(
    params=[
        "parquet",
        "csv",
        "parquet-s3",
        "csv-s3",
        "delta",
        "delta-s3",
        "iceberg",
        "sql",
        "duckdb",
    ]
)
def place(request, tmp_path):
    kind, _, where = request.param.partition("-")
    root = re.sub(r"[^a-z0-9:/-]", "", request.getfixturevalue("s3_root")) if where else tmp_path / "place"
    if kind == "sql":
        found = places.sql(request.getfixturevalue("postgres").create_database())
    elif kind in {"parquet", "csv"}:
        found = places.folder(root if where else str(root), kind=kind)
    elif kind == "duckdb":
        found = places.duckdb_file(tmp_path / "orders.duckdb")
    else:
        found = getattr(places, kind)(root)
    for day in range(DAYS):
        found.add(events(day))
    return found


def read(source: Source, window: Window) -> pl.DataFrame:
    columns = ["customer", "event_timestamp", "amount"]
    return source.scan(window).select(columns).sort(columns).collect()


def test_a_source_gives_the_events_of_a_window_and_says_which_days_have_landed(place):
    source = place.source
    for start, end in ((0, 6), (1, 2), (1.25, 3.5), (5, 6), (2, 2 + 1e-9)):
        window = Window(START + timedelta(days=start), START + timedelta(days=end) + timedelta(microseconds=1))
        if end == 6:
            window = Window(window.start, START + timedelta(days=6))
        inside = ALL.filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))
        assert_frame_equal(read(source, window), inside.sort("customer", "event_timestamp", "amount"))
    assert list(source.landed_days()) == [date(2024, 3, day) for day in range(1, DAYS + 1)]
    with pytest.raises(MissingSourceError, match="2024-03-07"):
        source.scan(Window(START, START + timedelta(days=7)))
    with pytest.raises(MissingSourceError, match="begins at 2024-03-01"):
        source.scan(Window(START - timedelta(days=3), START))
    # The source as an asset: partitioned, and described.
    spec = source_asset(source, None)
    assert spec.partitions_def is not None

    # A group computes from it what it computes from any other.
    span = Partitioning.DAILY.span("2024-03-05", "2024-03-06")
    key = ["customer", "event_timestamp"]
    expected = compute(spending(Orders(ALL, landed=date(2024, 3, 6))), span).sort(key)
    assert_frame_equal(compute(spending(source), span).sort(key).select(expected.columns), expected)
    assert expected.height

    before = fingerprints(source)
    assert fingerprints(source) == before
    assert source.fingerprint(date(2024, 3, 9)) is None
    place.add(events(2).head(1).with_columns(pl.col("made_at") + timedelta(minutes=7)))
    place.add(events(6))
    after = fingerprints(source)
    changed = {day.day for day in after if after[day] != before.get(day)}
    assert changed == {3, 7}
    assert source.fingerprint(date(2024, 3, 3)) == after[date(2024, 3, 3)]

    # What lies outside of the window is not read.
    if place.spoil is not None:
        place.spoil(1)
        place.spoil(5)
        window = Window(START + timedelta(days=1), START + timedelta(days=2))
        assert read(source, window).height == events(1).height
        with pytest.raises((FeatureStoreError, pl.exceptions.PolarsError, OSError, ValueError)):
            read(source, Window(START, START + timedelta(days=5)))


def test_a_warehouse_that_is_not_named_or_does_not_answer(monkeypatch, tmp_path):
    source = SqlSource(name="orders", url_variable="NO_WAREHOUSE", query="SELECT 1", start=START)
    with pytest.raises(SettingsError, match="NO_WAREHOUSE names, and it is not set"):
        source.survey()
    monkeypatch.setenv("NO_WAREHOUSE", f"postgresql://user:hunter2@/nothing?host={tmp_path}")
    with pytest.raises(MissingSourceError, match="does not answer") as failed:
        source.survey()
    assert "hunter2" not in str(failed.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(MissingSourceError, match="no Delta table"):
        DeltaSource(name="orders", table=str(tmp_path / "none"), start=START).survey()


def test_a_changed_row_shows_by_its_version(postgres):
    import psycopg

    place = places.sql(postgres.create_database())
    place.add(events(0))
    place.add(events(1))
    source = SqlSource(
        name="orders",
        url_variable="ORDERS_WAREHOUSE",
        query="SELECT *, amount AS version FROM orders",
        start=datetime(2024, 3, 1, tzinfo=UTC),
        time_column="made_at",
        version_column="version",
    )
    before = source.survey()
    with psycopg.connect(__import__("os").environ["ORDERS_WAREHOUSE"]) as connection:
        connection.execute("UPDATE orders SET amount = 999 WHERE made_at < '2024-03-02T00:00:00Z'")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM (SELECT customer, made_at, amount FROM orders) AS events "
            "WHERE made_at >= CAST('2024-03-01T00:00:00+00:00' AS TIMESTAMP WITH TIME ZONE)"
        ).fetchall()
    assert any("Cond" in line for (line,) in plan)
    after = source.survey()
    assert [day.day for day in after if after[day] != before[day]] == [1]
