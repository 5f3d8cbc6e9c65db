"""A materialization that is killed at any instant, and run again, leaves the stores of one that was not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl
import pytest

from feature_store.clock import FixedClock
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import START, Orders, some_orders, spending
from tests.servers.redis import RedisServer

DAYS = 9
SPAN = Partitioning.DAILY.span("2024-03-01", "2024-03-09")
NOW = START.replace(day=10)
KILLS = 12
HEAVY = ["feature_store.transform.materialization", "feature_store.online.client", "feature_store.registry.registry"]


def open_store(folder: Path, url: str) -> FeatureStore:
    return FeatureStore(folder / "offline", url, f"sqlite:///{folder / 'registry.db'}", FixedClock(NOW))


def materialize(folder: Path, url: str) -> None:
    group = spending(Orders(some_orders(DAYS, customers=200)))
    with open_store(folder, url) as store:
        store.apply([group])
        for window in Partitioning.DAILY.windows(SPAN):
            store.materialize(group, window.start)


def contents(folder: Path, server: RedisServer) -> tuple[dict[str, bytes], dict[bytes, bytes]]:
    """All files of the offline store by name, leftovers included, and all keys of the online store."""
    root = folder / "offline"
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with server.client() as redis:
        features = [key for key in redis.scan_iter("*") if b"catalog" not in key]
        return files, {key: redis.get(key) for key in features}


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


@pytest.mark.gate
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
        assert contents(tmp_path / "harried", harried) == contents(tmp_path / "calm", calm)


@pytest.mark.gate
def test_two_materializations_of_one_span_at_once_leave_one_result(tmp_path, spawn):
    with RedisServer() as alone, RedisServer() as shared:
        finish(spawn(tmp_path / "alone", alone.url))
        for process in [spawn(tmp_path / "shared", shared.url) for _ in range(2)]:
            finish(process)
        assert contents(tmp_path / "shared", shared) == contents(tmp_path / "alone", alone)
        with open_store(tmp_path / "shared", shared.url) as store:
            assert store.offline.scan(store.catalog().group("spending")).select(pl.len()).collect().item() > 0
