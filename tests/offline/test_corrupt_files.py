"""Files that are not what their place says: one error that names the file, the damage and the remedy."""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl
import pytest

from feature_store.catalog import Catalog
from feature_store.errors import CorruptFileError
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import at, group, metadata, rows

CLICKS = group("clicks_daily")
HOURLY = group("clicks_hourly", partitioning="hourly")
CATALOG = Catalog.of([CLICKS])


@pytest.fixture
def store(tmp_path):
    store = OfflineStore(tmp_path)
    for day in range(3):
        frame = pl.concat(
            rows(CLICKS, [{"user_id": f"u{user}", "event_timestamp": at(day), "clicks": user * 1.1}])
            for user in range(200)
        )
        store.write_partition(CLICKS, Window(at(day), at(day + 1)), frame, metadata=metadata())
    return store


def read_scan(store):
    store.scan(CLICKS).collect()


def read_history(store):
    store.history(CLICKS, "u1")


def read_views(store):
    with duckdb.connect() as connection:
        store.connect_views(CATALOG, connection)


def read_point_in_time(store):
    labels = pl.DataFrame({"user_id": ["u1"], "t": [at(1, 5)]})
    point_in_time_join(store, CATALOG, labels, "t", CATALOG.select(["clicks"]), DuckDBEngine())


def foreign(column: str, dtype: pl.DataType):
    def spoil(path):
        pl.read_parquet(path).with_columns(pl.lit(None).cast(dtype).alias(column)).write_parquet(path)

    return spoil


@pytest.mark.parametrize("read", [read_scan, read_history, read_views, read_point_in_time])
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


@pytest.mark.parametrize("read", [read_history, read_point_in_time])
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
    written = store.write_partition(HOURLY, Window(at(0, 7), at(0, 8)), rows(HOURLY, []), metadata=metadata())
    written.file.path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="Re-materialize partition 2024-01-01-07:00"):
        store.scan(HOURLY)


def test_the_remedy_of_a_stream_file_is_to_replay(tmp_path):
    store = OfflineStore(tmp_path)
    written = store.write_stream_file(CLICKS, date(2024, 1, 1), "topic-0-0-9", rows(CLICKS, []), metadata={})
    written.file.path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="replay the offsets"):
        store.scan(CLICKS)
