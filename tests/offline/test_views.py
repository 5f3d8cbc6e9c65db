"""SQL over the store."""

from __future__ import annotations

import json
from datetime import date

import duckdb
import polars as pl
import pytest

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.errors import InvalidRequestError
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import FIRST_DAY, ROUTE, at, group, metadata, rows, without

DELAYS = group(
    "delays",
    ROUTE,
    {
        "amount": (FLOAT, 1),
        "number": (INT, 1),
        "text": (STRING, 1),
        "flag": (BOOL, 1),
        "moment": (TIMESTAMP, 1),
        "vector": (embedding(2), 1),
    },
)
CLICKS = group("select", first_id=20)
CATALOG = Catalog.of([DELAYS, CLICKS])
ROUTE_KEYS = {"origin": "J|F\\", "flight": -7}


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Kolkata'")
        yield connection


@pytest.fixture
def store(tmp_path):
    return OfflineStore(tmp_path / "it's a [store]*")


def log(connection, feature_id):
    query = "SELECT entity_id, value FROM feature_value WHERE feature_id = ? ORDER BY event_timestamp"
    return connection.execute(query, [feature_id]).fetchall()


def test_the_log_holds_every_value_as_json(store, connection):
    values = {
        "amount": 0.1,
        "number": 2**63 - 1,
        "text": 'say "ö"',
        "flag": True,
        "moment": at(0, 5, 7),
        "vector": [0.5, -1.0],
    }
    records = [
        {**ROUTE_KEYS, "event_timestamp": at(0), **values},
        {**ROUTE_KEYS, "event_timestamp": at(0, 1), "amount": float("-inf")},
    ]
    store.write_partition(DELAYS, FIRST_DAY, rows(DELAYS, records), metadata=metadata())
    store.connect_views(CATALOG, connection)
    expected = {**values, "moment": "2024-01-01T05:00:00.000007Z"}
    for number, (name, value) in enumerate(expected.items(), start=1):
        (entity_id, text), (_, second) = log(connection, number)
        assert entity_id == DELAYS.entity.entity_id(**ROUTE_KEYS)
        assert json.loads(text) == value, name
        assert second == ("-1e999" if name == "amount" else None)
    kinds = {row[0]: row[1] for row in connection.execute("DESCRIBE feature_value").fetchall()}
    assert kinds == {
        "feature_id": "BIGINT",
        "entity_id": "VARCHAR",
        "value": "VARCHAR",
        "event_timestamp": "TIMESTAMP WITH TIME ZONE",
        "ingested_at": "TIMESTAMP WITH TIME ZONE",
    }


def test_nan_in_a_foreign_file_is_null_in_views(store, connection):
    vectors = [[1.0, float("nan")], [None, 2.0], [float("inf"), float("-inf")], None]
    records = [{**ROUTE_KEYS, "event_timestamp": at(0, hour), "vector": None} for hour in range(len(vectors))]
    path = store.write_partition(DELAYS, FIRST_DAY, rows(DELAYS, records), metadata=metadata()).file.path
    foreign = pl.Series("vector", vectors, pl.Array(pl.Float32, 2))
    pl.read_parquet(path, glob=False).with_columns(foreign, amount=float("nan")).write_parquet(path)
    store.connect_views(CATALOG, connection)
    held = connection.execute("SELECT vector, amount FROM delays ORDER BY event_timestamp").fetchall()
    assert held == [(vector, None) for vector in (None, *vectors[1:])]
    texts = [text for _, text in log(connection, 6)]
    assert texts == [None, "[null,2.0]", "[1e999,-1e999]", None]
    assert store.scan(DELAYS).collect()["vector"].to_list() == [None, *vectors[1:]]


def test_a_groups_view_has_its_columns_and_the_partition(store, connection):
    older = without(CLICKS, "seats")
    store.write_partition(
        older, FIRST_DAY, rows(older, [{"user_id": "u", "event_timestamp": at(0)}]), metadata=metadata()
    )
    store.connect_views(CATALOG, connection)
    query = 'SELECT user_id, seats, date FROM "select" ORDER BY date'
    assert connection.execute(query).fetchall() == [("u", None, date(2024, 1, 1))]
    newer = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(1), "seats": 3}])
    store.write_partition(CLICKS, Window(at(1), at(2)), newer, metadata=metadata())
    assert len(connection.execute(query).fetchall()) == 2, "a view sees files that are written after it"
    store.connect_views(CATALOG, connection)
    assert connection.execute(query).fetchall()[1] == ("u", 3, date(2024, 1, 2))


def test_groups_without_history_are_empty_views_of_the_same_columns(store, connection):
    store.connect_views(CATALOG, connection)
    without_files = connection.execute("DESCRIBE delays").fetchall()
    assert connection.execute("SELECT count(*) FROM delays").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM feature_value").fetchone() == (0,)
    store.write_partition(DELAYS, FIRST_DAY, rows(DELAYS, []), metadata=metadata())
    store.connect_views(CATALOG, connection)
    assert connection.execute("DESCRIBE delays").fetchall() == without_files


def test_a_group_cannot_take_the_name_of_the_log(store, connection):
    with pytest.raises(InvalidRequestError, match="'feature_value' has the name of the view"):
        store.connect_views(Catalog.of([group("feature_value")]), connection)
