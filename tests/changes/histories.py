"""Random histories of all writers, and after each step both stores against a model that knows the last content only.

By hand: `python -m tests.changes.histories --count 2000 --steps 30`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from feature_store import Entity, FeatureSchema, FeatureStore, FeatureStoreError, FixedClock, feature, feature_group
from feature_store.changes.settling import Settler
from feature_store.changes.streaming_rows import DrainedRows, StreamedRows
from feature_store.definitions.group import FeatureGroup
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.stream_files import StreamFiles
from feature_store.online.client import Client
from feature_store.online.pending import RECENT
from feature_store.online.script_session import ScriptSession
from tests.orders import Orders

USER = Entity("user", {"user_id": str})
USERS = ("ann", "bob", "cy")
TTL = timedelta(hours=30)
DAY = datetime(2024, 3, 5, tzinfo=UTC)
MOST_BACK = timedelta(minutes=4)
TOPIC = "features.things"
Identity = tuple[str, datetime]
ROWS = {"user_id": pl.String, "event_timestamp": TIMESTAMP_TYPE, "value": pl.Int64}


class Killed(BaseException):
    """What a process does not survive."""


class Things(FeatureSchema):
    value: int = feature("A value")


def things(layout: str) -> FeatureGroup:
    """Returns the group that all writers write."""
    source = Orders(events=pl.DataFrame(schema=ROWS))

    @feature_group(
        entity=USER,
        source=source,
        schema=Things,
        owner="team@example.com",
        ttl=TTL,
        name=f"things_{layout}",
        online_layout=layout,
    )
    def given(events: pl.LazyFrame) -> pl.LazyFrame:
        """The rows as they are."""
        return events

    return given


class Model:
    """The last content that was given for each entity and event time, and of it what the offline store can know."""

    def __init__(self) -> None:
        self.online: dict[Identity, int | None] = {}
        self.offline: dict[Identity, int | None] = {}
        self.undrained: dict[Identity, int | None] = {}
        self.of_batch: set[Identity] = set()
        self.withdrawn: set[Identity] = set()

    def take_back(self, identities: Iterable[Identity]) -> None:
        """A writer has been told what the stream has taken back of what it writes."""
        for identity in identities:
            if self.undrained.get(identity) is GONE:
                del self.undrained[identity]
                self.offline.pop(identity, None)
                self.of_batch.discard(identity)

    def give(self, rows: dict[Identity, int | None]) -> None:
        self.take_back(rows)
        for identity, value in rows.items():
            if identity not in self.offline or self.offline[identity] != value:
                self.offline[identity] = self.online[identity] = value
                self.undrained.pop(identity, None)
                self.of_batch.discard(identity)

    def batch(self, day: datetime, rows: dict[Identity, int | None]) -> set[Identity]:
        self.take_back([each for each in self.undrained if each[1].date() == day.date()])
        gone = {each for each in self.of_batch if each[1].date() == day.date()} - rows.keys()
        self.give(rows)
        for identity in gone:
            for content in (self.offline, self.online, self.undrained):
                content.pop(identity, None)
        self.withdrawn |= gone
        self.of_batch = (self.of_batch - gone) | rows.keys()
        return gone

    def stream(self, rows: dict[Identity, int | None], gone: set[Identity]) -> None:
        self.online |= rows
        self.undrained |= rows
        for identity in gone:
            self.online.pop(identity, None)
            self.undrained[identity] = GONE

    def drain(self) -> None:
        for identity, value in self.undrained.items():
            if value is GONE:
                self.offline.pop(identity, None)
                self.of_batch.discard(identity)
            elif identity not in self.offline or self.offline[identity] != value:
                self.offline[identity] = value
                self.of_batch.discard(identity)
        self.undrained = {}

    @staticmethod
    def visible(content: dict[Identity, int | None], user: str, now: datetime) -> int | None:
        events = [event for each, event in content if each == user and event <= now < event + TTL]
        return content[user, max(events)] if events else None


GONE: Any = object()


@dataclass
class Message:
    """What a streamer has put into the topic in one transaction."""

    ingested_at: datetime
    rows: pl.DataFrame
    gone: pl.DataFrame
    standing: pl.DataFrame


@dataclass
class Stream:
    """A topic, and what the streamer knows."""

    topic: list[Message] = field(default_factory=list)
    known: dict[Identity, int | None] = field(default_factory=dict)
    drained: int = 0


class History:
    """One history.

    Args:
        store: The store, with the group applied.
        group: The group.
        clock: The store's.
        seed: Chooses the steps.
    """

    def __init__(self, store: FeatureStore, group: FeatureGroup, clock: FixedClock, seed: int) -> None:
        self.store = store
        self.group = group
        self.clock = clock
        self.chance = random.Random(seed)
        self.model = Model()
        self.streamed = Stream()
        self.latest = clock.now()
        self.shadowed: set[str] = set()
        self.log: list[str] = []

    def run(self, steps: int) -> None:
        """Takes steps, and compares both stores with the model after each.

        Raises:
            AssertionError: If one of them answers something else; the message has the history.
        """
        verbs: list[tuple[int, Callable[[], None]]] = [
            (5, self.ingest),
            (5, self.materialize),
            (5, self.stream),
            (3, self.drain),
            (1, self.compact),
            (1, self.repair),
            (4, self.step),
            (1, self.refill),
        ]
        weights = [weight for weight, _ in verbs]
        for _ in range(steps):
            [(_, verb)] = self.chance.choices(verbs, weights)
            verb()
            self.compare()

    # What is written: few entities, few times, few values, so that rows meet.

    def events(self) -> list[datetime]:
        now = self.clock.now()
        near = [now, *(now - timedelta(seconds=seconds) for seconds in (1, 40, 200)), now + timedelta(minutes=2)]
        fixed = [DAY + timedelta(hours=hour) for hour in (1, 9, 23, 25, 33)]
        return [event for event in (*fixed, *near) if event <= now + timedelta(minutes=5)]

    def rows(self, most: int, events: list[datetime] | None = None) -> dict[Identity, int | None]:
        events = self.events() if events is None else events
        if not events:
            return {}
        known = [each for each in self.model.online if each[1] in events or events == self.events()]
        rows: dict[Identity, int | None] = {}
        for _ in range(self.chance.randint(1, most)):
            fresh = (self.chance.choice(USERS), self.chance.choice(events))
            identity = self.chance.choice(known) if known and self.chance.random() < 0.4 else fresh
            if identity[1] <= self.clock.now() + timedelta(minutes=5):
                rows[identity] = self.chance.choice([1, 2, None])
        return rows

    # The writers.

    def ingest(self) -> None:
        rows = self.rows(3)
        frame = _frame(rows)
        self.log.append(f"ingest {_shown(rows)}")
        if self._dies(lambda: self.store.ingest(self.group, frame)):
            taken_back = any(self.model.undrained.get(each) is GONE for each in rows)
            if self.chance.random() < 0.4 and not taken_back:
                self.log.append("  it dies, and nobody runs it again")
                self.model.give(self._given(rows))
                return
            self.log.append("  it dies, and is run again")
            self.store.ingest(self.group, frame)
        self.model.give(rows)

    def _given(self, rows: dict[Identity, int | None]) -> dict[Identity, int | None]:
        """Returns those of some rows that got into the store; what is left to be done of them online is done."""
        registered = self.store.registered(self.group)
        Settler(registered, self.store.offline, self.store.online, self.clock).left_behind()
        stored = self.store.offline.scan(registered).collect().sort("ingested_at")
        held = {(user, event): value for user, event, value in stored.select(list(ROWS)).iter_rows()}
        return {each: value for each, value in rows.items() if each in held and held[each] == value}

    def materialize(self) -> None:
        now = self.clock.now()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        day = self.chance.choice([day for day in (DAY, DAY + timedelta(days=1), today) if day <= now])
        inside = [event for event in self.events() if event.date() == day.date()]
        written = sorted(each for each in self.model.of_batch if each[1].date() == day.date())
        before = {each: self.model.offline[each] for each in written}
        kept = {each: value for each, value in before.items() if self.chance.random() < 0.7}
        rows = {**kept, **({} if self.chance.random() < 0.3 else self.rows(3, inside))}
        rows = {
            each: v
            for each, v in rows.items()
            if each[1].date() == day.date() and each[1] <= now + timedelta(minutes=5)
        }
        assert isinstance(self.group.source, Orders)
        object.__setattr__(self.group.source, "events", _frame(rows))

        def told() -> None:
            waiting = {user for user, _ in self.model.undrained}
            self.shadowed |= {user for user, _ in self.model.batch(day, rows)} & waiting

        self._written(
            f"materialize {day.date()} {_shown(rows)}", lambda: self.store.materialize(self.group, day, day), told
        )

    def stream(self) -> None:
        rows = self.rows(2)
        gone = {each for each in self.streamed.known if self.chance.random() < 0.15 and each not in rows}
        self.log.append(f"stream {_shown(rows)} gone {[(u, str(e)) for u, e in gone]}")
        registered = self.store.registered(self.group)
        delivery = StreamedRows(registered, self.store.offline, self.store.online, self.clock)
        if self._dies(lambda: delivery.claim("one", self.clock.now())):
            self.log.append("  the streamer dies before its transaction")
        stamp = delivery.claim("one", self.clock.now())
        known = {each: v for each, v in {**self.streamed.known, **rows}.items() if each not in gone}
        taken = {user for user, _ in gone}
        left = {each: value for each, value in known.items() if each[0] in taken}
        message = Message(
            stamp, _stamped(_frame(rows), stamp), _stamped(_keys(gone), stamp), _stamped(_frame(left), stamp)
        )
        for each in self._near(left):
            if self.model.offline.get(each, left[each]) != left[each] or each in self.model.withdrawn:
                # Others gave or withdrew a row that is seen again, too: which came later the drain settles.
                self.shadowed.add(each[0])
        self.streamed.topic.append(message)
        self.streamed.known = known
        self.model.stream(rows, gone)

        def deliver() -> None:
            delivery.committed("one")
            delivery.deliver(message.rows, message.gone, message.standing)

        if self._dies(deliver):
            self.log.append("  the streamer dies, and a successor delivers again")
            deliver()

    def _near(self, rows: Iterable[Identity]) -> set[Identity]:
        """Returns those of some rows that a reader sees now, or one whose clock stands a little behind."""
        recent = self.clock.now() - RECENT
        young = {each for each in rows if each[1] > recent}
        settled = dict(sorted(each for each in rows if each[1] <= recent))
        return young | set(settled.items())

    def drain(self) -> None:
        self.log.append("drain")

        def carry() -> None:
            registered = self.store.registered(self.group)
            notes = DrainedRows(registered, self.store.offline, self.store.online, self.clock)
            files = StreamFiles(self.store.offline, registered)
            notes.begin()
            first, last = self.streamed.drained, len(self.streamed.topic) - 1
            if first <= last:
                messages = self.streamed.topic[first:]
                identity = ["user_id", "event_timestamp"]
                rows = pl.concat([message.rows for message in messages]).sort("ingested_at", maintain_order=True)
                rows = rows.unique(identity, keep="last", maintain_order=True)
                gone = pl.concat([message.gone for message in messages]).sort("ingested_at")
                gone = gone.unique(identity, keep="last", maintain_order=True)
                if rows.height:
                    files.write(TOPIC, 0, first, last, rows, gone)
                    notes.write(rows)
                if gone.height:
                    files.remove(gone)
                    notes.withdraw(gone)
            notes.end()

        if self._dies(carry):
            self.log.append("  the drainer dies, and drains again")
            carry()
        self.streamed.drained = len(self.streamed.topic)
        self.model.drain()
        self.shadowed = set()

    # What keeps the stores.

    def compact(self) -> None:
        self.log.append("compact")
        if self._dies(lambda: self.store.compact(self.group)):
            self.store.compact(self.group)

    def repair(self) -> None:
        self.log.append("repair")
        if self._dies(lambda: self.store.repair_online(self.group.name)):
            self.store.repair_online(self.group.name)

    def refill(self) -> None:
        self.log.append("push_online")
        self.store.push_online(self.group)

    def step(self) -> None:
        """The clock goes on, or stands a little behind where it stood: another machine's."""
        if self.chance.random() < 0.4:
            to = self.latest - timedelta(microseconds=self.chance.randint(0, MOST_BACK // timedelta(microseconds=1)))
        else:
            to = self.latest + self.chance.choice(
                [timedelta(microseconds=1), timedelta(seconds=30), timedelta(minutes=2), timedelta(hours=7)]
            )
        self.latest = max(self.latest, to)
        self.clock.set(to)
        self.log.append(f"clock {to}")

    # How it ends.

    def _written(self, what: str, write: Callable[[], object], told: Callable[[], None]) -> None:
        self.log.append(what)
        if self._dies(write):
            self.log.append("  it dies, and is run again")
            write()
        told()

    def _dies(self, work: Callable[[], object]) -> bool:
        """Does some work, killing it now and then before one of its effects; tells whether it died."""
        if self.chance.random() < 0.75:
            work()
            return False
        try:
            with killed_before(self.chance.randint(1, 12)):
                work()
        except Killed:
            return True
        return False

    def compare(self) -> None:
        """Compares both stores with the model.

        Raises:
            AssertionError: If they differ.
        """
        now = self.clock.now()
        online = [row["value"] for row in self.store.get_online_features_batch(USERS, ["value"])]
        offline = self.store.get_offline_features(USERS, ["value"], [now] * len(USERS))["value"].to_list()
        for user, served, trained in zip(USERS, online, offline, strict=True):
            assert trained == self.model.visible(self.model.offline, user, now), self._told(user, "offline", trained)
            if user not in self.shadowed:
                assert served == self.model.visible(self.model.online, user, now), self._told(user, "online", served)

    def _told(self, user: str, where: str, answer: object) -> str:
        content = self.model.online if where == "online" else self.model.offline
        right = self.model.visible(content, user, self.clock.now())
        rows = {f"{event:%m-%dT%H:%M:%S.%f}": value for (each, event), value in sorted(content.items()) if each == user}
        steps = "\n".join(self.log)
        return f"{where} {user}: {answer}, should be {right} of {rows} at {self.clock.now()}\n{steps}"


@contextmanager
def killed_before(effect: int) -> Iterator[None]:
    """Kills the process before its n-th effect: a file put in place or removed, something sent to the online store."""
    left = effect

    def fatal(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return method(*args, **kwargs)

        return call

    places = [(Path, "replace"), (Path, "unlink"), (ScriptSession, "send"), (Client, "ask")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in places]
    for owner, name, method in originals:
        setattr(owner, name, fatal(method))
    try:
        yield
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def run_histories(url: str, seeds: Iterable[int], steps: int, layout: str) -> int:
    """Runs histories on a Redis of one's own; returns how many."""
    group = things(layout)
    with tempfile.TemporaryDirectory() as folder:
        registry = f"sqlite:///{folder}/registry.db"
        done = 0
        for seed in seeds:
            clock = FixedClock(DAY + timedelta(hours=10, minutes=seed % 60))
            root = Path(folder) / f"offline-{seed}"
            with FeatureStore(offline=root, online=url, registry=registry, clock=clock) as store:
                store.online._client().ask("FLUSHALL")
                store.apply([group])
                store.current_catalog.publish()
                try:
                    History(store, group, clock, seed).run(steps)
                except AssertionError as difference:
                    raise AssertionError(f"seed {seed}, {layout} layout: {difference}") from None
            shutil.rmtree(root, ignore_errors=True)
            done += 1
    return done


def _frame(rows: dict[Identity, int | None]) -> pl.DataFrame:
    return pl.DataFrame([(*identity, value) for identity, value in rows.items()], ROWS, orient="row")


def _keys(identities: set[Identity]) -> pl.DataFrame:
    return _frame(dict.fromkeys(identities)).drop("value")


def _stamped(frame: pl.DataFrame, at: datetime) -> pl.DataFrame:
    return frame.with_columns(pl.lit(at, dtype=TIMESTAMP_TYPE).alias("ingested_at"))


def _shown(rows: dict[Identity, int | None]) -> str:
    return ", ".join(f"{user}@{event:%dT%H:%M:%S.%f}={value}" for (user, event), value in rows.items())


def main() -> None:
    """Runs histories of both layouts, and says how many."""
    from tests.servers.redis import RedisServer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    for layout in ("feature", "row"):
        half = range(asked.first, asked.first + asked.count // 2)
        with RedisServer() as server:
            done = run_histories(server.url, half, asked.steps, layout)
        print(f"{layout} layout: {done} histories of {asked.steps} steps without a difference", flush=True)  # noqa: T201


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, FeatureStoreError):
        main()
