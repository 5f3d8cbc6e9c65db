"""A materialization that is killed at any instant, and run again, leaves the stores of one that was not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.errors import OvertakenError
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import START, Orders, some_orders, spending
from tests.servers.redis import RedisServer

DAYS = 9
SPAN = Partitioning.DAILY.span("2024-03-01", "2024-03-09")
NOW = START.replace(day=10)
KILLS = 12
OVERTAKEN = 3
HEAVY = ["feature_store.transform.materialization", "feature_store.online.client", "feature_store.registry.registry"]


def open_store(folder: Path, url: str) -> FeatureStore:
    return FeatureStore(folder / "offline", url, f"sqlite:///{folder / 'registry.db'}", FixedClock(NOW))


def materialize(folder: Path, url: str) -> None:
    group = spending(Orders(some_orders(DAYS, customers=200)))
    with open_store(folder, url) as store:
        store.apply([group])
        for window in Partitioning.DAILY.windows(SPAN):
            try:
                store.materialize(group, window.start)
            except OvertakenError:
                sys.exit(OVERTAKEN)


def contents(folder: Path, server: RedisServer) -> tuple[list[str], pl.DataFrame, dict[bytes, bytes]]:
    """All files of the offline store by name, leftovers included, all rows, and all values of the online store.

    When rows were ingested is not compared: with each attempt the clock of ingestion times goes on.
    """
    root = folder / "offline"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    rows = pl.concat([pl.read_parquet(root / name, hive_partitioning=False) for name in files])
    rows = rows.drop("ingested_at").sort("customer", "event_timestamp")
    with server.client() as redis:
        return files, rows, {key: redis.get(key) for key in redis.scan_iter("feature:*")}


def assert_alike(one: tuple[Path, RedisServer], other: tuple[Path, RedisServer]) -> None:
    (files, rows, values), (other_files, other_rows, other_values) = contents(*one), contents(*other)
    assert files == other_files
    assert_frame_equal(rows, other_rows)
    assert values
    assert values == other_values


@pytest.fixture(scope="module")
def spawn():
    """Starts materializations in processes of their own, from a server that has imported all they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.orders", *HEAVY])

    def start(folder: Path, url: str) -> BaseProcess:
        process = context.Process(target=materialize, args=(folder, url))
        process.start()
        return process

    return start


def finish(process: BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
def test_killed_at_random_and_run_again_is_as_if_never_killed(tmp_path, spawn):
    with RedisServer() as calm, RedisServer() as harried:
        finish(spawn(tmp_path / "warm-up", calm.url))
        with calm.client() as redis:
            redis.flushall()
        started = time.monotonic()
        finish(spawn(tmp_path / "calm", calm.url))
        whole = time.monotonic() - started
        choice = random.Random(7)
        killed = 0
        for _ in range(KILLS):
            process = spawn(tmp_path / "harried", harried.url)
            process.join(timeout=whole * choice.uniform(0.2, 1.0))
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        finish(spawn(tmp_path / "harried", harried.url))
        assert killed > KILLS // 3
        assert_alike((tmp_path / "harried", harried), (tmp_path / "calm", calm))


@pytest.mark.slow
def test_two_materializations_of_one_span_at_once_leave_one_result(tmp_path, spawn):
    with RedisServer() as alone, RedisServer() as shared:
        finish(spawn(tmp_path / "alone", alone.url))
        both = [spawn(tmp_path / "shared", shared.url) for _ in range(2)]
        for process in both:
            process.join()
        # One may have been overtaken by the other, which has then done it all.
        assert sorted(process.exitcode for process in both) in ([0, 0], [0, OVERTAKEN])
        assert_alike((tmp_path / "shared", shared), (tmp_path / "alone", alone))
        with open_store(tmp_path / "shared", shared.url) as store:
            assert store.offline.scan(store.catalog().group("spending")).select(pl.len()).collect().item() > 0
