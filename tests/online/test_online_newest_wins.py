"""The visibility rule online, against the rule in plain Python; newest wins, whatever the order and the writers."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from feature_store.clock import FixedClock, SystemClock
from feature_store.definitions.dtypes import FLOAT, INT
from feature_store.online.store import OnlineStore
from tests.online.deployments import Deployment
from tests.online.groups import DAY, LAYOUTS, LayoutName, LiveClock, at, catalog, frame, group

TTLS = {"brief": 3, "long": 7, "equal_v2": 7}
GROUPS = {name: group({column: (INT, ttl) for column, ttl in TTLS.items()}, layout=name) for name in LAYOUTS}
LABELS = {"brief": "brief", "long": "long", "equal_v2": "equal"}


@dataclass(frozen=True)
class Row:
    entity: str
    event: timedelta
    ingested: timedelta
    brief: int | None
    long: int | None
    equal_v2: int | None


@dataclass(frozen=True)
class Write:
    now: timedelta
    rows: list[Row]


# Whole seconds and one microsecond beside them: every boundary of the rule is hit from both sides.
MOMENTS = st.builds(
    lambda seconds, micros: timedelta(seconds=seconds, microseconds=micros), st.integers(0, 12), st.integers(-1, 1)
)
VALUES = st.none() | st.integers(0, 99)
ROWS = st.builds(Row, st.sampled_from("ab"), MOMENTS, MOMENTS, VALUES, VALUES, VALUES)
HISTORIES = st.tuples(st.lists(st.tuples(MOMENTS, st.lists(ROWS, max_size=6)), max_size=6), MOMENTS)
# Long gone; a time that servers may expire keys in; and the year 1969, whose microseconds are negative.
EPOCHS = st.sampled_from([datetime(y, 6, 1, tzinfo=UTC) for y in (2013, 2090, 1969)])


def with_own_times(writes: Sequence[Write]) -> list[Write]:
    """Returns writes whose rows are all ingested at different times, as the clock of ingestion times gives them."""
    numbers = itertools.count()
    return [
        Write(
            write.now,
            [replace(row, ingested=row.ingested * 1000 + timedelta(microseconds=next(numbers))) for row in write.rows],
        )
        for write in writes
    ]


def visible(writes: Sequence[Write], entity: str, column: str, now: timedelta) -> tuple[object, str]:
    """Returns value and status by the contract's rule, over all rows that were not over when they were written.

    Those that lay ahead of the clock then stand since their time came.
    """
    pushed = [
        (row.event, row.ingested, getattr(row, column))
        for write in writes
        for row in write.rows
        if row.entity == entity and row.event <= now and write.now < row.event + timedelta(seconds=max(TTLS.values()))
    ]
    if not pushed:
        return None, "missing"
    event, _, value = max(pushed, key=lambda row: row[:2])
    if now >= event + timedelta(seconds=TTLS[column]):
        return None, "expired"
    return value, "null" if value is None else "present"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, epoch=EPOCHS, live=st.booleans())
def test_reads_follow_the_rule_after_any_history_of_writes(
    server: Deployment,
    redis: Redis,
    layout: LayoutName,
    history: tuple[list[tuple[timedelta, list[Row]]], timedelta],
    epoch: datetime,
    live: bool,
) -> None:
    of = GROUPS[layout]
    known = catalog(of)
    batches, last = history
    moments = sorted([*(moment for moment, _ in batches), last])
    writes = with_own_times([Write(moment, rows) for moment, (_, rows) in zip(moments, batches, strict=False)])
    # Under a live clock the server's own wall clock must agree: only the far future is safe from it here.
    clock = LiveClock(epoch) if live and epoch.year > 2080 else FixedClock(epoch)
    redis.flushall()
    with OnlineStore.connect(server.url, clock) as store:
        for write in writes:
            clock.set(epoch + write.now)
            rows = [
                {"user_id": row.entity, "event_timestamp": epoch + row.event, "ingested_at": epoch + row.ingested}
                | {column: getattr(row, column) for column in TTLS}
                for row in write.rows
            ]
            report = store.write(of, frame(of, rows))
            counts = (report.written, report.stale, report.superseded, report.expired, report.pending)
            assert report.rows == len(rows) == sum(counts)
            assert report.pending == sum(row.event > write.now for row in write.rows)
        clock.set(epoch + moments[-1])
        prepared = store.prepare(known.select(["activity"]), known)
        states = prepared.states(["a", "b"])
        values = prepared.values(["a", "b"])
        columns = prepared.read("frame", ["b", "a", "a"])
    for entity, entity_states, entity_values in zip("ab", states, values, strict=True):
        for column, label in LABELS.items():
            expected = visible(writes, entity, column, moments[-1])
            assert (entity_states[label].value, entity_states[label].status) == expected
            assert entity_values[label] == expected[0]
            assert columns.filter(columns["entity_id"] == entity)[label].unique().to_list() == [expected[0]]


def test_of_equal_event_times_the_later_ingested_wins(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    of = group(layout=layout)
    rows = [
        {"user_id": "u", "event_timestamp": at(0), "ingested_at": at(second), "clicks": float(second)}
        for second in (2, 3, 1)
    ]
    with OnlineStore.connect(server.url, FixedClock(at(10))) as store:
        for row in rows:
            store.write(of, frame(of, [row]))
        state = store.read_states(["u"], catalog(of).select(["clicks"]), catalog(of))[0]["clicks"]
    assert (state.value, state.event_timestamp, state.ingested_at) == (3.0, at(0), at(3))


MICROS = st.integers(-(62 * 10**15), 25 * 10**16)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.tuples(MICROS | st.integers(-3, 3), MICROS | st.integers(-3, 3)), min_size=2, max_size=4))
@example(times=[(2**32 - 1, 0), (2**32, 0)])
@example(times=[(2**53, 1), (2**53 + 1, 0)])
@example(times=[(-1, 0), (0, -1)])
@example(times=[(5, 2**32), (5, 2**32 - 1)])
def test_times_are_compared_to_the_microsecond_over_ten_thousand_years(
    redis: Redis, store: OnlineStore, clock: FixedClock, layout: LayoutName, times: list[tuple[int, int]]
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    of = group({"x": (INT, 10**12)}, layout=layout)
    instants = [tuple(epoch + timedelta(microseconds=micros) for micros in pair) for pair in times]
    clock.set(datetime.max.replace(tzinfo=UTC))
    redis.flushall()
    for n, (event, ingested) in enumerate(instants):
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": event, "ingested_at": ingested, "x": n}]))
    [answer] = store.read(["u"], catalog(of).select(["x"]), catalog(of))
    assert answer == {"x": max(range(len(times)), key=lambda n: (times[n], n))}


def test_a_row_stays_away_until_its_time_and_stands_then(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    of = group(layout=layout)
    rows = frame(of, [{"user_id": "u", "event_timestamp": at(s), "clicks": float(s)} for s in (1, 5)])
    clock = FixedClock(at(4, 999_999))
    with OnlineStore.connect(server.url, clock) as store:
        assert store.write(of, rows).pending == 1
        assert store.read(["u"], catalog(of).select(["clicks"]), catalog(of)) == [{"clicks": 1.0}]
        assert store.pending.count(of) == 1
        clock.set(at(5))
        assert store.read(["u"], catalog(of).select(["clicks"]), catalog(of)) == [{"clicks": 5.0}]
        assert store.pending.count(of) == 0


def test_an_expired_value_of_a_newer_row_removes_the_older_one(server: Deployment, redis: Redis) -> None:
    of = group({"brief": (FLOAT, 10), "long": (FLOAT, 100)})
    clock = FixedClock(at(1))
    with OnlineStore.connect(server.url, clock) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "brief": 1.0, "long": 1.0}]))
        clock.set(at(20))
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(5), "brief": 2.0, "long": 2.0}]))
    assert redis.get(f"feature:brief:v1:{server.tagged('u')}") is None
    assert redis.get(f"feature:long:v1:{server.tagged('u')}") == b"2.0"


def test_writing_again_changes_nothing(server: Deployment, redis: Redis) -> None:
    of = group()
    rows = frame(of, [{"user_id": f"u{n}", "event_timestamp": at(n), "clicks": n / 7} for n in range(50)])
    with OnlineStore.connect(server.url, FixedClock(at(100))) as store:
        first = store.write(of, rows)
        before = {key: redis.get(key) for key in redis.scan_iter()}
        assert store.write(of, rows) == first
        assert {key: redis.get(key) for key in redis.scan_iter()} == before


@pytest.mark.parametrize("seed", range(2))
def test_racing_writers_never_leave_an_older_value(
    server: Deployment, redis: Redis, seed: int, layout: LayoutName
) -> None:
    of = group({"clicks": (INT, DAY), "twin": (INT, DAY)}, layout=layout)
    entities, versions = [f"u{n}" for n in range(60)], 30
    rows = [
        {"user_id": entity, "event_timestamp": at(second), "clicks": second, "twin": second}
        for entity in entities
        for second in range(versions)
    ]
    random.Random(seed).shuffle(rows)
    batches = [frame(of, rows[start : start + 90]) for start in range(0, len(rows), 90)]

    def write(part: int) -> None:
        with OnlineStore.connect(server.url, FixedClock(at(100))) as store:
            for batch in batches[part::4]:
                store.write(of, batch)

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    with OnlineStore.connect(server.url, FixedClock(at(100))) as store:
        answers = store.read(entities, catalog(of).select(["activity"]), catalog(of))
    assert answers == [{"clicks": versions - 1, "twin": versions - 1}] * len(entities)


def test_a_reader_never_sees_a_mixture_of_two_rows(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    of = group({f"f{n}": (INT, DAY + n % 3) for n in range(12)}, layout=layout)
    selected = catalog(of).select(["activity"])
    done = threading.Event()

    def write() -> None:
        with OnlineStore.connect(server.url, FixedClock(at(1000))) as store:
            for second in range(60):
                row = {"user_id": "u", "event_timestamp": at(second)} | {f"f{n}": second for n in range(12)}
                store.write(of, frame(of, [row]))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    with OnlineStore.connect(server.url, FixedClock(at(1000))) as store:
        while not done.is_set() or not seen:
            values = set(store.read(["u"], selected, catalog(of))[0].values())
            assert len(values) == 1
            seen += [value for value in values if value is not None]
    writer.join()
    assert seen == sorted(seen)


@pytest.mark.parametrize("micros", [0, 1, 999])
def test_keys_expire_on_the_server_not_before_event_plus_ttl(server: Deployment, redis: Redis, micros: int) -> None:
    now = SystemClock().now().replace(microsecond=5_000 + micros)
    of = group({"brief": (FLOAT, 60), "long": (FLOAT, 600)})
    with OnlineStore.connect(server.url, LiveClock(now)) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": now, "brief": 1.0, "long": None}]))
    started = int((now - timedelta(microseconds=micros)).timestamp()) * 1000 + 5 + (micros > 0)
    deadlines = {"feature:brief:v1": 60, "feature:long:v1": 600, "feature_stamp:activity": 600}
    assert {name: redis.pexpiretime(f"{name}:{server.tagged('u')}") for name in deadlines} == {
        name: started + ttl * 1000 for name, ttl in deadlines.items()
    }


def test_a_replay_keeps_what_the_wall_clock_would_drop(server: Deployment, redis: Redis) -> None:
    wall = SystemClock().now()
    of = group({"over": (FLOAT, 60), "ahead": (FLOAT, 600)})
    replayed = wall - timedelta(seconds=120)
    with OnlineStore.connect(server.url, FixedClock(replayed)) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": replayed, "over": 1.0, "ahead": 2.0}]))
        assert store.read(["u"], catalog(of).select(["activity"]), catalog(of)) == [{"over": 1.0, "ahead": 2.0}]
    assert redis.ttl(f"feature:over:v1:{server.tagged('u')}") == -1
    assert 0 < redis.ttl(f"feature:ahead:v1:{server.tagged('u')}") <= 480


def test_progress_adds_up_to_all_rows(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    of = group(layout=layout)
    rows = [{"user_id": f"u{n % 5000}", "event_timestamp": at(n), "clicks": 1.0} for n in range(9000)]
    heard: list[int] = []
    with OnlineStore.connect(server.url, FixedClock(at(5500))) as store:
        report = store.write(of, frame(of, rows), progress=heard.append)
    assert sum(heard) == report.rows == 9000
    assert len(heard) > 2
    # Of the last five minutes all 300 rows are sent, and the row before them of each of their entities.
    assert (report.written, report.superseded, report.pending) == (5300, 201, 3499)
