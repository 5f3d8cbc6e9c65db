"""SQL over the store."""

from __future__ import annotations

import json
import time
from datetime import date, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.errors import InvalidRequestError
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import FIRST_DAY, PASS, ROUTE, USER, at, give, group, metadata, rows, without

SEATS = group("seats_taken", USER, {"seats": (INT, 1), "filename": (STRING, 1)}, first_id=30)
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
    give(store, DELAYS, FIRST_DAY, rows(DELAYS, records))
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
    path = give(store, DELAYS, FIRST_DAY, rows(DELAYS, records)).files[0].path
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
    give(store, older, FIRST_DAY, rows(older, [{"user_id": "u", "event_timestamp": at(0)}]))
    store.connect_views(CATALOG, connection)
    query = 'SELECT user_id, seats, date FROM "select" ORDER BY date'
    assert connection.execute(query).fetchall() == [("u", None, date(2024, 1, 1))]
    newer = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(1), "seats": 3}])
    give(store, CLICKS, Window(at(1), at(2)), newer)
    assert len(connection.execute(query).fetchall()) == 2, "a view sees files that are written after it"
    store.connect_views(CATALOG, connection)
    assert connection.execute(query).fetchall()[1] == ("u", 3, date(2024, 1, 2))


def test_groups_without_history_are_empty_views_of_the_same_columns(store, connection):
    store.connect_views(CATALOG, connection)
    without_files = connection.execute("DESCRIBE delays").fetchall()
    assert connection.execute("SELECT count(*) FROM delays").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM feature_value").fetchone() == (0,)
    give(store, DELAYS, FIRST_DAY, rows(DELAYS, []))
    store.connect_views(CATALOG, connection)
    assert connection.execute("DESCRIBE delays").fetchall() == without_files


def test_a_group_cannot_take_the_name_of_the_log(store, connection):
    with pytest.raises(InvalidRequestError, match="'feature_value' has the name of the view"):
        store.connect_views(Catalog.of([group("feature_value")]), connection)


def seats(user, value, *, day=0, ingested=0):
    moment = PASS + timedelta(seconds=ingested)
    return {"user_id": user, "event_timestamp": at(day, 5), "seats": value, "filename": "f", "ingested_at": moment}


def stream_file(first, last, lane="stream-topic-0"):
    return f"{lane}-{first:012}-{last:012}"


def put(store, records, writer="batch", day=0):
    folder = store.root / "seats_taken" / f"date={at(day).date()}"
    folder.mkdir(parents=True, exist_ok=True)
    rows(SEATS, records).write_parquet(folder / f"{writer}.parquet", metadata=metadata())


def seen(connection):
    """Returns what the view of the group shows; the log must show the same."""
    found = connection.execute(
        "SELECT user_id, seats, filename, date FROM seats_taken ORDER BY date, user_id, seats"
    ).fetchall()
    logged = connection.execute(
        "SELECT entity_id, value::BIGINT, event_timestamp FROM feature_value WHERE feature_id = 30 ORDER BY 3, 1, 2"
    ).fetchall()
    assert [row[:2] for row in logged] == [row[:2] for row in found]
    assert {row[2] for row in found} <= {"f"}
    assert connection.execute("SELECT count(*) FROM feature_value").fetchone() == (2 * len(found),)
    return [(user, value, (day - date(2024, 1, 1)).days) for user, value, _, day in found]


@pytest.fixture
def views(store, connection):
    """Views that were created over one row; the rest is written after them."""
    put(store, [seats("a", 0)])
    store.connect_views(Catalog.of([SEATS]), connection)
    return connection


def test_of_equal_entities_and_times_the_row_that_was_ingested_last_is_shown_once(store, views):
    put(store, [seats("a", 1, ingested=1), seats("b", 1)], "ingest-1")
    put(store, [seats("b", 1), seats("c", 1)], "ingest-2")
    put(store, [seats("c", 2)], "ingest-3")
    put(store, [seats("a", 3, ingested=-1)], "ingest-4")
    put(store, [seats("a", 4, day=1)], "batch", day=1)
    put(store, [seats("a", 4, day=1)], "ingest-1", day=1)
    # Where nothing else decides, the last file does, as in every read.
    assert seen(views) == [("a", 1, 0), ("b", 1, 0), ("c", 2, 0), ("a", 4, 1)]


def test_a_file_whose_offsets_another_covers_is_not_shown(store, views):
    for first in (0, 10, 20):
        put(store, [seats(f"u{first}", first)], stream_file(first, first + 9))
    put(store, [seats("u10", 10)], stream_file(10, 19, "stream-topic-1"))
    put(store, [seats("other", 1)], stream_file(5, 14))
    before = [("a", 0, 0), ("other", 1, 0), ("u0", 0, 0), ("u10", 10, 0), ("u20", 20, 0)]
    assert seen(views) == before
    # Of the folded files one row was taken back.
    put(store, [seats("u10", 10), seats("u20", 20)], stream_file(0, 29))
    assert seen(views) == [("a", 0, 0), ("u10", 10, 0), ("u20", 20, 0)]
    put(store, [], stream_file(0, 1000))
    assert seen(views) == [("a", 0, 0), ("u10", 10, 0)]
    assert [file.name for file in store.files("seats_taken")] == [
        "batch.parquet",
        f"{stream_file(0, 1000)}.parquet",
        f"{stream_file(10, 19, 'stream-topic-1')}.parquet",
    ]


def test_what_is_no_part_of_the_store_is_not_shown(store, views):
    put(store, [seats("hidden", 1)], ".ingest-1")
    folder = store.root / "seats_taken" / "date=2024-01-01"
    for foreign in ("date=2024-13-01", "date=today", "2024-01-01", "date=2024-1-1"):
        (store.root / "seats_taken" / foreign).mkdir()
        (store.root / "seats_taken" / foreign / "x.parquet").write_bytes((folder / "batch.parquet").read_bytes())
    (folder / "notes.txt").write_text("hello")
    assert seen(views) == [("a", 0, 0)]


def test_hours_of_a_batch_and_days_are_all_shown(store, views):
    put(store, [seats("a", 1, day=1)], "batch-05", day=1)
    put(store, [{**seats("a", 2), "event_timestamp": at(1, 6)}], "batch-06", day=1)
    assert seen(views) == [("a", 0, 0), ("a", 1, 1), ("a", 2, 1)]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["batch", "ingest-1", "ingest-2", *(stream_file(0, n) for n in (4, 9)), stream_file(5, 9)]),
            st.integers(0, 1),
            st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 2)), max_size=4),
        ),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_views_show_what_a_scan_of_the_store_comes_to(tmp_path_factory, written):
    store = OfflineStore(tmp_path_factory.mktemp("store"))
    put(store, [seats("a", 0)])
    with duckdb.connect() as connection:
        store.connect_views(Catalog.of([SEATS]), connection)
        for writer, day, records in written:
            given_rows = [seats(user, value, day=day, ingested=late) for user, value, late in records]
            if writer == "batch":
                # A pass has each entity and event time once.
                given_rows = list({record["user_id"]: record for record in given_rows}.values())
            put(store, given_rows, writer, day)
        rows_of_all = store.scan(SEATS).collect()
        effective = (
            rows_of_all.sort("event_timestamp", "user_id", "ingested_at", maintain_order=True)
            .unique(["user_id", "event_timestamp"], keep="last", maintain_order=True)
            .select("user_id", "seats", pl.col("event_timestamp").dt.date() - date(2024, 1, 1))
        )
        expected = [(user, value, day.days) for user, value, day in effective.rows()]
        assert seen(connection) == expected


@pytest.mark.parametrize(
    "name",
    ["seats=9", "user_id=9", "date=2020-02-02", "filename=x", "a b", "it's", 'say "x"', "{a,b}", "50%20", "#1", "[x]*?",
     "é😀", "tab\tnew\nline", "$HOME", "-x", "a:b"],
)  # fmt: skip
def test_the_name_of_a_folder_means_nothing(tmp_path, connection, name):
    store = OfflineStore(tmp_path / name / "offline")
    put(store, [seats("a", 0)])
    store.connect_views(Catalog.of([SEATS]), connection)
    put(store, [seats("b", 1)], "ingest-1")
    assert seen(connection) == [("a", 0, 0), ("b", 1, 0)]


def test_a_root_that_duckdb_cannot_list_is_refused_and_may_be_reached_by_a_link(tmp_path, connection):
    store = OfflineStore(tmp_path / "back\\slash")
    put(store, [seats("a", 0)])
    with pytest.raises(InvalidRequestError, match="make a link"):
        store.connect_views(Catalog.of([SEATS]), connection)
    (tmp_path / "link").symlink_to(store.root)
    OfflineStore(tmp_path / "link").connect_views(Catalog.of([SEATS]), connection)
    assert seen(connection) == [("a", 0, 0)]


def test_a_log_of_many_features_takes_time_in_proportion(tmp_path):
    def seconds(count):
        wide = group("wide", USER, {f"f{number}": (FLOAT, 1) for number in range(count)})
        store = OfflineStore(tmp_path / str(count))
        values = {feature.ref.column: 1.0 for feature in wide.features}
        record = {"user_id": "u", "event_timestamp": at(0), **values}
        give(store, wide, FIRST_DAY, rows(wide, [record]))
        with duckdb.connect() as connection:
            store.connect_views(Catalog.of([wide]), connection)
            began = time.process_time()
            assert connection.execute("SELECT count(value) FROM feature_value").fetchone() == (count,)
            return time.process_time() - began

    assert seconds(320) < 40 * max(seconds(20), 0.01)
