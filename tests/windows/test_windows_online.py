"""Windows online, offline and in plain Python agree, whoever wrote the events, in whatever order, at any instant."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from redis import Redis

from feature_store import FeatureSchema, FeatureStore, FixedClock, age, count, feature_group, last, maximum, mean, total
from feature_store import window as windowed
from feature_store.changes.streaming_rows import DrainedRows, StreamedRows
from feature_store.clock import to_micros
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import OnlineStoreError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.stream_files import StreamFiles
from feature_store.online.schemas import fingerprint_of
from feature_store.reconcile.online_sample import OnlineSample, sample_online
from feature_store.rows.polars_schema import row_schema
from feature_store.transform.compute import transformed
from feature_store.windows.plain_fold import Event, value_of
from tests.changes.histories import USER
from tests.orders import Orders
from tests.serving.servers import Server

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "tile-layout.md"
USERS = ("ann", "bob", "cy")
EVENTS = {"user_id": pl.String, "event_timestamp": TIMESTAMP_TYPE, "amount": pl.Float64, "shop": pl.String}
Identity = tuple[str, datetime]
Content = tuple[float | None, str | None]


class Spending(FeatureSchema):
    payments_1h: int = windowed("Payments.", count(), "1h")
    spent_1h: float = windowed("Spent.", total("amount"), "1h")
    mean_1d: float = windowed("Mean.", mean("amount"), "1d")
    greatest_1d: float = windowed("Greatest.", maximum("amount"), "1d")
    last_7d: float = windowed("Last.", last("amount"), "7d")
    large_1d: int = windowed("Large payments.", count(where=pl.col("amount") > 1), "1d")
    shops_1d: list[str] = windowed("Shops of the last payments.", last("shop", 2), "1d")
    by_shop_7d: dict[str, float] = windowed("Spent by shop.", total("amount", by="shop"), "7d")
    since: float = windowed("Since the last payment.", age(unit="minutes"), "7d")


@pytest.fixture
def group() -> FeatureGroup:
    source = Orders(events=pl.DataFrame(schema=EVENTS))

    @feature_group(entity=USER, source=source, schema=Spending, owner="team@example.com", name="spending")
    def given(events: pl.LazyFrame) -> pl.LazyFrame:
        """Payments."""
        return events

    return given


class World:
    """All writers of one group, and the events that the last of them gave."""

    def __init__(self, store: FeatureStore, group: FeatureGroup, clock: FixedClock, seed: int) -> None:
        self.store, self.group, self.clock = store, group, clock
        self.registered = store.registered(group)
        self.random = random.Random(seed)
        self.model: dict[Identity, Content] = {}
        self.undrained: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        self.offset = 0
        self.stream = StreamedRows(self.registered, store.offline, store.online, store.clock)
        self.notes = DrainedRows(self.registered, store.offline, store.online, store.clock)
        self.files = StreamFiles(store.offline, self.registered)

    def some(self, most: int = 4) -> dict[Identity, Content]:
        now = self.clock.now()
        back = self.random.choice([10, 600, 4000, 100_000, 700_000])
        hops = [now - timedelta(seconds=self.random.randrange(back)) for _ in range(most)]
        moments = [*hops, *(hop.replace(minute=hop.minute // 5 * 5, second=0, microsecond=0) for hop in hops)]
        moments += [now, now + timedelta(seconds=3)]
        return {
            (self.random.choice(USERS), self.random.choice(moments)): (
                self.random.choice([None, 0.1, 0.2, 1.1, 1e16, -1e16, 3.0]),
                self.random.choice([None, "a", "b"]),
            )
            for _ in range(self.random.randrange(1, most))
        }

    def frame(self, given: Mapping[Identity, Content]) -> pl.DataFrame:
        return pl.DataFrame([(*key, *content) for key, content in given.items()], EVENTS, orient="row")

    def ingest(self) -> None:
        given = self.some()
        self.store.ingest(self.group, self.frame(given))
        self.model |= given

    def send(self) -> None:
        given = self.some()
        gone: set[Identity] = set()
        if self.undrained and self.random.random() < 0.4:
            known = [row for rows, _ in self.undrained for row in rows.select("user_id", "event_timestamp").rows()]
            gone = {each for each in self.random.sample(known, 1) if each in self.model and each not in given}
        at = self.stream.claim("one", self.clock.now())
        rows = transformed(self.group.rows, self.frame(given).lazy()).collect()
        stamp = pl.lit(at, TIMESTAMP_TYPE).alias("ingested_at")
        rows = rows.with_columns(stamp).select(row_schema(self.registered).names())
        taken = pl.DataFrame(list(gone), {key: EVENTS[key] for key in ("user_id", "event_timestamp")}, orient="row")
        taken = taken.with_columns(stamp)
        self.undrained.append((rows, taken))
        self.stream.committed("one")
        self.stream.deliver(rows, taken, rows.clear())
        self.model |= given
        for each in gone:
            del self.model[each]

    def drain(self) -> None:
        self.notes.begin()
        for rows, gone in self.undrained:
            if rows.height:
                self.files.write("features.spending", 0, self.offset, self.offset, rows)
                self.notes.write(rows)
            if gone.height:
                self.files.remove(gone)
                self.notes.withdraw(gone)
            self.offset += 1
        self.undrained = []
        self.notes.end()

    def expected(self, user: str) -> dict[str, Any]:
        events = [
            Event(to_micros(time), {"amount": amount, "shop": shop, "large": amount is not None and amount > 1})
            for (name, time), (amount, shop) in self.model.items()
            if name == user
        ]
        found = {}
        for feature in self.registered.windows:
            spec = feature.window
            assert spec is not None
            if spec.condition is not None:
                events = [Event(each.time, {**each.values, spec.condition: each.values["large"]}) for each in events]
            found[feature.ref.name] = value_of(spec, feature.dtype, events, to_micros(self.clock.now()))
        return found

    def check(self) -> None:
        expected = [self.expected(user) for user in (*USERS, "nobody")]
        served = self.store.get_online_features_batch([*USERS, "nobody"], ["spending"])
        assert repr(served) == repr(expected)
        assert repr(self.store.get_online_features("bob", ["spending"])) == repr(expected[1])
        if not self.undrained:
            times = [self.clock.now()] * len(USERS)
            trained = self.store.get_offline_features(list(USERS), ["spending"], times).to_dicts()
            names = list(expected[0])
            assert repr([[plain(row[name], expected[0][name]) for name in names] for row in trained]) == repr(
                [[row[name] for name in names] for row in expected[:3]]
            )


def plain(value: Any, like: Any) -> Any:
    return {pair["key"]: pair["value"] for pair in value} if isinstance(like, dict) else value


@pytest.mark.parametrize("seed", range(8))
def test_all_writers_and_readers_agree(store: FeatureStore, group: FeatureGroup, clock: FixedClock, seed: int) -> None:
    clock.set(NOON)
    store.apply([group])
    world = World(store, group, clock, seed)
    for _ in range(25):
        step = world.random.choice(["ingest", "ingest", "send", "send", "send", "drain", "wait", "settle"])
        if step == "wait":
            waits = [timedelta(microseconds=1), timedelta(seconds=7), timedelta(minutes=5), timedelta(hours=3)]
            clock.set(clock.now() + world.random.choice([*waits, timedelta(days=2)]))
        elif step == "settle":
            store.repair_online(group.name)
        else:
            getattr(world, step)()
        world.check()


def test_an_entity_without_events_has_the_values_of_empty_windows(store: FeatureStore, group: FeatureGroup) -> None:
    store.apply([group])
    states = store.get_online_statuses(["nobody"], ["spending"])[0]
    assert {state.status for state in states.values()} == {"missing"}
    assert states["payments_1h"].value == 0
    assert states["shops_1d"].value == []
    assert states["mean_1d"].value is None
    frame = store.get_online_features_frame(["nobody"], ["spending"])
    assert frame["payments_1h"].to_list() == [0]


def test_lost_keys_are_noticed_and_filled_again(
    store: FeatureStore, group: FeatureGroup, clock: FixedClock, redis_url: str
) -> None:
    clock.set(NOON)
    store.apply([group])
    world = World(store, group, clock, 3)
    for _ in range(6):
        world.ingest()
    assert store.check_consistency(group.name).passed
    assert sample(world).lost == 0
    with Redis.from_url(redis_url) as server:
        for key in server.scan_iter("feature_tiles:*"):
            server.delete(key)
    lost = sample(world)
    assert lost.lost == lost.entities > 0
    assert not store.check_consistency(group.name).passed
    store.push_online(group.name)
    assert store.check_consistency(group.name).passed
    world.check()


def sample(world: World) -> OnlineSample:
    store = world.store
    return sample_online(
        world.registered,
        catalog=store.registry.catalog(),
        offline=store.offline,
        online=store.online,
        clock=store.clock,
    )


def test_changed_windows_need_a_refill_and_say_so(store: FeatureStore, group: FeatureGroup, redis_url: str) -> None:
    store.apply([group])
    store.ingest(group, pl.DataFrame([("ann", store.clock.now(), 1.5, "a")], EVENTS, orient="row"))
    with Redis.from_url(redis_url) as server:
        [key] = list(server.scan_iter("feature_tiles:*"))
        raw = server.get(key)
        assert isinstance(raw, bytes)
        text = b'[[["rows",null,null,null]],[]]'
        other = fingerprint_of(text)
        server.set(f"feature_schema:spending:{other.hex()}", text)
        server.set(key, raw[:2] + other + raw[10:])
        with pytest.raises(OnlineStoreError, match=r"written for other windows.*feature-store monitor repair"):
            store.get_online_features("ann", ["spending"])
        server.set(key, b"nonsense")
        with pytest.raises(OnlineStoreError, match="does not hold tiles"):
            store.get_online_features("ann", ["spending"])
        server.set(key, raw[:-3])
        with pytest.raises(OnlineStoreError, match="does not hold tiles"):
            store.get_online_features_batch(["ann"] * 20, ["spending"])
    store.repair_online(group.name)
    assert store.get_online_features("ann", ["payments_1h"]) == {"payments_1h": 1}


def test_the_documented_reader_reads_what_the_store_reads(
    store: FeatureStore, group: FeatureGroup, clock: FixedClock, redis_url: str
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(code[code.index("def read_count_and_sum") :].splitlines()) <= 30
    clock.set(NOON)
    store.apply([group])
    world = World(store, group, clock, 5)
    with Redis.from_url(redis_url) as server:
        for _ in range(12):
            world.ingest()
        # Every event is in a tile by then.
        clock.set(NOON + timedelta(minutes=7))
        for user in USERS:
            event = pl.DataFrame([(user, NOON + timedelta(minutes=1), 0.7, "c")], EVENTS, orient="row")
            world.model[user, NOON + timedelta(minutes=1)] = (0.7, "c")
            store.ingest(group, event)
        for wait in (timedelta(), timedelta(minutes=3), timedelta(minutes=53), timedelta(hours=20)):
            clock.set(NOON + timedelta(minutes=7) + wait)
            world.check()
            now = to_micros(clock.now())
            for user in (*USERS, "nobody"):
                read = names["read_count_and_sum"]
                hour = read(server.get, "spending", user, "amount", 3_600_000_000, 300_000_000, now)
                assert hour == tuple(store.get_online_features(user, ["payments_1h", "spent_1h"]).values())


@pytest.mark.slow
def test_every_door_gives_the_same(
    store: FeatureStore, group: FeatureGroup, clock: FixedClock, redis_url: str, tmp_path: Path
) -> None:
    clock.set(NOON)
    store.apply([group])
    world = World(store, group, clock, 11)
    for _ in range(5):
        world.ingest()
    clock.set(NOON + timedelta(minutes=70))
    ids = [*USERS, "nobody"] * 4
    expected = [world.expected(user) for user in ids]

    async def asked() -> tuple[Any, ...]:
        several = await asyncio.gather(
            store.aget_online_features_batch(ids, ["spending"]),
            *(store.aget_online_features(user, ["spending"]) for user in ids),
        )
        await store.aclose()
        return tuple(several)

    together, *one_by_one = asyncio.run(asked())
    assert repr(together) == repr(one_by_one) == repr(expected)
    frame = store.get_online_features_frame(ids, ["spending"]).to_dicts()
    names = list(expected[0])
    assert repr([[plain(row[name], expected[0][name]) for name in names] for row in frame]) == repr(
        [[row[name] for name in names] for row in expected]
    )
    server = Server(
        {
            "FEATURE_STORE_ONLINE": redis_url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
            "FEATURE_STORE_CLOCK": clock.now().isoformat(),
            "FEATURE_STORE_SERVER_TOKENS": "",
        }
    )
    try:
        wanted = ["payments_1h", "spent_1h", "mean_1d", "shops_1d"]
        answer = server.call("POST", "/v1/online-features", {"entity_ids": ids, "features": wanted})
        assert answer.status == 200
        assert answer.json["values"] == [[row[name] for name in wanted] for row in expected]
    finally:
        server.stop()


def test_writers_that_race_lose_no_event(
    open_store: Callable[..., FeatureStore], group: FeatureGroup, clock: FixedClock
) -> None:
    clock.set(NOON)
    stores = [open_store() for _ in range(4)]
    stores[0].apply([group])

    def write(number: int) -> None:
        for minute in range(10):
            times = [NOON - timedelta(minutes=minute, seconds=10 * number + place) for place in range(3)]
            rows = [(user, time, 0.1, "a") for user in USERS for time in times]
            stores[number].ingest(group, pl.DataFrame(rows, EVENTS, orient="row"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for user in USERS:
        answer = stores[0].get_online_features(user, ["payments_1h", "spent_1h"])
        assert answer == {"payments_1h": 120, "spent_1h": math.fsum([0.1] * 120)}
