"""A build that is killed at any instant leaves whole versions and whole partitions, and the next one cleans up."""

from __future__ import annotations

import hashlib
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
from feature_store.storage.location import LOCAL
from feature_store.store import FeatureStore
from feature_store.training_sets import partitioned
from tests.orders import START, Orders, some_orders, spending
from tests.servers.redis import RedisServer
from tests.training_sets.conftest import SPAN, label_frame, purchases

pytestmark = pytest.mark.slow

KILLS = 8
HEAVY = ["feature_store.training_sets.building", "feature_store.registry.registry", "feature_store.online.store"]
ROWS = 5000


def labels() -> pl.DataFrame:
    # Not at import: processes are forked from one that has imported this, and must not have used Polars yet.
    return label_frame(
        [(f"c{number % 50}", START.replace(day=2 + number % 7, hour=number % 24)) for number in range(ROWS)]
    )


def open_store(folder: Path, url: str) -> FeatureStore:
    registry = f"sqlite:///{folder / 'registry.db'}"
    return FeatureStore(folder / "offline", url, registry, FixedClock(START.replace(day=10)))


def build(folder: Path, url: str) -> None:
    partitioned.PASS_ROWS = 700
    whole = purchases(labels())
    parts = purchases(labels(), partitioning=Partitioning.DAILY, start=START)
    object.__setattr__(parts, "name", "daily_purchases")
    with open_store(folder, url) as store:
        store.write_training_set(whole)
        for window in Partitioning.DAILY.windows(Partitioning.DAILY.span("2024-03-02", "2024-03-08")):
            store.write_training_set(parts, window)


def whole_parts(folder: Path) -> dict[str, str]:
    """Digests of all files that a reader can come across; each must be what its manifest says."""
    root = folder / "offline" / "training_sets"
    for name in ("purchases", "daily_purchases"):
        with FeatureStore(folder / "offline", None, f"sqlite:///{folder / 'registry.db'}") as store:
            for path in root.glob(f"{name}/v*"):
                version = store.open_training_set(name, int(path.name[1:]))
                for part in version.parts:
                    for file, record in part.files.items():
                        assert hashlib.sha256((path / file).read_bytes()).hexdigest() == record.sha256
    visible = (path for path in root.rglob("*") if path.is_file() and ".writing-" not in str(path))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in visible}


@pytest.fixture(scope="module")
def spawn():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training_sets.test_killed_build", *HEAVY])

    def start(folder: Path, url: str) -> BaseProcess:
        process = context.Process(target=build, args=(folder, url))
        process.start()
        return process

    return start


def finish(process: BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0


def test_killed_at_random_and_built_again_is_as_if_never_killed(tmp_path, spawn):
    with RedisServer() as server:
        for name in ("warm-up", "calm", "harried"):
            group = spending(Orders(some_orders(customers=50)))
            with open_store(tmp_path / name, server.url) as store:
                store.apply([group])
                store.materialize(group, *SPAN)
        for name in ("warm-up", "calm"):
            started = time.monotonic()
            finish(spawn(tmp_path / name, server.url))
            whole = time.monotonic() - started
        choice, killed = random.Random(3), 0
        for _ in range(KILLS):
            process = spawn(tmp_path / "harried", server.url)
            process.join(timeout=whole * choice.uniform(0.1, 0.6))
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            whole_parts(tmp_path / "harried")
        finish(spawn(tmp_path / "harried", server.url))
        # What one run has done the next need not do: later runs may end before they are killed.
        assert killed > 1
        assert whole_parts(tmp_path / "harried") == whole_parts(tmp_path / "calm")
        assert not list((tmp_path / "harried").rglob(".writing-*"))
        with open_store(tmp_path / "harried", server.url) as store:
            assert store.registry.training_sets("purchases")[0].row_count == ROWS
            assert store.registry.training_sets("daily_purchases")[0].row_count == ROWS


def test_what_a_dead_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    folder = tmp_path / "purchases"
    with LOCAL.staging(folder) as alive:
        (alive / "rows").mkdir()
        dead = folder / ".writing-dead"
        (dead / "rows").mkdir(parents=True)
        with LOCAL.staging(folder) as other:
            assert alive.is_dir()
            assert other.is_dir()
            assert not dead.exists()
    assert list(folder.iterdir()) == []


def test_two_builds_at_once_are_one_version(tmp_path, spawn):
    with RedisServer() as server:
        group = spending(Orders(some_orders(customers=50)))
        with open_store(tmp_path, server.url) as store:
            store.apply([group])
            store.materialize(group, *SPAN)
        for process in [spawn(tmp_path, server.url) for _ in range(2)]:
            finish(process)
        with open_store(tmp_path, server.url) as store:
            for name in ("purchases", "daily_purchases"):
                assert [record.version for record in store.registry.training_sets(name)] == [1]
                assert store.open_training_set(name).scan().select(pl.len()).collect().item() == ROWS
