"""Rows change, they are not rewritten: retries, A-B-A, rows that are gone, passes that change nothing."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import polars as pl
import pytest

from feature_store.errors import OvertakenError
from feature_store.store import FeatureStore
from tests.orders import START
from tests.store.scores import HOUR, MINUTE, NOON, dumped, ingestion_times, offline, online, scores_group, some, stored

DAY = "2024-03-09"


@pytest.fixture(params=["feature", "row"])
def group(request, store):
    group = scores_group(request.param)
    store.apply([group])
    return group


def later(clock, by=HOUR):
    clock.set(clock.now() + by)


def test_an_ingest_that_is_tried_again_changes_nothing(store, group, clock, redis_server, open_store):
    rows = some(("ann", NOON, 1), ("bob", NOON, 2), ("bob", NOON - timedelta(days=3), 3))
    first = store.ingest(group, rows)
    assert (first.rows, first.changed, first.online.written) == (3, 3, 2)
    files, keys = stored(store), dumped(redis_server)
    for retrying in (store, open_store()):
        later(clock)
        again = retrying.ingest(group, rows.reverse())
        assert (again.rows, again.changed, again.online.rows) == (3, 0, 0)
        assert set(again.files) == set(first.files)
    assert stored(store) == files
    assert dumped(redis_server) == keys


def test_what_is_ingested_last_stands_even_if_it_stood_before(store, group, clock, open_store):
    seen = []
    for writer, value in ((store, 1), (open_store(), 2), (store, 1)):
        writer.ingest(group, some(("ann", NOON, value)))
        assert online(store, "ann") == [value]
        assert offline(store, "ann", [clock.now()]) == [value]
        seen.append(ingestion_times(store, group)[-1])
    # The clock stood still, and still each is later than the one that it replaces.
    assert seen == sorted(set(seen))


def test_what_is_computed_last_stands_even_if_it_stood_before(store, group, clock):
    seen = []
    for value in (1, 2, 1):
        group.source.events = some(("ann", NOON, value), ("bob", NOON, 9))
        store.materialize(group, DAY)
        assert online(store, "ann", "bob") == [value, 9]
        assert offline(store, "ann", [clock.now()]) == [value]
        seen.append(ingestion_times(store, group))
        later(clock, -MINUTE)  # No matter what the clock of the machine says.
    first = seen[0][0]
    assert [times[0] for times in seen] == [first] * 3, "a row of equal content keeps its time"
    changed = [times[-1] for times in seen]
    assert changed == sorted(set(changed))


def test_a_row_that_is_gone_brings_the_one_before_it_back_at_once(store, group, clock):
    group.source.events = some(("ann", NOON - timedelta(days=1), 1), ("ann", NOON, 2), ("bob", NOON, 3))
    store.materialize(group, "2024-03-08", DAY)
    assert online(store, "ann", "bob") == [2, 3]
    group.source.events = group.source.events.filter(pl.col("score") == 1)
    later(clock)
    done = store.materialize(group, DAY)
    assert [(partition.changed, partition.withdrawn) for partition in done.partitions] == [(0, 2)]
    assert online(store, "ann", "bob") == [1, None]
    assert [offline(store, customer, [clock.now()]) for customer in ("ann", "bob")] == [[1], [None]]
    # What was withdrawn may come again.
    store.ingest(group, some(("ann", NOON, 2)))
    assert online(store, "ann") == [2]


def test_a_month_that_is_computed_again_touches_nothing(store, group, clock, redis_server):
    source = group.source
    source.start, source.landed = START - timedelta(days=22), NOON.date()
    source.events = some(
        *((f"c{n}", NOON - timedelta(days=day, minutes=n), n * day) for day in range(30) for n in range(4))
    )
    month = ("2024-02-09", DAY)
    first = store.materialize(group, *month)
    assert first.online.written > 0
    files, keys = stored(store), dumped(redis_server)
    assert len(files) == 30
    later(clock)
    again = store.materialize(group, *month, run_id="another")
    assert [(one.changed, one.withdrawn) for one in again.partitions] == [(0, 0)] * 30
    assert again.online.rows == 0
    assert stored(store) == files
    assert dumped(redis_server) == keys


def test_a_run_that_was_overtaken_fails_and_writes_nothing(store, group, clock, redis_server, open_store):
    other = open_store()

    class Slow(type(group.source)):
        """A source that somebody else reads, and writes from, while it is read."""

        def scan(self, window):
            read = super().scan(window)
            if not self.overtaken:
                self.overtaken = True
                later(clock)
                group.source.events = some(("ann", NOON, 2))
                other.materialize(group, DAY)
                kept.update(files=stored(store), keys=dumped(redis_server))
            return read

    kept = {}
    Slow.overtaken = False
    quick, group.source.events = group.source, some(("ann", NOON, 1))
    slow = Slow(quick.events)
    store.materialize(group, DAY)
    later(clock)
    with pytest.raises(OvertakenError, match="nothing was written"):
        store.materialize(dataclasses.replace(group, source=slow), DAY)
    assert stored(store) == kept["files"]
    assert dumped(redis_server) == kept["keys"]
    assert online(store, "ann") == [2]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sweep", "duckdb"])
def test_a_strict_read_of_the_past_stays_what_it_was(store, group, clock, tmp_path, redis_url, engine):
    places = {"offline": tmp_path / "offline", "online": redis_url, "registry": f"sqlite:///{tmp_path / 'registry.db'}"}
    with FeatureStore(**places, engine=engine, clock=clock) as reader:
        began = clock.now()
        times = [began + step * HOUR for step in (-1, 1, 3, 5)]

        def read():
            return {
                (customer, strict): offline(reader, customer, times, strict=strict)
                for customer in ("ann", "bob", "cy", "di")
                for strict in (False, True)
            }

        before = NOON - timedelta(days=1)
        group.source.events = some(("ann", before, 7), ("ann", NOON, 1), ("bob", NOON, 2), ("cy", NOON, 3))
        store.materialize(group, "2024-03-08", DAY)
        store.ingest(group, some(("di", NOON, 10)))
        later(clock, 2 * HOUR)
        # A row differs, a row is gone, and a row has another content from others.
        group.source.events = some(("ann", before, 7), ("ann", NOON, 4), ("cy", NOON, 3))
        store.materialize(group, DAY)
        store.ingest(group, some(("di", NOON, 11)))
        later(clock, 2 * HOUR)
        group.source.events = some(("ann", before, 7), ("cy", NOON, 3))
        store.materialize(group, DAY)
        with FeatureStore(**places, clock=clock) as other:
            other.ingest(group, some(("di", NOON, 12)))
            other.ingest(group, some(("eve", NOON, 0)))
        later(clock, 2 * HOUR)
        expected = {
            ("ann", False): [7, 7, 7, 7],
            ("ann", True): [None, 1, 4, 7],
            ("bob", False): [None] * 4,
            ("bob", True): [None, 2, None, None],
            ("cy", False): [3] * 4,
            ("cy", True): [None, 3, 3, 3],
            ("di", False): [12] * 4,
            ("di", True): [None, 10, 11, 12],
        }
        assert read() == expected
        assert store.compact(group).folded > 1
        assert read() == expected
        assert online(reader, "ann", "bob", "cy", "di", "eve") == [7, None, 3, 12, 0]
