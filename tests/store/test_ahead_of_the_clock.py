"""Rows ahead of the clock, readers whose clocks stand behind, and times to live that grow."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from feature_store.clock import FixedClock
from feature_store.errors import InvalidRowsError
from tests.store.scores import HOUR, MINUTE, NOON, dumped, offline, online, scores_group, some, stored

READER = """
from feature_store import FeatureStore
with FeatureStore.from_env() as store:
    print(store.get_online_features("ann", ["score"])["score"])
"""


@pytest.fixture(params=["feature", "row"])
def group(request, store):
    group = scores_group(request.param)
    store.apply([group])
    return group


@pytest.fixture
def read_elsewhere(tmp_path, redis_url):
    """Reads the score of ann in a process that has just begun."""

    def read(now):
        settings = {
            "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
            "FEATURE_STORE_ONLINE": redis_url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
            "FEATURE_STORE_CLOCK": now.isoformat(),
        }
        told = subprocess.run(
            [sys.executable, "-c", READER], env={**os.environ, **settings}, check=True, capture_output=True, text=True
        )
        return told.stdout.strip()

    return read


@pytest.mark.parametrize("reader", ["who has read before", "in a new process"])
def test_a_row_ahead_of_the_clock_is_served_when_its_time_comes(store, group, clock, read_elsewhere, reader):
    now = clock.now()
    store.ingest(group, some(("ann", NOON, 1)))
    report = store.ingest(group, some(("ann", now + 3 * MINUTE, 2), ("ann", now + 4 * MINUTE, 3)))
    assert (report.changed, report.online.pending) == (2, 2)
    for late, expected in ((0, 1), (3, 2), (4, 3)):
        clock.set(now + late * MINUTE)
        if reader == "in a new process":
            assert read_elsewhere(clock.now()) == str(expected)
        else:
            clock.set(clock.now() - timedelta(microseconds=1))
            assert online(store, "ann") == [max(1, expected - 1)]
            clock.set(now + late * MINUTE)
            assert online(store, "ann") == [expected]
        assert offline(store, "ann", [clock.now()]) == [expected]


def test_a_row_too_far_ahead_is_refused_with_a_count(store, group, clock, redis_server):
    store.ingest(group, some(("ann", clock.now() + 5 * MINUTE, 1)))
    files, keys = stored(store), dumped(redis_server)
    far = clock.now() + 5 * MINUTE + timedelta(microseconds=1)
    with pytest.raises(InvalidRowsError, match=r"2 of 3 rows lie more than 0:05:00 ahead"):
        store.ingest(group, some(("ann", far, 1), ("bob", NOON, 1), ("bob", far, 1)))
    assert stored(store) == files
    assert dumped(redis_server) == keys


def test_a_reader_whose_clock_stands_behind_gets_the_row_before(store, group, clock, open_store):
    now = clock.now()
    store.ingest(group, some(("ann", NOON, 1)))
    store.ingest(group, some(("ann", now - MINUTE, 2)))
    behind = FixedClock(now - MINUTE - timedelta(microseconds=1))
    reader = open_store(behind)
    assert (online(store, "ann"), online(reader, "ann")) == ([2], [1])
    behind.set(now - MINUTE)
    assert online(reader, "ann") == [2]


@pytest.mark.parametrize("layout", ["feature", "row"])
@pytest.mark.parametrize("how", ["the next write", "a repair"])
def test_a_longer_time_to_live_shows_what_had_expired(store, open_store, layout, how):
    short = scores_group(layout, ttl=HOUR)
    store.apply([short])
    store.ingest(short, some(("ann", NOON, 1)))
    assert online(store, "ann") == [None]
    longer = scores_group(layout, ttl=timedelta(days=2))
    store.apply([longer])
    if how == "a repair":
        store.repair_online("scores")
    else:
        store.ingest(longer, some(("bob", NOON, 2)))
    assert online(store, "ann") == [1]
    assert online(open_store(), "ann") == [1]
