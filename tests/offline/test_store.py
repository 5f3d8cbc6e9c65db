"""What is written is what is read, by us and by others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.errors import DefinitionError, InvalidRequestError, InvalidRowsError, SettingsError
from feature_store.offline.footers import file_metadata
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import FIRST_DAY, JAN_1, PASS, ROUTE, at, give, group, rows, without

EVERYTHING = group(
    "everything",
    ROUTE,
    {
        "amount": (FLOAT, 1),
        "number": (INT, 1),
        "text": (STRING, 1),
        "flag": (BOOL, 1),
        "moment": (TIMESTAMP, 1),
        "vector": (embedding(3), 1),
    },
)
CLICKS = group("clicks_daily")
HOURLY = group("clicks_hourly", partitioning="hourly")

values = st.fixed_dictionaries(
    {
        "origin": st.text(max_size=5),
        "flight": st.integers(-(2**63), 2**63 - 1),
        "event_timestamp": st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 1, 23), timezones=st.just(UTC)),
        "amount": st.none() | st.floats(allow_nan=False),
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "text": st.none() | st.text(max_size=5),
        "flag": st.none() | st.booleans(),
        "moment": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
        "vector": st.none() | st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
    }
)


@pytest.fixture
def store(tmp_path):
    # What means something in SQL and in glob patterns is only a name in the place of a store.
    return OfflineStore(tmp_path / "it's a [store]*")


@given(records=st.lists(values, max_size=10))
@settings(max_examples=40, deadline=None)
def test_values_survive_bit_for_bit(tmp_path_factory, records):
    store = OfflineStore(tmp_path_factory.mktemp("store"))
    frame = rows(EVERYTHING, records)
    give(store, EVERYTHING, FIRST_DAY, frame)
    order = ["origin", "flight", "event_timestamp", "ingested_at"]
    assert store.scan(EVERYTHING).collect().equals(frame.sort(order, maintain_order=True))


def test_nan_is_written_as_null(store):
    frame = rows(CLICKS, [{"user_id": "u", "event_timestamp": JAN_1, "clicks": float("nan")}])
    written = give(store, CLICKS, FIRST_DAY, frame)
    assert pq.ParquetFile(written.files[0].path).read()["clicks"].null_count == 1


def test_a_file_carries_its_metadata_and_statistics_and_is_sorted(store):
    frame = rows(CLICKS, [{"user_id": user, "event_timestamp": at(0, hour)} for user in "ba" for hour in (5, 1)])
    written = give(store, CLICKS, FIRST_DAY, frame, code_version="c0ffee")
    assert written.files[0].path == store.root / "clicks_daily" / "date=2024-01-01" / "batch.parquet"
    described = file_metadata(written.files[0].path)
    assert described.pop("content")
    assert described == {"ingested_at": PASS.isoformat(), "code_version": "c0ffee"}
    with pq.ParquetFile(written.files[0].path) as file:
        column = file.metadata.row_group(0).column(0)
        assert (column.statistics.min, column.statistics.max, column.compression) == ("a", "b", "ZSTD")
        table = pl.DataFrame(file.read())
    assert table["user_id"].to_list() == ["a", "a", "b", "b"]
    assert table["event_timestamp"].to_list() == [at(0, 1), at(0, 5)] * 2


def test_others_read_the_layout_without_us(store):
    records = [{"origin": "JFK", "flight": 1, "event_timestamp": JAN_1, "vector": [0.5, 1.0, 2.0], "amount": 0.1}]
    give(store, EVERYTHING, FIRST_DAY, rows(EVERYTHING, records))
    day_two = [{"origin": "JFK", "flight": 2, "event_timestamp": at(1)}]
    store.write_stream_file(EVERYTHING, date(2024, 1, 2), "t-0-9", rows(EVERYTHING, day_two), metadata={})

    pattern = f"{store.root}/everything/**/*.parquet".replace("[", "[[]").replace("store]*", "store][*]")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            "SELECT flight, vector, amount, epoch_us(event_timestamp), date "
            "FROM read_parquet(?, hive_partitioning = true) ORDER BY flight",
            [pattern],
        ).fetchall()
    micros = 1_704_067_200_000_000
    assert found == [
        (1, [0.5, 1.0, 2.0], 0.1, micros, date(2024, 1, 1)),
        (2, None, None, micros + 86_400_000_000, date(2024, 1, 2)),
    ]
    table = pq.read_table(store.root / "everything", partitioning="hive")
    assert table.column_names == [*store.scan(EVERYTHING).collect_schema(), "date"]
    assert sorted(table["event_timestamp"].to_pylist()) == [JAN_1, at(1)]


def test_an_empty_partition_is_materialized(store):
    give(store, CLICKS, FIRST_DAY, rows(CLICKS, []))
    assert store.materialized(CLICKS) == [FIRST_DAY]
    assert store.scan(CLICKS).collect().equals(rows(CLICKS, []))


def test_a_group_without_a_folder_has_no_history(store):
    assert store.files("clicks_daily") == []
    assert store.materialized(CLICKS) == []
    assert store.scan(CLICKS, FIRST_DAY).collect().equals(rows(CLICKS, []))
    assert store.history(CLICKS, "u").is_empty()


def test_hours_are_partitions_of_their_own(store):
    hours = [Window(at(0, hour), at(0, hour + 1)) for hour in (5, 23)]
    for window in hours:
        frame = rows(HOURLY, [{"user_id": "u", "event_timestamp": window.start}])
        give(store, HOURLY, window, frame)
    assert [file.name for file in store.files("clicks_hourly")] == ["batch-05.parquet", "batch-23.parquet"]
    assert [file.name for file in store.files("clicks_hourly", hours[1])] == ["batch-23.parquet"]
    assert store.materialized(HOURLY) == hours


def test_only_files_that_can_hold_rows_of_a_window_are_listed(store):
    for day in range(4):
        window = Window(at(day), at(day + 1))
        give(store, CLICKS, window, rows(CLICKS, [{"user_id": "u", "event_timestamp": at(day, 12)}]))
    stream = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(1)}])
    store.write_stream_file(CLICKS, date(2024, 1, 2), "a", stream, metadata={})
    inside = Window(at(1, 6), at(2, 0, 1))
    assert [(file.date.day, file.writer) for file in store.files("clicks_daily", inside)] == [
        (2, "a"),
        (2, "batch"),
        (3, "batch"),
    ]
    assert store.scan(CLICKS, inside).collect()["event_timestamp"].to_list() == [at(1, 12)]


def test_what_is_not_ours_is_passed_over(store):
    give(store, CLICKS, FIRST_DAY, rows(CLICKS, []))
    folder = store.root / "clicks_daily"
    (folder / "_SUCCESS").touch()
    (folder / "date=yesterday").mkdir()
    (folder / "date=2024-01-01" / ".hidden.parquet").touch()
    (folder / "date=2024-01-01" / "notes.txt").touch()
    assert [file.name for file in store.files("clicks_daily")] == ["batch.parquet"]


def test_a_feature_added_later_is_null_in_older_files(store):
    older = without(CLICKS, "seats")
    give(store, older, FIRST_DAY, rows(older, [{"user_id": "u", "event_timestamp": JAN_1}]))
    second = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(1), "seats": 3}])
    give(store, CLICKS, Window(at(1), at(2)), second)
    assert store.scan(CLICKS).sort("event_timestamp").collect()["seats"].to_list() == [None, 3]
    assert store.scan(older).collect().columns == ["user_id", "event_timestamp", "clicks", "ingested_at"]


def test_history_is_newest_first_and_names_the_file(store):
    later = PASS + timedelta(days=1)
    batch = [
        {"user_id": "u", "event_timestamp": at(0, 1), "clicks": 1.0},
        {"user_id": "u", "event_timestamp": at(0, 2), "clicks": 2.0},
        {"user_id": "v", "event_timestamp": at(0, 3)},
    ]
    give(store, CLICKS, FIRST_DAY, rows(CLICKS, batch))
    again = [{"user_id": "u", "event_timestamp": at(0, 2), "clicks": 3.0, "ingested_at": later}]
    store.write_stream_file(CLICKS, date(2024, 1, 1), "a-0-1", rows(CLICKS, again), metadata={})
    history = store.history(CLICKS, "u")
    assert history["clicks"].to_list() == [3.0, 2.0, 1.0]
    assert history["_file"].to_list() == [
        f"clicks_daily/date=2024-01-01/{name}.parquet" for name in ("a-0-1", "batch", "batch")
    ]


def test_history_of_an_entity_with_several_keys(store):
    frame = rows(EVERYTHING, [{"origin": "J|F", "flight": number, "event_timestamp": JAN_1} for number in (1, 2)])
    give(store, EVERYTHING, FIRST_DAY, frame)
    assert store.history(EVERYTHING, r"J\|F|2")["flight"].to_list() == [2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop("seats"), "missing columns: seats"),
        (lambda frame: frame.with_columns(other=1), "columns that the group does not have: other"),
        (lambda frame: frame.cast({"seats": pl.Float64}), "column 'seats' holds Float64, not Int64"),
        (lambda frame: frame.cast({"event_timestamp": pl.Datetime("ms", "UTC")}), "column 'event_timestamp' holds"),
        (lambda frame: frame.with_columns(user_id=pl.lit(None, pl.String)), "column 'user_id' is null in 1 row"),
        (
            lambda frame: frame.with_columns(pl.col("event_timestamp") + timedelta(days=1)),
            r"1 row\(s\) have an event_timestamp outside .*: 2024-01-02T00:00:00\+00:00",
        ),
    ],
)
def test_rows_that_are_not_the_groups_are_refused(store, spoil, message):
    frame = rows(CLICKS, [{"user_id": "u", "event_timestamp": JAN_1}])
    with pytest.raises(InvalidRowsError, match=message):
        give(store, CLICKS, FIRST_DAY, spoil(frame))
    assert not store.root.exists()


def test_a_window_that_is_not_one_partition_is_refused(store):
    with pytest.raises(InvalidRequestError, match="not one daily partition of group 'clicks_daily'"):
        give(store, CLICKS, Window(at(0), at(2)), rows(CLICKS, []))


@pytest.mark.parametrize("writer", ["batch", "batch-07", "", "../x", ".hidden", "a/b", "x" * 300])
def test_names_that_no_stream_writer_can_have(store, writer):
    with pytest.raises(InvalidRequestError, match="cannot name a stream writer"):
        store.write_stream_file(CLICKS, date(2024, 1, 1), writer, rows(CLICKS, []), metadata={})


def test_a_name_that_leads_out_of_the_store_is_refused(store):
    with pytest.raises(DefinitionError, match="cannot name a feature group"):
        store.files("../clicks")
    with pytest.raises(DefinitionError, match="cannot name a feature group"):
        give(store, replace(CLICKS, name="../x"), FIRST_DAY, rows(CLICKS, []))


@pytest.mark.parametrize("place", ["gs://bucket/features", "s3://", "s3://bucket/../other", "https://host/features"])
def test_a_place_that_is_neither_folder_nor_s3_is_refused(place):
    with pytest.raises(SettingsError, match="neither a folder nor an S3 prefix"):
        OfflineStore(place)
