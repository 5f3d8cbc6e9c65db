"""Writers that are killed, that race, and readers in their midst."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.parquet as pq
import pytest

from feature_store.catalog import Catalog
from feature_store.errors import FeatureStoreError, OvertakenError, StorageError
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.storage.local_files import replace_file
from tests.offline.groups import FIRST_DAY, JAN_1, PASS, at, give, group, rows

if TYPE_CHECKING:
    from pathlib import Path

CLICKS = group("clicks_daily")

# Says when it is about to write, then writes the partition over and over until it is killed.
WRITER = """
import sys
from tests.offline.test_atomic_writes import CLICKS, contents
from tests.offline.groups import FIRST_DAY, PASS, give
from feature_store.offline.store import OfflineStore
store, frame = OfflineStore(sys.argv[1]), contents(1.0, 20_000)
print("writing", flush=True)
while True:
    give(store, CLICKS, FIRST_DAY, frame)
"""


def contents(value: float, height: int = 1000) -> pl.DataFrame:
    """Returns rows that all carry one value: a mixture of two writes would show."""
    schema = rows(CLICKS, [{"user_id": "u", "event_timestamp": JAN_1, "clicks": value, "seats": height}])
    return pl.concat([schema] * height).with_columns(
        user_id=pl.int_range(height).cast(pl.String), event_timestamp=pl.lit(JAN_1).cast(pl.Datetime("us", "UTC"))
    )


def tree(store: OfflineStore) -> dict[str, bytes]:
    """Returns every file below the root, hidden ones included."""
    return {str(path.relative_to(store.root)): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.slow
def test_killed_at_any_moment_a_second_run_gives_what_one_run_gives(tmp_path):
    undisturbed = OfflineStore(tmp_path / "undisturbed")
    give(undisturbed, CLICKS, FIRST_DAY, contents(1.0, 20_000))
    chance = random.Random(0)
    for number in range(4):
        store = OfflineStore(tmp_path / f"killed-{number}")
        with subprocess.Popen([sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"writing\n"
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
        assert all(file.size for file in store.files("clicks_daily"))
        assert store.scan(CLICKS).collect().height in {0, 20_000}
        give(store, CLICKS, FIRST_DAY, contents(1.0, 20_000))
        assert tree(store) == tree(undisturbed)


@pytest.mark.slow
def test_killed_half_way_through_a_file_nothing_of_it_is_seen_and_nothing_stays(tmp_path):
    path = tmp_path / "folder" / "part.parquet"
    script = (
        "import os, signal, sys, pathlib\n"
        "from feature_store.storage.local_files import replace_file\n"
        "def write(handle):\n"
        "    handle.write(b'half'); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "replace_file(pathlib.Path(sys.argv[1]), lambda: write)\n"
    )
    for other in ("part.parquet", "other.parquet"):
        ended = subprocess.run([sys.executable, "-c", script, str(path.with_name(other))], check=False)
        assert ended.returncode == -signal.SIGKILL
        (leftover,) = names(path.parent)
        assert leftover.startswith(".")
        assert not leftover.endswith(".parquet")
        replace_file(path, lambda: lambda handle: handle.write(b"whole"))
        assert names(path.parent) == ["part.parquet"]
        path.unlink()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "part.parquet"
    path.write_bytes(b"old")

    def fail(handle):
        handle.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(StorageError, match="No space"):
        replace_file(path, lambda: fail)
    assert names(tmp_path) == ["part.parquet"]
    assert path.read_bytes() == b"old"


@pytest.mark.slow
def test_readers_see_one_version_or_the_other(tmp_path):
    store = OfflineStore(tmp_path)
    path = give(store, CLICKS, FIRST_DAY, contents(0.0)).files[0].path
    catalog = Catalog.of([CLICKS])
    labels = contents(0.0).select("user_id", t=pl.lit(at(0, 1)).cast(pl.Datetime("us", "UTC")))

    def write() -> None:
        for version in range(60):
            frame = contents(float(version), 1000 + version)
            give(store, CLICKS, FIRST_DAY, frame, began=PASS + timedelta(seconds=version))

    def by_scan() -> tuple[set[float], int]:
        found = store.scan(CLICKS).select("clicks").collect()
        return set(found["clicks"]), found.height

    def by_an_open_handle() -> tuple[set[float], int]:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            return set(file.read(["clicks"])["clicks"].to_pylist()), file.metadata.num_rows

    def by_point_in_time() -> tuple[set[float], int]:
        try:
            answer = point_in_time_join(
                store, catalog, labels, "t", catalog.select(["clicks", "seats"]), DuckDBEngine()
            )
        except FeatureStoreError as error:
            assert "were replaced during" in str(error)  # noqa: PT017  # the other outcome is an answer
            return by_scan()
        return set(answer["clicks"]), answer["seats"].unique().item()

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while not writer.done():
            for read in (by_scan, by_an_open_handle, by_point_in_time):
                ((value,), height) = read()
                assert height == 1000 + value, read.__name__
                seen.add(value)
        writer.result()
    assert len(seen) > 1
    assert by_point_in_time() == ({59.0}, 1059)


def test_the_pass_that_began_last_stays_whichever_ends_first(tmp_path):
    store = OfflineStore(tmp_path)
    order = list(range(24))
    random.Random(1).shuffle(order)

    def is_overtaken(number: int) -> bool:
        began = PASS + timedelta(microseconds=number)
        try:
            give(store, CLICKS, FIRST_DAY, contents(float(number)), began=began)
        except OvertakenError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        overtaken = dict(zip(order, pool.map(is_overtaken, order), strict=True))
    assert not overtaken[23]
    assert any(overtaken.values())
    assert store.scan(CLICKS).select(pl.col("clicks").unique()).collect().item() == 23.0
    assert [name for name in tree(store) if "_superseded" not in name] == ["clicks_daily/date=2024-01-01/batch.parquet"]


def test_the_same_pass_again_gives_the_same_bytes(tmp_path):
    one, two = OfflineStore(tmp_path / "one"), OfflineStore(tmp_path / "two")
    for store, times in ((one, 1), (two, 2)):
        for _ in range(times):
            written = give(store, CLICKS, FIRST_DAY, contents(1.0))
            assert written.rows.height + written.unchanged == 1000
    assert tree(one) == tree(two)


def test_a_stream_file_written_again_changes_nothing(tmp_path):
    store = OfflineStore(tmp_path)
    frame = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(0, 1), "clicks": 1.0}])
    first = store.write_stream_file(CLICKS, date(2024, 1, 1), "topic-0-0-9", frame, metadata={})
    before = tree(store)
    second = store.write_stream_file(
        CLICKS, date(2024, 1, 1), "topic-0-0-9", frame.with_columns(clicks=2.0), metadata={}
    )
    assert (first.superseded, second.superseded, second.file) == (False, True, first.file)
    assert tree(store) == before


def test_a_damaged_file_is_replaced_by_writing_its_partition_again(tmp_path):
    store = OfflineStore(tmp_path)
    written = give(store, CLICKS, FIRST_DAY, contents(1.0), began=PASS + timedelta(days=9))
    written.files[0].path.write_bytes(b"PAR1 damaged")
    again = give(store, CLICKS, FIRST_DAY, contents(2.0))
    assert again.rows.height == 1000
    assert store.scan(CLICKS).collect().height == 1000


def test_a_disk_that_takes_no_more_leaves_the_old_file_and_says_where(tmp_path: Path) -> None:
    store = OfflineStore(tmp_path)
    give(store, CLICKS, FIRST_DAY, contents(1.0, 10))
    [before] = store.files("clicks_daily")
    old = before.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"batch\.parquet could not be written, and is as it was.*make room"):
            give(store, CLICKS, FIRST_DAY, contents(2.0, 20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before.path.read_bytes() == old
    assert [path.name for path in before.path.parent.iterdir()] == [before.path.name]
    give(store, CLICKS, FIRST_DAY, contents(2.0, 20_000))
    assert before.path.read_bytes() != old
