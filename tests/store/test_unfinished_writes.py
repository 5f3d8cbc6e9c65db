"""Writers that die or are refused between the two stores: the next write completes what they have left."""

from __future__ import annotations

import multiprocessing
import os
import signal
from itertools import count
from pathlib import Path

import pytest

from feature_store.clock import FixedClock
from feature_store.errors import StorageError
from feature_store.store import FeatureStore
from tests.refusing import limited, read_only
from tests.store.scores import HOUR, NOON, dumped, online, scores_group, some, stored

NOW = NOON + 12 * HOUR
HEAVY = ["feature_store.registry.registry", "feature_store.online.store", "feature_store.offline.store"]


class DeadlyClock(FixedClock):
    """A clock that kills the process that looks at it too often."""

    looks = 10**9

    def now(self):
        self.looks -= 1
        if self.looks < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().now()


def opened(folder: Path, url: str, clock: FixedClock) -> FeatureStore:
    return FeatureStore(folder / "offline", url, f"sqlite:///{folder / 'registry.db'}", clock)


def marks(folder: Path) -> list[Path]:
    return list((folder / "offline" / "_unfinished").rglob("*.json"))


def ingest(folder: Path, url: str, layout: str, looks: int) -> None:
    clock = DeadlyClock(NOW)
    group = scores_group(layout)
    with opened(folder, url, clock) as store:
        store.registered(group)
        clock.looks = looks
        store.ingest(group, some(("ann", NOON, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["feature", "row"])
def test_what_a_killed_writer_has_left_is_done_by_the_next_write(tmp_path, redis_url, redis_server, layout):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store.test_unfinished_writes", *HEAVY])
    left = []
    for looks in count():
        redis_server.client().flushall()
        folder = tmp_path / str(looks)
        folder.mkdir()
        group = scores_group(layout)
        with opened(folder, redis_url, FixedClock(NOW)) as store:
            store.apply([group])
            store.ingest(group, some(("ann", NOON, 1)))
            writer = context.Process(target=ingest, args=(folder, redis_url, layout, looks))
            writer.start()
            writer.join()
            left.append((len(marks(folder)), online(store, "ann")[0]))
            store.ingest(group, some(("bob", NOON, 3)))
            assert marks(folder) == []
            [kept] = store.get_offline_features(["ann"], ["score"], [NOW])["score"].to_list()
            assert online(store, "ann", "bob") == [kept, 3]
        if writer.exitcode == 0:
            break
        assert writer.exitcode == -signal.SIGKILL
    assert left[-1] == (0, 2)
    assert any(found for found, _ in left), "some have been killed in the midst of it"


@pytest.mark.parametrize("layout", ["feature", "row"])
@pytest.mark.parametrize(("refusing", "remedy"), [(limited, "make room"), (read_only, "Let this user write there")])
def test_a_place_that_refuses_an_ingest_leaves_nothing_half_written(
    tmp_path, redis_url, redis_server, layout, refusing, remedy
):
    group = scores_group(layout)
    with opened(tmp_path, redis_url, FixedClock(NOW)) as store:
        store.apply([group])
        store.ingest(group, some(("ann", NOON, 1)))
        files, row_keys = stored(store), rows_online(redis_server)
        with refusing(tmp_path / "offline"), pytest.raises(StorageError, match=remedy):
            store.ingest(group, some(("ann", NOON, 2), ("bob", NOON, 3)))
        assert {path: seen for path, seen in stored(store).items() if "_unfinished" not in path} == files
        assert rows_online(redis_server) == row_keys
        assert store.offline.scan(store.registered(group)).collect()["score"].to_list() == [1]
        store.ingest(group, some(("ann", NOON, 2), ("bob", NOON, 3)))
        assert online(store, "ann", "bob") == [2, 3]
        assert marks(tmp_path) == []


def rows_online(server):
    """Returns all keys but those of the clock of ingestion times, which goes on when a write fails."""
    return {key: value for key, value in dumped(server).items() if not key.startswith(b"feature_clock:")}
