"""What a look at a query asks for, what it costs, and that what it finds is what a first look would find."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.definitions.source import fingerprints
from feature_store.errors import DefinitionError, MissingSourceError, SettingsError
from feature_store.partitions import Window
from feature_store.sources import sql_look
from feature_store.sources.cost import cost_of_look
from feature_store.sources.query import DuckDBSource, SqlSource

START = datetime(2024, 1, 1, tzinfo=UTC)
QUERY = "SELECT * FROM orders"
# DuckDB by its ADBC driver: a warehouse of which nothing is known but that it takes SQL.
WAREHOUSE = {
    "driver": "adbc_driver_duckdb.dbapi",
    "session": ("SET TimeZone = 'UTC'",),
    "url_variable": "LOOKED_AT",
    "start": START,
    "time_column": "made",
    "query": QUERY,
}


def run(path: Any, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for statement in statements:
            connection.execute(statement)


def filled(path: Any, days: int = 20) -> None:
    run(
        path,
        "CREATE TABLE orders (id INTEGER, made TIMESTAMPTZ, amount INTEGER, version INTEGER)",
        "INSERT INTO orders SELECT i, TIMESTAMPTZ '2024-01-01 00:00:00+00' + i * INTERVAL 1 HOUR, i, i "
        f"FROM range({24 * days}) t(i)",
    )


def changed(before: dict[date, str], after: dict[date, str]) -> set[int]:
    return {day.day for day in {*before, *after} if before.get(day) != after.get(day)}


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / "orders.duckdb"
    monkeypatch.setenv("LOOKED_AT", str(path))
    filled(path)
    return path


def test_a_file_that_rests_is_not_read_again(path):
    source = DuckDBSource(name="rests", path=str(path), query=QUERY, start=START, time_column="made")
    os.utime(path, ns=(time.time_ns() - 10**10, time.time_ns() - 10**10))
    first = source.survey()
    assert (cost_of_look("rests").statements, cost_of_look("rests").rows) == (2, 20)
    assert source.survey() == first
    assert cost_of_look("rests").statements == 0

    # A changed row changes its day, also where it keeps its time and nothing counts its versions.
    run(path, "UPDATE orders SET amount = -1 WHERE id = 30")
    second = source.survey()
    assert changed(first, second) == {2}
    run(path, "DELETE FROM orders WHERE id = 100")
    assert changed(second, source.survey()) == {5}


def test_a_look_by_versions_reads_the_days_of_changed_rows_alone(path):
    source = SqlSource(name="versions", version_column="version", **WAREHOUSE)
    first = source.survey()
    assert cost_of_look("versions").rows == 20
    # At rest: the day of the greatest version is looked at, and no other.
    assert source.survey() == first
    assert cost_of_look("versions").rows == 2
    run(path, "UPDATE orders SET amount = -1, version = 1000 WHERE id IN (30, 31, 300)")
    second = source.survey()
    assert changed(first, second) == {2, 13}
    assert cost_of_look("versions").rows <= 6
    run(path, "INSERT INTO orders VALUES (999, '2024-01-23 05:00:00+00', 1, 1001)")
    assert changed(second, source.survey()) == {21, 22, 23}


def test_without_versions_the_latest_days_are_looked_at_and_the_others_by_full_looks(path, monkeypatch):
    source = SqlSource(name="recent", **WAREHOUSE)
    first = source.survey()
    run(path, "DELETE FROM orders WHERE id IN (1, 400)")
    second = source.survey()
    assert changed(first, second) == {17}
    assert cost_of_look("recent").rows == 8
    often = SqlSource(name="recent", full_look_every=timedelta(microseconds=1), **WAREHOUSE)
    assert changed(second, often.survey()) == {1}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["insert", "update", "look"]), st.integers(0, 11), st.integers(0, 23)), max_size=8
    )
)
def test_what_looks_by_versions_find_is_what_a_first_look_finds(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("looks") / "orders.duckdb"
    os.environ["LOOKED_AT"] = str(path)
    filled(path, days=3)
    source = SqlSource(name="looks", version_column="version", **WAREHOUSE)
    version = 1000
    for step, day, hour in steps:
        version += 1
        if step == "insert":
            at = START + timedelta(days=day, hours=hour)
            run(path, f"INSERT INTO orders VALUES ({version}, '{at.isoformat()}', 1, {version})")
        elif step == "update":
            run(path, f"UPDATE orders SET amount = {version}, version = {version} WHERE id % 12 = {day}")
        else:
            source.survey()
    found = source.survey()
    sql_look.MEMORY._seen.clear()
    assert found == source.survey()


def test_nothing_is_fetched_before_it_is_needed(path):
    source = SqlSource(name="lazy", **WAREHOUSE)
    events = source.scan(Window(START, START + timedelta(days=20)))
    schema = events.collect_schema()
    path.unlink()
    filled(path, days=21)
    assert events.collect().height == 20 * 24
    assert events.select(pl.len()).collect().item() == 20 * 24
    assert schema["event_timestamp"] == pl.Datetime("us", "UTC")


def test_a_statement_that_takes_too_long_is_ended(path):
    slow = "SELECT TIMESTAMPTZ '2024-01-01' AS made, a.i AS a FROM range(10000000) a(i), range(10000000) b(i)"
    source = DuckDBSource(
        name="slow", path=str(path), query=slow, start=START, time_column="made", timeout=timedelta(milliseconds=300)
    )
    began = time.monotonic()
    with pytest.raises(MissingSourceError, match=r"source 'slow' was ended after 0\.3s, its `timeout`"):
        source.survey()
    assert time.monotonic() - began < 20


def test_a_declared_type_is_given_and_a_value_without_a_place_in_it_is_named(path):
    typed = SqlSource(name="typed", columns={"amount": pl.Float32()}, **WAREHOUSE)
    day = Window(START, START + timedelta(days=1))
    assert typed.scan(day).collect().schema["amount"] == pl.Float32
    narrow = SqlSource(name="narrow", columns={"id": pl.Int8()}, **WAREHOUSE)
    with pytest.raises(MissingSourceError, match=r"'id' of source 'narrow' is declared as Int8.*columns="):
        narrow.scan(Window(START, START + timedelta(days=20))).collect()
    with pytest.raises(MissingSourceError, match="'absent' declares columns that its query does not give: other"):
        SqlSource(name="absent", columns={"other": pl.Int8()}, **WAREHOUSE).scan(day)


def test_definitions_that_mean_nothing(path):
    for wrong in ({"timeout": timedelta(0)}, {"full_look_every": timedelta(-1)}, {"query": " ; "}):
        with pytest.raises(DefinitionError, match="'wrong'"):
            SqlSource(name="wrong", **{**WAREHOUSE, **wrong})
    with pytest.raises(DefinitionError, match="SQLAlchemy knows no dialect 'klingon'"):
        SqlSource(name="wrong", dialect="klingon", **WAREHOUSE).survey()


PASSWORD = "s3cr3t-of-mine"
BAD_URLS = [f"postgresql://u:my{sign}{PASSWORD}@127.0.0.1:1/db" for sign in "@/#?%:[]& "] + [
    f"postgresql://u:12{sign}{PASSWORD}@127.0.0.1:1/db" for sign in "@/#?%:"
]


@pytest.mark.parametrize("url", [*BAD_URLS, f"postgresql://127.0.0.1:1/db?user=u&password={PASSWORD}"])
def test_no_part_of_a_password_is_shown(url, monkeypatch):
    import traceback

    monkeypatch.setenv("LOOKED_AT", url)
    source = SqlSource(name="secret", url_variable="LOOKED_AT", query="SELECT 1", start=START)
    with pytest.raises((MissingSourceError, SettingsError)) as failed:
        source.survey()
    shown = "".join(traceback.format_exception(failed.value)) + repr(failed.value.__context__) + repr(source)
    assert PASSWORD not in shown
    assert "s3cr3t" not in shown
    assert "LOOKED_AT" in shown


@pytest.fixture
def warehouse(postgres, monkeypatch):
    import psycopg

    url = postgres.create_database()
    monkeypatch.setenv("LOOKED_AT", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int, made timestamptz, amount numeric(10,2), changed timestamptz)")
        connection.execute(
            "INSERT INTO orders SELECT i, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', i / 100.0, "
            "timestamptz '2024-01-01 00:00+00' + i * interval '1 hour' FROM generate_series(0, 20 * 24 - 1) i"
        )
        yield connection


def postgresql(name: str, **more: Any) -> SqlSource:
    return SqlSource(name=name, url_variable="LOOKED_AT", query=QUERY, start=START, time_column="made", **more)


def test_a_postgresql_that_rests_is_not_read_again(warehouse):
    source = postgresql("at_rest", version_column="changed")
    first = source.survey()
    at_rest = None
    for _ in range(20):
        assert source.survey() == first
        at_rest = cost_of_look("at_rest")
        if at_rest.rows == 2:  # the plan, and the state: no event was asked for
            break
        time.sleep(0.2)  # the server's own work may take a transaction now and then
    assert at_rest.rows == 2
    statements = at_rest.statements
    warehouse.execute(
        "INSERT INTO orders SELECT i, timestamptz '2024-02-01 00:00+00' + i * interval '1 hour', 1, "
        "timestamptz '2024-02-01 00:00+00' FROM generate_series(0, 200 * 24) i"
    )
    source.survey()
    for _ in range(20):
        source.survey()
        if cost_of_look("at_rest").rows == 2:
            break
        time.sleep(0.2)
    assert cost_of_look("at_rest").statements == statements


def test_changes_in_postgresql_change_their_days_alone(warehouse):
    for name, version in (("counted", "changed"), ("uncounted", None)):
        source = postgresql(name, version_column=version)
        before = source.survey()
        warehouse.execute("UPDATE orders SET amount = amount + 1, changed = now() WHERE id IN (30, 400)")
        after = _until(source, lambda found, before=before: len(changed(before, found)) == 2)
        assert changed(before, after) == {2, 17}
        warehouse.execute("DELETE FROM orders WHERE id = (SELECT max(id) FROM orders WHERE id < 100)")
        deleted = _until(source, lambda found, after=after: found != after)
        assert len(changed(after, deleted)) == 1
        warehouse.execute("INSERT INTO orders VALUES (1000, '2024-01-10 10:00+00', 1, now())")
        assert changed(deleted, _until(source, lambda found, deleted=deleted: found != deleted)) == {10}


def _until(source: SqlSource, is_seen: Any) -> dict[date, str]:
    """Looks until something is seen: statistics of PostgreSQL come some moments after a change."""
    end = time.monotonic() + 20
    while not is_seen(found := fingerprints(source)):
        assert time.monotonic() < end, "not seen"
        time.sleep(0.1)
    return found


def test_postgresql_ends_what_takes_too_long_and_counts_decimals_exactly(warehouse):
    slow = postgresql("slow", timeout=timedelta(milliseconds=200))
    warehouse.execute("CREATE VIEW sleepy AS SELECT *, CAST(pg_sleep(10) AS text) AS slept FROM orders")
    object.__setattr__(slow, "query", "SELECT * FROM sleepy")
    with pytest.raises(MissingSourceError, match=r"'slow' was ended after 0\.2s"):
        slow.survey()
    twice = postgresql("twice")
    object.__setattr__(twice, "query", "SELECT made, id AS a, id AS a FROM orders")
    with pytest.raises(MissingSourceError, match="source 'twice' gives several columns named a"):
        twice.scan(Window(START, START + timedelta(days=1)))
    events = postgresql("exact").scan(Window(START, START + timedelta(days=20))).collect()
    assert events.schema["amount"] == pl.Decimal(38, 2)
    assert str(events["amount"].sum()) == str(warehouse.execute("SELECT sum(amount) FROM orders").fetchone()[0])
