"""Requests that fail, answers that come late or never, writers that are killed: the store is the same in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.errors import FeatureStoreError, OvertakenError, StorageError
from feature_store.offline.snapshots import write_snapshots
from feature_store.offline.store import OfflineStore
from feature_store.storage.s3_path import S3Path
from tests.offline.groups import FIRST_DAY, PASS, at, give, rows
from tests.servers.s3 import environment
from tests.storage.test_offline_store_in_s3 import CLICKS, history, joined, labels, written

DAYS = 5
KINDS = ["500", "503", "slow", "cut", "cut-answer", "half-answer"]

# Writes one object, slowly enough to be killed in its midst.
WRITER = """
import sys
from feature_store.storage.location import open_location
place = open_location(sys.argv[1], setting="place") / "file.parquet"
if sys.argv[2] == "whole":
    place.put_if(None, b"x" * 4_000_000)
else:
    place.put(b"x" * 40_000_000)
"""


def tree(root: S3Path) -> dict[str, bytes]:
    return {path.relative_to(root): path.read_bytes() for path, _ in root.objects()}


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_a_store_that_was_written_and_read_through_faults_is_the_same(place, proxy, through, kind):
    undisturbed = written(place / "undisturbed", DAYS)
    list(write_snapshots(undisturbed, CLICKS, [date(2024, 1, 4)]))
    root = through(place / "disturbed")
    proxy.faults = lambda method, path, number: (
        (KINDS[number % len(KINDS)] if kind == "mixed" else kind) if number % 4 == 1 else None
    )
    store = written(root, DAYS)
    list(write_snapshots(store, CLICKS, [date(2024, 1, 4)]))
    seen = tree(place / "disturbed")
    expected = tree(place / "undisturbed")
    # A snapshot names the tags of its inputs, which are those of equal bytes: no difference is allowed.
    assert seen == expected
    for engine in ("sweep", "duckdb"):
        assert_frame_equal(joined(store, labels(0, DAYS), engine), joined(undisturbed, labels(0, DAYS), engine))
    assert_frame_equal(store.history(CLICKS, "u5"), undisturbed.history(CLICKS, "u5"))


def test_an_answer_that_was_lost_is_no_reason_to_write_again_or_to_give_up(place, proxy, through):
    store = OfflineStore(through(place))
    proxy.faults = lambda method, path, number: "cut-answer" if method == "PUT" and number < 3 else None
    frame = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(0), "clicks": 1.0}])
    # What the write changed is known, for the online store is still to get it.
    assert give(store, CLICKS, FIRST_DAY, frame).rows["clicks"].to_list() == [1.0]
    assert not give(store, CLICKS, FIRST_DAY, frame)
    with pytest.raises(OvertakenError):
        give(store, CLICKS, FIRST_DAY, frame.clear(), began=PASS - timedelta(hours=1))
    assert store.scan(CLICKS).collect().height == 1


def test_a_server_that_never_answers_is_an_error_that_says_so(place, proxy, through):
    impatient = through(place)
    connection = replace(impatient.connection, timeout=timedelta(milliseconds=200))
    store = OfflineStore(S3Path(impatient.bucket, impatient.key, connection))
    proxy.faults = lambda method, path, number: "500"
    with pytest.raises(StorageError, match=r"S3 did not do what was asked of s3://.*AWS_ENDPOINT_URL"):
        give(store, CLICKS, FIRST_DAY, history(0))
    proxy.faults = lambda method, path, number: None
    assert store.files("clicks_daily") == []


@pytest.mark.slow
def test_a_read_that_fails_says_that_it_is_the_server_and_not_the_file(place, proxy, through):
    written(place, DAYS)
    store = OfflineStore(through(place))
    store.files("clicks_daily")
    proxy.faults = lambda method, path, number: "500" if method == "GET" and "list-type" not in path else None
    with pytest.raises(FeatureStoreError) as failed:
        store.history(CLICKS, "u1", FIRST_DAY)
    assert isinstance(failed.value, StorageError)


@pytest.mark.parametrize("upload", ["whole", "in-parts"])
def test_killed_in_mid_upload_nothing_is_seen_and_the_next_writer_completes_it(place, proxy, upload):
    puts = []

    def stall(method: str, path: str, number: int) -> str | None:
        if method != "PUT":
            return None
        puts.append(path)
        return "stall" if upload == "whole" or len(puts) == 2 else None

    proxy.faults = stall
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place), upload], env={**os.environ, **environment(proxy.url)}
    )
    assert proxy.stalled.wait(60)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    assert tree(place) == {}
    (place / "file.parquet").put_if(None, b"whole")
    assert tree(place) == {"file.parquet": b"whole"}


def test_two_readers_see_one_version_or_the_other(place):
    target = place / "object"
    target.put(b"a" * 300_000)
    with target.open() as handle:
        assert handle.read(10) == b"a" * 10
        target.put(b"b" * 300_000)
        with pytest.raises(FileNotFoundError, match="was replaced while it was read"):
            handle.read(200_000)
    with target.open() as handle:
        assert set(handle.read()) == {ord("b")}


def test_a_partition_of_no_rows_is_there(place):
    store = OfflineStore(place)
    give(store, CLICKS, FIRST_DAY, rows(CLICKS, []))
    assert store.materialized(CLICKS) == [FIRST_DAY]
    assert store.scan(CLICKS).select(pl.len()).collect().item() == 0
