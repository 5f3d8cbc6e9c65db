"""Tables as nobody would make them on purpose: each is read right, or rejected by one error that names the thing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.definitions.source import fingerprints
from feature_store.errors import FeatureStoreError, MissingSourceError
from feature_store.partitions import Window
from feature_store.sources.query import DuckDBSource, SqlSource
from tests.sources import hostile_tables
from tests.sources.hostile_tables import COMMON, DAYS, POSTGRESQL, START, Table, quoted, tables

EXAMPLES = int(os.environ.get("HOSTILE_TABLES", "0"))
FEW = settings(
    max_examples=EXAMPLES or 5, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)
MANY = settings(FEW, max_examples=EXAMPLES or 60)


def created(table: Table, execute: Callable[..., Any], placeholder: str) -> None:
    columns = [(table.time_column, table.time_type), *((name, kind.sql) for name, kind in table.columns)]
    execute("DROP TABLE IF EXISTS hostile", ())
    execute(f"CREATE TABLE hostile ({', '.join(f'{quoted(name)} {kind}' for name, kind in columns)})", ())
    cells = ", ".join(f"CAST({placeholder} AS {kind})" for _, kind in columns)
    for row in table.rows:
        execute(f"INSERT INTO hostile VALUES ({cells})", tuple(text for text, _ in row))


def compare(source: Any, table: Table) -> None:
    now = datetime.now(UTC)
    landed = fingerprints(source)
    count = table.landed(now)
    assert list(landed) == [START.date() + timedelta(days=n) for n in range(count)]
    assert fingerprints(source) == landed
    if not count:
        with pytest.raises(MissingSourceError, match="has not landed"):
            source.scan(Window(START, START + timedelta(days=1)))
        return
    last = min(count, DAYS) - 1
    frame = source.scan(Window(START, START + timedelta(days=last + 1))).collect()
    expected = table.inside(0, last, now)
    assert set(frame.columns) == {"event_timestamp", *(name for name, _ in table.columns)}
    for name, (column, kind) in enumerate(table.columns, start=1):
        found = [None if value is None or kind.read is None else kind.read(value) for value in frame[column]]
        wanted = [None if kind.read is None else row[name] for row in expected]
        assert sorted(map(_comparable, found)) == sorted(map(_comparable, wanted)), (column, kind.sql)
        if kind.read is None:
            assert frame[column].null_count() == sum(row[name] is None for row in expected)
    times = [value.replace(tzinfo=None) for value in frame["event_timestamp"]]
    assert sorted(times) == sorted(row[0] for row in expected)
    # A day alone has the types that it has among others.
    alone = source.scan(Window(START, START + timedelta(days=1))).collect()
    assert alone.schema == frame.schema


def _comparable(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(float(value)) if abs(value) < 2**53 else repr(value)
    return repr(value.normalize()) if hasattr(value, "normalize") else repr(value)


def in_duckdb(table: Table, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("hostile") / "hostile.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        created(table, connection.execute, "?")
    compare(
        DuckDBSource(name="hostile", path=str(path), query="FROM hostile", start=START, time_column=table.time_column),
        table,
    )


@FEW
@given(table=tables(COMMON))
def test_duckdb_is_read_right(table, tmp_path_factory):
    in_duckdb(table, tmp_path_factory)


@pytest.mark.slow
@MANY
@given(table=tables(COMMON))
def test_duckdb_is_read_right_whatever_is_in_it(table, tmp_path_factory):
    in_duckdb(table, tmp_path_factory)


@pytest.fixture
def connection(postgres, monkeypatch):
    import psycopg

    url = postgres.create_database()
    monkeypatch.setenv("HOSTILE_WAREHOUSE", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        yield connection


@MANY
@given(table=tables(POSTGRESQL), versioned=st.booleans())
def test_postgresql_is_read_right(table, versioned, connection):
    from psycopg import ClientCursor

    cursor = ClientCursor(connection)

    def execute(statement: str, values: tuple[Any, ...]) -> None:
        cursor.execute(
            statement if not values else statement.replace("%", "%%").replace("%%s AS", "%s AS"), values or None
        )

    created(table, execute, "%s")
    query = "TABLE hostile -- a comment"
    source = SqlSource(
        name="hostile", url_variable="HOSTILE_WAREHOUSE", query=query, start=START, time_column=table.time_column
    )
    compare(replace(source, version_column=table.time_column) if versioned else source, table)


WRONG = [
    ("SELECT 'x' AS made", "'made'.*string.*cast it to a timestamp"),
    ("SELECT 1 AS made", "'made'.*int32.*cast it to a timestamp"),
    ("SELECT TIMESTAMP '2024-01-01' AS other", "no column 'made', only other"),
    ("SELEC TIMESTAMP '2024-01-01' AS made", "'broken' rejected its query"),
    ("SELECT * FROM nowhere", "'broken' rejected its query.*nowhere"),
    ("SELECT TIMESTAMP '2024-01-01' AS made, 1 / 0 + CAST('x' AS INTEGER) AS a", "'broken' rejected its query"),
]


@pytest.mark.parametrize(("query", "message"), WRONG)
def test_a_query_that_cannot_be_used_is_rejected_by_name(query, message, tmp_path):
    path = tmp_path / "empty.duckdb"
    duckdb.connect(str(path)).close()
    source = DuckDBSource(name="broken", path=str(path), query=query, start=START, time_column="made")
    for ask in (source.survey, lambda: source.scan(Window(START, START + timedelta(days=1))).collect()):
        with pytest.raises(FeatureStoreError, match=message) as rejected:
            ask()
        assert rejected.value.__context__ is None


def test_a_path_that_is_no_database_is_rejected_by_name(tmp_path):
    Path(tmp_path / "text").write_text("this is no database at all, and long enough to have a header" * 100)
    source = DuckDBSource(name="broken", path=str(tmp_path / "text"), query="SELECT 1", start=START)
    with pytest.raises(MissingSourceError, match=r"DuckDB file .*text of source 'broken' cannot be opened"):
        source.survey()


def test_the_generator_makes_what_it_promises():
    example = Table("t", "TIMESTAMP", (), ((("infinity", hostile_tables.LAST),),))
    assert example.landed(datetime.now(UTC)) == 0
    assert date(2024, 1, DAYS) > START.date()
