"""The clock of ingestion times: later than all before, whatever the clocks of the writers' machines say."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from feature_store.clock import FixedClock
from feature_store.online.ingestion_clock import UNDER_WAY_SECONDS, IngestionClock
from feature_store.online.keys import KeySpace
from feature_store.online.store import OnlineStore
from tests.online.deployments import Deployment
from tests.online.groups import at

GROUP = "activity"
WRITERS = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# Microseconds apart, so that clocks meet, and decades apart.
MOMENTS = st.integers(-3, 3).map(lambda micros: at(micros=micros)) | st.integers(0, 10**9).map(
    lambda seconds: EPOCH + timedelta(seconds=seconds)
)
CLAIMS = st.lists(st.tuples(st.integers(0, WRITERS - 1), MOMENTS, st.none() | MOMENTS, st.booleans()), max_size=12)


@dataclass
class Machines:
    """Writers on machines of which each has a clock of its own."""

    url: str
    clocks: list[FixedClock] = field(default_factory=lambda: [FixedClock(at(0)) for _ in range(WRITERS)])

    def connect(self, stack: ExitStack) -> list[IngestionClock]:
        return [stack.enter_context(OnlineStore.connect(self.url, clock)).ingestion for clock in self.clocks]


@pytest.fixture
def machines(server: Deployment) -> Machines:
    return Machines(server.url)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claims=CLAIMS)
def test_a_claim_is_later_than_all_before(
    redis: Redis, machines: Machines, claims: list[tuple[int, datetime, datetime | None, bool]]
) -> None:
    redis.flushall()
    last: datetime | None = None
    with ExitStack() as stack:
        writers = machines.connect(stack)
        assert writers[0].state(GROUP).last is None
        for writer, now, at_least, is_streamer in claims:
            machines.clocks[writer].set(now)
            name = str(writer) if is_streamer else ""
            given_time = writers[writer].claim(GROUP, streamer=name, at_least=at_least)
            soonest = max(now, at_least or now, now if last is None else last + MICROSECOND)
            # Times of streamers are odd, those of others even.
            assert given_time.microsecond % 2 == is_streamer
            assert given_time - soonest in {timedelta(0), MICROSECOND}
            last = given_time
            assert writers[-1].state(GROUP).last == last
        assert writers[0].state("another").last is None


def test_claims_of_many_writers_at_once_are_all_different(redis: Redis, machines: Machines) -> None:
    with ExitStack() as stack:
        writers = machines.connect(stack)
        for number, clock in enumerate(machines.clocks):
            clock.set(at(number))

        def claim(writer: IngestionClock) -> list[datetime]:
            return [writer.claim(GROUP) for _ in range(200)]

        with ThreadPoolExecutor(WRITERS) as pool:
            given_times = list(pool.map(claim, writers))
    for own in given_times:
        assert own == sorted(own)
    assert len({each for own in given_times for each in own}) == WRITERS * 200


class Streams:
    """Streamers, another writer and a drainer, and what of the rows of streams is where."""

    def __init__(self, clock: IngestionClock) -> None:
        self.clock = clock
        self.under_way: dict[str, datetime] = {}
        self.in_topic: set[datetime] = set()
        self.drained: set[datetime] = set()

    def claim(self, name: str) -> None:
        # A streamer that claims again has died before it committed: its claim before leads to no rows.
        self.under_way[name] = self.clock.claim(GROUP, streamer=name)

    def commit(self, name: str) -> None:
        if name in self.under_way:
            self.in_topic.add(self.under_way.pop(name))
            self.clock.committed(GROUP, name)

    def write(self, _: str) -> None:
        self.clock.claim(GROUP)

    def drain(self, _: str = "") -> None:
        mark = self.clock.drain_mark(GROUP)
        if mark is not None:
            self.clock.drained(GROUP, mark)
            self.drained |= self.in_topic


VERBS = [Streams.claim, Streams.commit, Streams.write, Streams.drain]
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.sampled_from(["one", "two"])), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_is_drained_was_in_the_topic_when_the_drain_began(
    redis: Redis, machines: Machines, steps: list[tuple[Callable[[Streams, str], None], str]]
) -> None:
    """Each row of a stream is told apart: the offline store has it, or may not have it."""
    redis.flushall()
    with ExitStack() as stack:
        streams = Streams(machines.connect(stack)[0])
        for verb, name in steps:
            verb(streams, name)
            state = streams.clock.state(GROUP)
            may_be_nowhere = (streams.in_topic | {*streams.under_way.values()}) - streams.drained
            assert all(map(state.is_undrained, may_be_nowhere))
        streams.drain()
        state = streams.clock.state(GROUP)
        assert streams.under_way or not any(map(state.is_undrained, streams.in_topic))


def test_a_claim_that_is_never_committed_does_not_hold_up_the_drain_for_ever(redis: Redis, machines: Machines) -> None:
    with ExitStack() as stack:
        ingestion = machines.connect(stack)[0]
        lost = ingestion.claim(GROUP, streamer="dead")
        machines.clocks[0].set(at(1))
        later = ingestion.claim(GROUP, streamer="alive")
        ingestion.committed(GROUP, "alive")
        mark = ingestion.drain_mark(GROUP)
        assert mark is not None
        assert mark < lost < later
        # By the server's own clock, for those of the machines may be far apart.
        redis.hincrby(KeySpace.clock(GROUP), "at:dead", -UNDER_WAY_SECONDS)
        last = ingestion.claim(GROUP)
        assert ingestion.drain_mark(GROUP) == last
