"""Joins from Parquet into Parquet on Spark: the answers of `training_set`, in the labels' order."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, TIMESTAMP, embedding
from feature_store.errors import CorruptFileError, InvalidRequestError
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.spark.engine import SparkEngine
from feature_store.spark.training_sets import join_files
from tests.offline.groups import PASS, ROUTE, USER, at, group, lay, rows

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]

DAY = 86_400
CLICKS = group("activity", USER, {"clicks": (FLOAT, DAY), "visits": (INT, 2 * DAY), "later": (INT, DAY)})
DELAYS = group(
    "delays",
    ROUTE,
    {"late": (BOOL, DAY), "seen": (TIMESTAMP, DAY), "profile": (embedding(2), timedelta.max // timedelta(seconds=1))},
    first_id=10,
)
CATALOG = Catalog.of([CLICKS, DELAYS])
SELECTIONS = CATALOG.select(["profile", "activity", "late", "seen"])


@pytest.fixture
def store(tmp_path: Path) -> OfflineStore:
    store = OfflineStore(tmp_path / "offline")
    users = [f"u{number}" for number in range(5)]
    for day in range(3):
        window = Window(at(day), at(day + 1))
        activity = [
            {"user_id": user, "event_timestamp": at(day, hour), "clicks": [0.1, float("nan"), -0.0][day], "visits": day}
            for user in users
            for hour in (1, 12)
        ]
        lay(store, CLICKS, window, rows(CLICKS, activity))
        delays = [
            {"origin": "JFK", "flight": flight, "event_timestamp": at(day, 6), "late": flight > 1, "seen": PASS}
            | {"profile": [0.5, [day, float("nan"), None][flight]]}
            for flight in range(3)
        ]
        lay(store, DELAYS, window, rows(DELAYS, delays))
    return store


def some_labels(count: int = 60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row_index": [number % 3 for number in range(count)],
            "weight.of label": [number / 7 for number in range(count)],
            "user_id": [f"u{number % 6}" for number in range(count)],
            "origin": ["JFK"] * count,
            "flight": pl.Series([number % 4 for number in range(count)], dtype=pl.Int16),
            "t": [datetime(2024, 1, 1) + timedelta(hours=(number * 37) % 100) for number in range(count)],
        }
    )


def write_labels(folder: Path, labels: pl.DataFrame, files: int = 3) -> Path:
    folder.mkdir()
    size = -(-labels.height // files)
    for number, part in enumerate(labels.iter_slices(size)):
        part.write_parquet(folder / f"part-{number}.parquet")
    return folder


@pytest.mark.parametrize("strict", [False, True])
def test_files_hold_what_a_training_set_holds(spark, store, tmp_path, strict):
    labels = some_labels()
    done = join_files(
        store,
        CATALOG,
        write_labels(tmp_path / "labels", labels),
        "t",
        SELECTIONS,
        tmp_path / "out",
        strict=strict,
        now=PASS,
    )
    expected = point_in_time_join(store, CATALOG, labels, "t", SELECTIONS, SweepEngine(), strict=strict)
    found = pl.concat([pl.read_parquet(file) for file in sorted((tmp_path / "out").glob("*.parquet"))])
    assert done.rows == found.height == labels.height
    assert found.columns == expected.columns
    as_expected = found.select(
        pl.col(name).dt.replace_time_zone(None)
        if name == "t" and dtype != found.schema[name]
        else pl.col(name).cast(dtype)
        for name, dtype in expected.schema.items()
    )
    assert_frame_equal(as_expected, expected, check_exact=True)


@pytest.mark.parametrize("wrong", [at(2), None], ids=["another day", "no time"])
def test_a_file_with_rows_that_do_not_belong_is_refused_as_on_one_machine(spark, store, tmp_path, wrong):
    path = store.files("activity")[1].path
    time = pl.lit(wrong, pl.Datetime("us", "UTC")).alias("event_timestamp")
    pl.read_parquet(path, hive_partitioning=False).with_columns(time).write_parquet(path)
    labels = write_labels(tmp_path / "labels", some_labels(6), files=1)
    with pytest.raises(CorruptFileError, match="Re-materialize partition 2024-01-02"):
        join_files(store, CATALOG, labels, "t", SELECTIONS, tmp_path / "out", now=PASS)
    assert not (tmp_path / "out").exists()
    for engine in (SparkEngine(lambda: spark), SweepEngine()):
        with pytest.raises(CorruptFileError, match="Re-materialize partition 2024-01-02"):
            point_in_time_join(store, CATALOG, some_labels(), "t", SELECTIONS, engine)


@pytest.mark.parametrize("name", ["clicks=9", "a b", "it's", "{a,b}", "50%20", "#1", "[x]*?"])
def test_names_of_folders_above_the_root_and_labels_of_no_rows_mean_the_same_on_spark(spark, store, tmp_path, name):
    (tmp_path / name).mkdir()
    moved = OfflineStore(store.root.rename(tmp_path / name / "offline"))
    engine = SparkEngine(lambda: spark)
    for labels in (some_labels(6), some_labels(6).clear()):
        expected = point_in_time_join(moved, CATALOG, labels, "t", SELECTIONS, SweepEngine())
        assert_frame_equal(point_in_time_join(moved, CATALOG, labels, "t", SELECTIONS, engine), expected)


def test_a_finished_join_stays_and_an_interrupted_one_is_replaced(spark, store, tmp_path):
    labels = write_labels(tmp_path / "labels", some_labels(6), files=1)
    output = tmp_path / "out"
    output.mkdir()
    half = output / "part-of-a-killed-job.parquet"
    half.write_bytes(b"half")
    # What it did not write, it leaves alone.
    with pytest.raises(InvalidRequestError, match=r"out holds what no join has written, 'part-of-a-killed-job"):
        join_files(store, CATALOG, labels, "t", SELECTIONS, output)
    assert half.read_bytes() == b"half"
    (output / "_join_has_begun").touch()
    join_files(store, CATALOG, labels, "t", SELECTIONS, output)
    assert not (output / "part-of-a-killed-job.parquet").exists()
    with pytest.raises(InvalidRequestError, match="holds a finished join"):
        join_files(store, CATALOG, labels, "t", SELECTIONS, output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit(None, pl.String).alias("user_id"), r"'user_id' is null in 6 of 6 rows \(.*Drop these rows"),
        (pl.col("flight").cast(pl.String), "'flight', a join key of entity 'route' declared as int, holds string"),
        (pl.col("t").dt.offset_by("10y"), "lies after the store's present, 2024-02-01.*in 6 of 6 rows"),
        (pl.col("user_id").alias("clicks"), "names of requested features.*clicks"),
        (pl.col("flight").alias("t"), "'t', the time to read features as of, holds smallint"),
    ],
)
def test_labels_that_cannot_be_answered_are_refused(spark, store, tmp_path, change, message):
    labels = write_labels(tmp_path / "labels", some_labels(6).with_columns(change), files=1)
    with pytest.raises(InvalidRequestError, match=message):
        join_files(store, CATALOG, labels, "t", SELECTIONS, tmp_path / "out", now=PASS)
    assert not (tmp_path / "out").exists()
