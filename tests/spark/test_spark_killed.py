"""Spark's processes are killed at random while they materialize: what a second run leaves is as if none had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pytest

from feature_store.clock import FixedClock
from feature_store.errors import FeatureStoreError
from feature_store.offline.footers import file_metadata
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import Orders, some_orders, spending
from tests.servers.redis import RedisServer
from tests.spark.contents import offline_contents, online_contents
from tests.store.test_killed_materialization import DAYS, NOW, SPAN

CUSTOMERS = 200
DAYS_PER_PASS = 3
WORKER_KILLS = 6
DRIVER_KILLS = 2

pytestmark = [
    pytest.mark.needs_spark,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc"),
]

DRIVER = """
import sys
from pathlib import Path
from tests.spark.test_spark_killed import materialize
materialize(Path(sys.argv[1]), sys.argv[2])
"""
CONF = (
    "spark.master=local[2] spark.ui.enabled=false spark.driver.bindAddress=127.0.0.1 spark.driver.host=127.0.0.1 "
    "spark.sql.shuffle.partitions=2"
)


def materialize(folder: Path, url: str) -> None:
    group = spending(Orders(some_orders(DAYS, customers=CUSTOMERS)))
    windows = list(Partitioning.DAILY.windows(SPAN))
    registry = f"sqlite:///{folder / 'registry.db'}"
    with FeatureStore(folder / "offline", url, registry, FixedClock(NOW), "spark") as store:
        store.apply([group])
        for first in range(0, DAYS, DAYS_PER_PASS):
            of_pass = windows[first : first + DAYS_PER_PASS]
            store.materialize(group, of_pass[0].start, of_pass[-1].start)


def workers(parent: int) -> list[int]:
    """Processes of Python below a process, the daemon that starts them left out."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    daemons = {pid for pid, above in parents.items() if above == parent}
    return [pid for pid, above in parents.items() if above in daemons]


@contextmanager
def watched(root: Path, expected: Path) -> Iterator[list[str]]:
    """Reads all that a reader can see, over and over; gives what was not a whole file of the expected store."""
    digests = {str(file.relative_to(expected)): file_metadata(file)["content"] for file in expected.rglob("*.parquet")}
    wrong: list[str] = []
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            for file in root.glob("*/date=*/*.parquet"):
                name = str(file.relative_to(root))
                seen.append(name)
                try:
                    pl.read_parquet(file)
                    if file_metadata(file)["content"] != digests[name]:
                        wrong.append(f"{name} holds other rows")
                except (OSError, KeyError, pl.exceptions.PolarsError) as error:
                    wrong.append(f"{name}: {error!r}")

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield wrong
    finally:
        done.set()
        reader.join()
    assert seen


@pytest.fixture(scope="module")
def calm(spark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RedisServer, float]]:
    """The stores of a run that nobody disturbs, and its seconds."""
    folder = tmp_path_factory.mktemp("calm")
    with RedisServer() as server:
        materialize(folder / "warm-up", server.url)
        server.client().flushall()
        started = time.monotonic()
        materialize(folder / "calm", server.url)
        yield folder / "calm", server, time.monotonic() - started


def written(root: Path) -> set[tuple[int, int]]:
    """What lies in the store; a file that is replaced by an equal one is another."""
    found = set()
    for path in root.glob("*/date=*/*.parquet"):
        status = path.stat()
        found.add((status.st_ino, status.st_mtime_ns))
    return found


def test_workers_killed_at_random_leave_a_store_that_a_second_run_completes(spark, calm, tmp_path):
    folder, calm_server, seconds = calm
    harried = tmp_path / "harried"
    java = spark.sparkContext._gateway.proc.pid
    choice = random.Random(7)
    failed: list[Exception] = []

    def run() -> None:
        try:
            materialize(harried, server.url)
        except FeatureStoreError as error:
            failed.append(error)

    with RedisServer() as server, watched(harried / "offline", folder / "offline") as wrong:
        for _ in range(WORKER_KILLS):
            job = threading.Thread(target=run)
            job.start()
            job.join(timeout=seconds * choice.uniform(0.05, 0.5))
            # Over and over: how long a run takes is the machine's business, and idle workers are no loss to it.
            while job.is_alive():
                for pid in workers(java):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                job.join(timeout=0.2)
        run_failures = len(failed)
        materialize(harried, server.url)
        assert offline_contents(harried / "offline") == offline_contents(folder / "offline")
        assert online_contents(server) == online_contents(calm_server)
    assert wrong == []
    assert run_failures >= WORKER_KILLS // 3
    assert all("a second run completes it" in str(error) for error in failed)
    assert any("Python worker exited unexpectedly" in str(error) for error in failed)


@pytest.mark.long
def test_an_application_killed_at_random_leaves_a_store_that_another_completes(calm, tmp_path):
    folder, calm_server, seconds = calm
    harried = tmp_path / "harried"
    choice = random.Random(8)
    killed = 0
    environment = {**os.environ, "FEATURE_STORE_SPARK_CONF": CONF, "PYTHONPATH": str(Path.cwd())}
    with RedisServer() as server, watched(harried / "offline", folder / "offline") as wrong:
        for _ in range(DRIVER_KILLS):
            before = written(harried / "offline")
            command = [sys.executable, "-c", DRIVER, str(harried), server.url]
            # In a session of its own, so that Java dies with it.
            with subprocess.Popen(
                command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
            ) as process:
                while process.poll() is None and written(harried / "offline") <= before:
                    time.sleep(0.005)
                # It writes its first partitions: somewhere between here and the last push it ends.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds * choice.uniform(0, 0.6))
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            killed += process.returncode == -signal.SIGKILL
        assert killed
        materialize(harried, server.url)
        assert offline_contents(harried / "offline") == offline_contents(folder / "offline")
        assert online_contents(server) == online_contents(calm_server)
    assert wrong == []
