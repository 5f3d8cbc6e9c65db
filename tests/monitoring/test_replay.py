"""Answers are judged by what was online when they were served: what was right is not called wrong, what was not is.

The clock is moved by hand, so each answer, write and change has its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from redis import Redis

from feature_store.clock import Clock, FixedClock, SystemClock
from feature_store.errors import OnlineStoreError
from feature_store.monitoring.request_log import RequestLog
from feature_store.online.store import OnlineStore
from feature_store.store import FeatureStore
from tests.store.scores import HOUR, MINUTE, NOON, SCHEMA, online, scores_group, some

OPEN = Callable[..., FeatureStore]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def opened(tmp_path: Path, redis_url: str, clock: FixedClock) -> Iterator[OPEN]:
    """Opens stores on one folder and one server; those with a log keep every request."""
    stores: list[FeatureStore] = []

    def open_one(url: str | OnlineStore = redis_url, at: Clock = clock, *, log: bool = False) -> FeatureStore:
        store = FeatureStore(
            tmp_path / "offline",
            url,
            f"sqlite:///{tmp_path / 'registry.db'}",
            at,
            request_log=RequestLog(tmp_path / "log", at, rate=1) if log else None,
        )
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened) -> FeatureStore:
    return opened(log=True)


@pytest.fixture
def redis(redis_url) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def serve_old(redis: Redis, customer: str, value: int) -> None:
    """Lets the online store answer another value, as a bug would."""
    redis.set(f"feature:score:v1:{customer}", str(value), keepttl=True)


def counts(store: FeatureStore) -> tuple[int, int, int]:
    report = store.replay_requests()
    return report.wrong, report.late, report.undrained


@pytest.mark.parametrize(("before", "after"), [(10, 1), (1, 10)])
def test_an_answer_is_judged_by_the_time_to_live_that_held(store, clock, before, after):
    store.apply([scores_group("feature", ttl=before * HOUR)])
    store.ingest(scores_group("feature", ttl=before * HOUR), some(("a", NOON - 5 * HOUR, 1)))
    served = online(store, "a")
    store.apply([scores_group("feature", ttl=after * HOUR)])
    clock.set(NOON + MINUTE)
    assert online(store, "a") != served or after > before
    assert counts(store)[0] == 0


def test_a_longer_time_to_live_shows_old_rows_when_they_have_been_brought_back(store, clock, redis):
    store.apply([scores_group("feature", ttl=HOUR)])
    group = scores_group("feature", ttl=10 * HOUR)
    store.ingest(scores_group("feature", ttl=HOUR), some(("a", NOON - 5 * HOUR, 1)))
    store.apply([group])
    clock.set(NOON + MINUTE)
    assert online(store, "a") == [None]
    assert counts(store) == (0, 1, 0)
    clock.set(NOON + 2 * MINUTE)
    store.push_online(group)
    clock.set(NOON + 3 * MINUTE)
    assert online(store, "a") == [1]
    assert counts(store) == (0, 1, 0)
    redis.delete("feature:score:v1:a")
    clock.set(NOON + 4 * MINUTE)
    assert online(store, "a") == [None]
    assert counts(store) == (1, 1, 0)


@pytest.mark.slow
def test_what_was_served_while_newer_rows_were_on_their_way_was_right(store, opened, clock, redis, redis_url):
    group = scores_group("feature")
    names = [f"c{number:03}" for number in range(400)]
    store.apply([group])
    store.ingest(group, some(*((name, NOON - HOUR, 1) for name in names)))
    slow = opened(OnlineStore.connect(redis_url, clock, max_rows_per_second=200))
    push = threading.Thread(target=lambda: slow.ingest(group, some(*((name, NOON, 2) for name in names))))
    push.start()
    while redis.get("feature:score:v1:c000") != b"2":
        time.sleep(0.01)
    clock.set(NOON + HOUR)
    assert set(online(store, *names[-100:])) == {1}
    assert counts(store) == (0, 100, 0)
    push.join()
    assert counts(store) == (0, 100, 0)
    clock.set(NOON + 2 * HOUR)
    assert set(online(store, *names)) == {2}
    serve_old(redis, "c399", 1)
    clock.set(NOON + 3 * HOUR)
    assert online(store, "c399") == [1]
    assert counts(store) == (1, 100, 0)


@pytest.mark.slow
def test_what_a_failed_write_has_left_is_on_its_way_until_it_is_done(store, opened, clock, redis, tmp_path):
    group = scores_group("feature")
    store.apply([group])
    store.ingest(group, some(("a", NOON - HOUR, 1)))
    with pytest.raises(OnlineStoreError):
        opened(f"unix://{tmp_path / 'nothing'}").ingest(group, some(("a", NOON, 2)))
    clock.set(NOON + HOUR)
    assert online(store, "a") == [1]
    assert counts(store) == (0, 1, 0)
    clock.set(NOON + 2 * HOUR)
    store.repair_online("scores")
    clock.set(NOON + 3 * HOUR)
    assert online(store, "a") == [2]
    assert counts(store) == (0, 1, 0)
    serve_old(redis, "a", 1)
    clock.set(NOON + 4 * HOUR)
    assert online(store, "a") == [1]
    assert counts(store) == (1, 1, 0)


def test_what_was_corrected_and_withdrawn_later_was_right(store, clock, redis):
    group = scores_group("feature")
    store.apply([group])
    group.source.events = some(("a", NOON - 13 * HOUR, 1), ("a", NOON - 14 * HOUR, 5), ("b", NOON - 14 * HOUR, 1))
    store.materialize(group, "2024-03-08")
    assert online(store, "a", "b") == [1, 1]
    clock.set(NOON + HOUR)
    group.source.events = some(("a", NOON - 14 * HOUR, 5), ("b", NOON - 14 * HOUR, 2))
    store.materialize(group, "2024-03-08")
    clock.set(NOON + 2 * HOUR)
    assert online(store, "a", "b") == [5, 2]
    assert counts(store) == (0, 2, 0)
    serve_old(redis, "a", 1)
    serve_old(redis, "b", 1)
    clock.set(NOON + 3 * HOUR)
    assert online(store, "a", "b") == [1, 1]
    assert counts(store) == (2, 2, 0)


def test_rows_of_a_stream_are_judged_when_they_are_drained(store, clock):
    group = scores_group("feature")
    store.apply([group])
    store.ingest(group, some(("a", NOON - HOUR, 1)))
    clock.set(NOON + MINUTE)
    ingested = store.online.ingestion.claim("scores", streamer="s")
    streamed = some(("a", NOON, 2)).with_columns(ingested_at=pl.lit(ingested, dtype=SCHEMA["event_timestamp"]))
    store.online.write(store.registered(group), streamed)
    store.online.ingestion.committed("scores", "s")
    clock.set(NOON + 2 * MINUTE)
    assert online(store, "a") == [2]
    assert counts(store) == (0, 0, 1)
    clock.set(NOON + 3 * MINUTE)
    # Another claim, so that the mark is later than the answer; nothing of it is ever drained into a file.
    store.online.ingestion.claim("scores", streamer="s")
    store.online.ingestion.committed("scores", "s")
    mark = store.online.ingestion.drain_mark("scores")
    assert mark is not None
    store.online.ingestion.drained("scores", mark)
    assert counts(store) == (1, 0, 0)


@pytest.mark.parametrize("layout", ["feature", "row"])
def test_a_row_ahead_of_the_clock_may_be_served_a_moment_late(opened, layout):
    clock = SystemClock()
    store = opened(at=clock, log=True)
    group = scores_group(layout)
    store.apply([group])
    now = clock.now()
    store.ingest(group, some(("a", now - HOUR, 1)))
    store.ingest(group, some(("a", now + timedelta(seconds=1), 2)))
    until = time.monotonic() + 20
    while online(store, "a") != [2]:
        assert time.monotonic() < until
        time.sleep(0.05)
    report = store.replay_requests()
    assert report.wrong == 0
    assert report.values > 1


@pytest.mark.parametrize(
    ("break_it", "answer"),
    [
        (lambda redis: redis.delete("feature:score:v1:a"), None),
        (lambda redis: serve_old(redis, "a", 1), 1),
        (lambda redis: serve_old(redis, "a", 7), 7),
    ],
    ids=["lost", "old", "foreign"],
)
def test_a_wrong_answer_is_found(store, clock, redis, break_it, answer):
    group = scores_group("feature")
    store.apply([group])
    store.ingest(group, some(("a", NOON - HOUR, 1)))
    clock.set(NOON + MINUTE)
    store.ingest(group, some(("a", NOON, 2)))
    clock.set(NOON + 2 * MINUTE)
    break_it(redis)
    assert online(store, "a") == [answer]
    report = store.replay_requests()
    assert (report.wrong, report.late) == (1, 0)
    (found,) = report.deviations
    assert (found.served, found.replayed, found.kind) == (answer, 2, "wrong")


def test_more_answers_than_a_handful_are_judged_one_by_one(store, clock, redis):
    """Late data for many, and one wrong answer among them."""
    group = scores_group("feature")
    names = [f"c{number:03}" for number in range(300)]
    store.apply([group])
    store.ingest(group, some(*((name, NOON - 2 * HOUR, 1) for name in names)))
    serve_old(redis, "c123", 9)
    online(store, *names[:100])
    online(store, *names[100:200])
    online(store, *names[200:])
    clock.set(NOON + HOUR)
    store.ingest(group, some(*((name, NOON - HOUR, 2) for name in names)))
    report = store.replay_requests()
    assert (report.values, report.wrong, report.late) == (300, 1, 299)
    assert report.deviations[0].entity_id == "c123"


def test_a_log_that_does_not_say_the_time_to_live_is_left_out(store, tmp_path):
    store.apply([scores_group("feature")])
    online(store, "a")
    store.request_log.flush()
    (file,) = (tmp_path / "log").glob("*.parquet")
    pl.read_parquet(file).drop("ttl_seconds").write_parquet(file)
    online(store, "a")
    report = store.replay_requests()
    assert (report.values, report.skipped) == (1, 1)
    assert report.first == datetime(2024, 3, 9, 12, tzinfo=UTC)
