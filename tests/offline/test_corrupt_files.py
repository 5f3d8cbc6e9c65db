"""Files that are not what their place says: one error that names the file, the damage and the remedy."""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl
import pytest

from feature_store.catalog import Catalog
from feature_store.errors import CorruptFileError
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.snapshots import write_snapshots
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import at, give, group, rows

CLICKS = group("clicks_daily")
HOURLY = group("clicks_hourly", partitioning="hourly")
CATALOG = Catalog.of([CLICKS])
TIME = pl.Datetime("us", "UTC")


@pytest.fixture
def store(tmp_path):
    store = OfflineStore(tmp_path)
    for day in range(3):
        frame = pl.concat(
            rows(CLICKS, [{"user_id": f"u{user}", "event_timestamp": at(day), "clicks": user * 1.1}])
            for user in range(200)
        )
        give(store, CLICKS, Window(at(day), at(day + 1)), frame)
    return store


def read_scan(store):
    store.scan(CLICKS).collect()


def read_history(store):
    store.history(CLICKS, "u1")


def read_views(store):
    with duckdb.connect() as connection:
        store.connect_views(CATALOG, connection)


def joined_by(engine):
    def read(store):
        labels = pl.DataFrame({"user_id": ["u1"], "t": [at(1, 5)]})
        point_in_time_join(store, CATALOG, labels, "t", CATALOG.select(["clicks"]), engine)

    return read


read_point_in_time = joined_by(DuckDBEngine())
read_sweep = joined_by(SweepEngine())


def read_snapshots(store):
    list(write_snapshots(store, CLICKS, [date(2024, 1, 4)]))


def foreign(column: str, dtype: pl.DataType):
    def spoil(path):
        pl.read_parquet(path).with_columns(pl.lit(None).cast(dtype).alias(column)).write_parquet(path)

    return spoil


READS = [read_scan, read_history, read_views, read_point_in_time, read_sweep, read_snapshots]


@pytest.mark.slow
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not a parquet file"),
        (lambda path: path.write_bytes(b"name,clicks\nu1,3\n"), "not a parquet file"),
        (lambda path: pl.read_parquet(path).drop("ingested_at").write_parquet(path), "it has no column 'ingested_at'"),
        (foreign("clicks", pl.String()), "column 'clicks' holds String, not Float64"),
    ],
)
def test_a_file_with_a_wrong_footer_is_named_with_its_remedy(store, read, spoil, what):
    path = store.files("clicks_daily")[1].path
    spoil(path)
    with pytest.raises(CorruptFileError) as error:
        read(store)
    for part in (str(path), "'clicks_daily'", what, "Re-materialize partition 2024-01-02"):
        assert part in str(error.value)


def replaced(column, moment):
    def change(rows):
        return rows.with_columns(
            pl.when(pl.col("user_id") == "u7").then(pl.lit(moment, TIME)).otherwise(column).alias(column)
        )

    return change


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [True, False], ids=["statistics", "silent"])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (replaced("event_timestamp", at(2)), "event_timestamp lies outside of its partition"),
        (replaced("event_timestamp", at(3, 1)), "event_timestamp lies outside of its partition"),
        (replaced("event_timestamp", at(1, 0, -1)), "event_timestamp lies outside of its partition"),
        (replaced("event_timestamp", None), "it has rows without event_timestamp"),
        (lambda rows: rows.with_columns(event_timestamp=pl.lit(None, TIME)), "it has rows without event_timestamp"),
        (replaced("ingested_at", None), "it has rows without ingested_at"),
    ],
    ids=["the day after", "days after", "a microsecond early", "no event time", "no times at all", "no ingestion time"],
)
def test_a_file_with_rows_that_do_not_belong_is_named_by_every_reader(store, read, change, what, statistics):
    path = store.files("clicks_daily")[1].path
    change(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path, statistics=statistics, row_group_size=50)
    with pytest.raises(CorruptFileError) as error:
        read(store)
    for part in (str(path), "'clicks_daily'", what, "Re-materialize partition 2024-01-02"):
        assert part in str(error.value)


def test_a_snapshot_with_rows_of_its_own_day_is_named(store):
    [snapshot] = write_snapshots(store, CLICKS, [date(2024, 1, 3)])
    told = pl.read_parquet_metadata(snapshot.file.path)
    wrong = rows(CLICKS, [{"user_id": "u1", "event_timestamp": at(2), "clicks": 1.0}])
    wrong.write_parquet(snapshot.file.path, metadata={key: told[key] for key in ("inputs", "longest_ttl_seconds")})
    labels = pl.DataFrame({"user_id": ["u1"], "t": [at(2, 5)]})
    for engine in (SweepEngine(), DuckDBEngine()):
        with pytest.raises(CorruptFileError, match=r"snapshot\.parquet .* lies outside of its partition"):
            point_in_time_join(store, CATALOG, labels, "t", CATALOG.select(["clicks"]), engine)


@pytest.mark.parametrize("read", [read_history, read_point_in_time, read_sweep])
def test_damage_inside_the_data_is_named_too(store, read):
    path = store.files("clicks_daily")[1].path
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"date=2024-01-02/batch.parquet .* Re-materialize partition 2024-01-02"):
        read(store)


def test_other_partitions_of_a_damaged_group_can_be_read(store):
    store.files("clicks_daily")[1].path.write_bytes(b"")
    assert store.scan(CLICKS, Window(at(2), at(3))).collect().height == 200


def test_the_remedy_of_an_hour_names_the_hour(tmp_path):
    store = OfflineStore(tmp_path)
    written = give(store, HOURLY, Window(at(0, 7), at(0, 8)), rows(HOURLY, []))
    written.files[0].path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="Re-materialize partition 2024-01-01-07:00"):
        store.scan(HOURLY)


def test_the_remedy_of_a_stream_file_is_to_replay(tmp_path):
    store = OfflineStore(tmp_path)
    written = store.write_stream_file(CLICKS, date(2024, 1, 1), "topic-0-0-9", rows(CLICKS, []), metadata={})
    written.file.path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="replay the offsets"):
        store.scan(CLICKS)
