"""Rows of a stream in the online store not yet drained: taken back, ahead of the clock, left alone by repairs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_store.changes.streaming_rows import DrainedRows, StreamedRows
from feature_store.clock import FixedClock, SystemClock
from feature_store.definitions.group import FeatureGroup
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.stream_files import StreamFiles
from feature_store.store import FeatureStore
from tests.changes.histories import TOPIC, TTL, Killed, killed_before, things
from tests.online.groups import LAYOUTS
from tests.orders import Orders

pytestmark = pytest.mark.slow

TEN = datetime(2024, 3, 9, 10, tzinfo=UTC)
NOON = TEN + timedelta(hours=2)
Rows = Mapping[tuple[str, datetime], int | None]


class Stream:
    """A streamer and a drainer without a broker between them."""

    def __init__(self, store: FeatureStore, group: FeatureGroup) -> None:
        self.store = store
        self.group = group
        self.topic: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        self.known: dict[tuple[str, datetime], int | None] = {}
        self.drained = 0
        registered = store.registered(group)
        self.online = StreamedRows(registered, store.offline, store.online, store.clock)
        self.notes = DrainedRows(registered, store.offline, store.online, store.clock)
        self.files = StreamFiles(store.offline, registered)

    def send(self, rows: Rows, gone: set[tuple[str, datetime]] = frozenset()) -> None:  # type: ignore[assignment]
        """Gives rows and takes rows back, in one micro-batch."""
        at = self.online.claim("one", self.store.clock.now())
        self.known = {each: value for each, value in {**self.known, **rows}.items() if each not in gone}
        entities = {user for user, _ in gone}
        standing = stamped({each: value for each, value in self.known.items() if each[0] in entities}, at)
        given, taken = stamped(rows, at), stamped(dict.fromkeys(gone), at).drop("value")
        self.topic.append((given, taken))
        self.online.committed("one")
        self.online.deliver(given, taken, standing)

    def drain(self) -> None:
        """Brings all that was sent into the offline store."""
        self.notes.begin()
        for offset, (rows, gone) in enumerate(self.topic[self.drained :], self.drained):
            if rows.height:
                self.files.write(TOPIC, 0, offset, offset, rows)
                self.notes.write(rows)
            if gone.height:
                self.files.remove(gone)
                self.notes.withdraw(gone)
        self.drained = len(self.topic)
        self.notes.end()

    def served(self, user: str = "u") -> int | None:
        return self.store.get_online_features(user, ["value"])["value"]

    def trained(self, user: str = "u") -> int | None:
        return self.store.get_offline_features([user], ["value"], [self.store.clock.now()])["value"].item()


def table(rows: Rows) -> pl.DataFrame:
    columns = {"user_id": pl.String, "event_timestamp": TIMESTAMP_TYPE, "value": pl.Int64}
    return pl.DataFrame([(*each, value) for each, value in rows.items()], columns, orient="row")


def stamped(rows: Rows, at: datetime) -> pl.DataFrame:
    return table(rows).with_columns(pl.lit(at, TIMESTAMP_TYPE).alias("ingested_at"))


@pytest.fixture(params=LAYOUTS)
def group(request: pytest.FixtureRequest) -> FeatureGroup:
    return things(request.param)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def stream(store: FeatureStore, group: FeatureGroup) -> Stream:
    store.apply([group])
    return Stream(store, group)


def test_a_row_that_is_taken_back_leaves_the_row_before_at_once(stream: Stream) -> None:
    stream.send({("u", TEN): 1, ("u", TEN + timedelta(minutes=50)): 2})
    assert stream.served() == 2
    stream.send({}, gone={("u", TEN + timedelta(minutes=50))})
    assert stream.served() == 1
    stream.drain()
    assert (stream.served(), stream.trained()) == (1, 1)


def test_the_row_before_may_be_one_that_the_stream_has_never_seen(stream: Stream) -> None:
    stream.store.ingest(stream.group, table({("u", TEN): 5}))
    stream.send({("u", TEN + timedelta(minutes=50)): 2})
    stream.drain()
    stream.send({}, gone={("u", TEN + timedelta(minutes=50))})
    assert stream.served() == 5
    stream.drain()
    assert (stream.served(), stream.trained()) == (5, 5)


def test_the_only_row_that_is_taken_back_leaves_nothing(stream: Stream) -> None:
    stream.send({("u", TEN): 1})
    stream.send({}, gone={("u", TEN)})
    assert stream.served() is None
    stream.drain()
    assert (stream.served(), stream.trained()) == (None, None)


def test_a_row_before_that_is_over_leaves_nothing(stream: Stream) -> None:
    stream.send({("u", NOON - TTL): 1, ("u", TEN): 2})
    stream.send({}, gone={("u", TEN)})
    assert stream.served() is None


def test_a_row_ahead_that_is_taken_back_never_stands(stream: Stream, clock: FixedClock) -> None:
    ahead = NOON + timedelta(seconds=30)
    stream.send({("u", TEN): 1, ("u", ahead): 2})
    stream.send({}, gone={("u", ahead)})
    clock.set(ahead)
    assert stream.served() == 1


def test_a_row_that_is_taken_back_and_given_again_stands(stream: Stream) -> None:
    stream.send({("u", TEN): 1})
    stream.send({}, gone={("u", TEN)})
    stream.send({("u", TEN): 3})
    assert stream.served() == 3
    stream.drain()
    assert (stream.served(), stream.trained()) == (3, 3)


def test_a_repair_leaves_rows_that_are_not_drained(stream: Stream, clock: FixedClock) -> None:
    stream.send({("u", TEN): 1})
    stream.drain()
    clock.set(NOON + timedelta(minutes=20))
    stream.send({("u", NOON): 2, ("new", NOON): 3})
    clock.set(NOON + timedelta(hours=1))
    assert stream.store.check_consistency(stream.group.name, entity_ids=["u", "new"]).passed
    report = stream.store.repair_online(stream.group.name)
    assert (report.removed, report.in_flight) == (0, 2)
    assert (stream.served("u"), stream.served("new")) == (2, 3)
    stream.drain()
    report = stream.store.repair_online(stream.group.name)
    assert (report.removed, report.in_flight) == (0, 0)
    assert (stream.served("u"), stream.served("new")) == (2, 3)


def test_a_repair_leaves_rows_of_streams_that_wait_for_their_time(stream: Stream, clock: FixedClock) -> None:
    stream.send({("u", NOON + timedelta(seconds=30)): 2})
    stream.store.repair_online(stream.group.name)
    clock.set(NOON + timedelta(seconds=30))
    assert stream.served() == 2


@pytest.mark.parametrize("before", [{}, {("u", TEN): 5}], ids=["alone", "with a row before"])
def test_a_retraction_that_is_not_drained_is_no_fault(stream: Stream, before: Rows) -> None:
    last = TEN + timedelta(minutes=50)
    if before:
        # The stream has never seen it.
        stream.store.ingest(stream.group, table(before))
    stream.send({("u", last): 2})
    stream.drain()
    stream.send({}, gone={("u", last)})
    right = before.get(("u", TEN))
    report = stream.store.check_consistency(stream.group.name, entity_ids=["u"])
    assert report.passed, report.offenders
    assert (report.in_flight, report.entities) == (1, 0)
    # Nor has the online store lost anything.
    assert stream.store.sample_online(stream.group).lost == 0
    stream.store.repair_online(stream.group.name)
    assert stream.served() == right
    stream.drain()
    report = stream.store.check_consistency(stream.group.name, entity_ids=["u"])
    assert (report.passed, report.in_flight, report.entities) == (True, 0, 1)
    assert (stream.served(), stream.trained()) == (right, right)


def test_faults_beside_a_stream_are_still_seen_and_repaired(stream: Stream, clock: FixedClock) -> None:
    """Of a streamed group, rows that are drained are judged as ever."""
    stream.send({("u", TEN): 1, ("v", TEN): 1})
    stream.drain()
    stream.send({("v", NOON): 2})
    registered = stream.store.registered(stream.group)
    stream.store.online.withdraw(registered, stamped({("u", TEN): None}, NOON + timedelta(days=1)), stamped({}, NOON))
    report = stream.store.check_consistency(stream.group.name, entity_ids=["u", "v"])
    assert [(each.entity_id, each.fault) for each in report.offenders] == [("u", "missing")]
    stream.store.repair_online(stream.group.name)
    assert (stream.served("u"), stream.served("v")) == (1, 2)


@pytest.mark.parametrize("bring", ["push_online", "repair_online", "drain"])
def test_a_row_that_a_stream_took_back_never_comes_back(stream: Stream, bring: str) -> None:
    last = TEN + timedelta(minutes=50)
    stream.send({("u", TEN): 1, ("u", last): 2})
    stream.drain()
    stream.send({}, gone={("u", last)})
    work = {
        "push_online": lambda: stream.store.push_online(stream.group),
        "repair_online": lambda: stream.store.repair_online(stream.group.name),
        "drain": stream.drain,
    }
    for first in (bring, *work):
        work[first]()
        assert stream.served() == 1, first
    assert stream.trained() == 1


@pytest.mark.parametrize("by", ["ingest", "materialize"])
def test_a_row_that_others_give_again_outlives_the_retraction_before_it(stream: Stream, by: str) -> None:
    """Its content is that of the row which the offline store still holds: given again, it is a new row all the same."""
    row = {("u", TEN): 1}
    stream.send(row)
    stream.drain()
    stream.send({}, gone={("u", TEN)})
    assert stream.served() is None
    if by == "ingest":
        stream.store.ingest(stream.group, table(row))
    else:
        assert isinstance(stream.group.source, Orders)
        object.__setattr__(stream.group.source, "events", table(row))
        stream.store.materialize(stream.group, TEN.date(), TEN.date())
    assert (stream.served(), stream.trained()) == (1, 1)
    stream.drain()
    assert (stream.served(), stream.trained()) == (1, 1)


@pytest.mark.parametrize("bring", ["push_online", "repair_online", "drain"])
def test_a_row_that_a_batch_no_longer_has_never_comes_back(stream: Stream, bring: str) -> None:
    store, group = stream.store, stream.group
    last = TEN + timedelta(minutes=50)
    assert isinstance(group.source, Orders)
    for rows in ({("u", TEN): 1, ("u", last): 2}, {("u", TEN): 1}):
        object.__setattr__(group.source, "events", table(rows))
        store.materialize(group, TEN.date(), TEN.date())
    assert stream.served() == 1
    stream.send({("other", TEN): 4})
    work = {
        "push_online": lambda: store.push_online(group),
        "repair_online": lambda: store.repair_online(group.name),
        "drain": stream.drain,
    }
    for first in (bring, *work):
        work[first]()
        assert (stream.served(), stream.trained(), stream.served("other")) == (1, 1, 4), first


def test_a_row_that_a_batch_withdraws_is_not_drained_again(stream: Stream) -> None:
    """The stream's row before it stands in its place although it is in no file yet."""
    store, group = stream.store, stream.group
    last = TEN + timedelta(minutes=50)
    assert isinstance(group.source, Orders)
    object.__setattr__(group.source, "events", table({("u", last): 2}))
    store.materialize(group, TEN.date(), TEN.date())
    stream.send({("u", TEN): 1})
    object.__setattr__(group.source, "events", table({}))
    store.materialize(group, TEN.date(), TEN.date())
    assert stream.served() in {None, 1}
    stream.drain()
    assert (stream.served(), stream.trained()) == (1, 1)


def test_a_row_ahead_is_served_in_time(open_store, group: FeatureGroup) -> None:
    store = open_store(SystemClock())
    store.apply([group])
    stream = Stream(store, group)
    event = store.clock.now() + timedelta(seconds=2)
    stream.send({("u", event): 7})
    seen = None
    while seen is None and store.clock.now() < event + timedelta(seconds=30):
        asked = store.clock.now()
        seen = stream.served()
        assert seen is None or store.clock.now() >= event
        if seen is None:
            # A look once a second: who asks a second after the event's time finds the row.
            assert asked < event + timedelta(seconds=1.5), "the row is late"
    assert seen == 7


@pytest.mark.parametrize("effect", range(8, 12))
def test_what_waited_before_a_row_that_is_withdrawn_does_not_stand_again(
    stream: Stream, clock: FixedClock, effect: int
) -> None:
    ahead = {("u", NOON + timedelta(minutes=2)): 2}
    stream.store.ingest(stream.group, table({("u", TEN): 1}))
    stream.send(ahead)
    assert isinstance(stream.group.source, Orders)
    for rows in (ahead, {}):
        object.__setattr__(stream.group.source, "events", table(rows))
        if not rows:
            with suppress(Killed), killed_before(effect):
                stream.store.materialize(stream.group, NOON, NOON)
        stream.store.materialize(stream.group, NOON, NOON)
    clock.set(NOON + timedelta(minutes=3))
    assert (stream.served(), stream.trained()) == (1, 1)


def test_a_row_taken_back_and_given_again_stays_in_training_until_the_drain(stream: Stream) -> None:
    assert isinstance(stream.group.source, Orders)
    first, second = {("u", TEN): 1}, {("u", TEN + timedelta(hours=1)): 2}
    object.__setattr__(stream.group.source, "events", table({**first, **second}))
    stream.store.materialize(stream.group, NOON, NOON)
    stream.send({("u", TEN + timedelta(hours=1)): 2})
    stream.send({}, gone=set(second))
    stream.send({("u", TEN + timedelta(hours=1)): 3})
    stream.store.materialize(stream.group, NOON, NOON)
    assert (stream.served(), stream.trained()) == (3, 2)
    stream.drain()
    assert (stream.served(), stream.trained()) == (3, 3)
