"""Online reads through the facade: frames, statuses, async twins, large and hostile requests, peers' known faults."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.errors import FeatureStoreError, InvalidRequestError
from tests.orders import Orders, hourly_activity, orders, some_orders, spending

WHEN = datetime(2024, 3, 9, 12, tzinfo=UTC)
ASKED = ["last_amount:v1", "amount_3d", "orders_1h"]


@pytest.fixture(params=["feature", "row"])
def layout(request):
    return request.param


def row(customer="c1", when=WHEN, amount: int | None = 10):
    return {"customer": customer, "event_timestamp": when, "orders_3d": 1, "amount_3d": amount, "last_amount": 7}


@pytest.fixture
def group(store, layout):
    group = spending(Orders(some_orders()), online_layout=layout)
    activity = hourly_activity(Orders(orders()))
    store.apply([group, activity])
    store.ingest(group, pl.DataFrame([row("c1"), row("c2", amount=None)]))
    store.ingest(activity, pl.DataFrame([{"customer": "c2", "event_timestamp": WHEN, "orders_1h": 3}]))
    return group


def test_the_twins_answer_alike(store, group):
    ids = ["c2", "nobody", "c1", "c2"]
    batch = store.get_online_features_batch(ids, ASKED)
    assert batch == [
        {"last_amount:v1": 7, "amount_3d": None, "orders_1h": 3},
        dict.fromkeys(ASKED),
        {"last_amount:v1": 7, "amount_3d": 10, "orders_1h": None},
        {"last_amount:v1": 7, "amount_3d": None, "orders_1h": 3},
    ]
    frame = store.get_online_features_frame(ids, ASKED)
    assert frame.schema == {"entity_id": pl.String} | dict.fromkeys(ASKED, pl.Int64)
    assert frame.drop("entity_id").to_dicts() == batch
    assert frame.to_arrow().column("entity_id").to_pylist() == ids
    statuses = store.get_online_statuses(ids, ASKED)

    async def twins():
        try:
            return await asyncio.gather(
                store.aget_online_features_batch(ids, ASKED),
                store.aget_online_features_frame(ids, ASKED),
                store.aget_online_statuses(ids, ASKED),
                store.aget_online_features("c1", ASKED),
            )
        finally:
            await store.online.aclose()

    abatch, aframe, astatuses, one = asyncio.run(twins())
    assert abatch == batch
    assert aframe.equals(frame)
    assert astatuses == statuses
    assert one == batch[2] == store.get_online_features("c1", ASKED)


def test_statuses_tell_never_written_from_null_from_expired(store, clock, group):
    clock.set(WHEN + timedelta(days=3))
    known, unknown = store.get_online_statuses(["c2", "nobody"], ["spending"])
    assert {label: state.status for label, state in known.items()} == {
        "orders_3d": "expired",
        "amount_3d": "null",
        "last_amount": "present",
    }
    assert {state.event_timestamp for state in known.values()} == {WHEN}
    assert {state.status for state in unknown.values()} == {"missing"}
    assert store.get_online_features("c2", ["orders_3d"]) == {"orders_3d": None}, "past its time to live"


def test_a_correction_counts_online_as_it_does_in_training(store, clock, group):
    for amount in (11, 12):
        clock.set(clock.now() + timedelta(minutes=1))
        store.ingest(group, pl.DataFrame([row(amount=amount)]))
    assert store.get_online_features("c1", ["amount_3d"]) == {"amount_3d": 12}
    assert store.get_offline_features(["c1"], ["amount_3d"], [WHEN])["amount_3d"].to_list() == [12]


def test_two_writers_never_lose_the_newer_event(open_store, group, layout):
    customers = [f"w{n}" for n in range(40)]

    def write(part: int) -> None:
        store = open_store()
        for step in range(part, 12, 2):
            when = WHEN + timedelta(seconds=(step * 7) % 12)
            store.ingest(group, pl.DataFrame([row(c, when, (step * 7) % 12) for c in customers]))

    with ThreadPoolExecutor(2) as writers:
        list(writers.map(write, range(2)))
    assert open_store().get_online_features_batch(customers, ["amount_3d"]) == [{"amount_3d": 11}] * 40


def test_late_rows_reach_the_online_store(store, group):
    store.ingest(group, pl.DataFrame([row("late", WHEN - timedelta(hours=20), 1)]))
    assert store.get_online_features("late", ["amount_3d"]) == {"amount_3d": 1}
    store.ingest(group, pl.DataFrame([row("late", WHEN - timedelta(hours=21), 2)]))
    assert store.get_online_features("late", ["amount_3d"]) == {"amount_3d": 1}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 64,
        "x:v0",
        "x:v",
        "x:v1:c1",
        "Ümlaut",
        "x\r\nFLUSHALL\r\n",
        "x'; DROP TABLE feature",
        "*",
        "x y",
        "\x00",
    ],
)
def test_hostile_names_are_refused_before_they_reach_a_key(store, group, redis_server, name):
    with redis_server.client() as plain:
        before = plain.dbsize()
        with pytest.raises(InvalidRequestError, match="not a feature reference"):
            store.get_online_features("c1", [name])
        assert plain.dbsize() == before


@pytest.mark.parametrize("features", ["amount_3d", [], [None], [["amount_3d"]], [7], ["amount_3d", {}]])
def test_what_is_no_list_of_names_is_refused(store, group, features):
    store.get_online_features("c1", ["amount_3d"])
    with pytest.raises(FeatureStoreError):
        store.get_online_features("c1", features)


def test_features_of_several_entities_are_refused(store, group):
    class Shelf(FeatureSchema):
        price: int = feature("Price.")

    @feature_group(entity=Entity("item", {"number": int}), source=Orders(orders()), schema=Shelf, owner="team")
    def shelf(events: pl.LazyFrame) -> pl.LazyFrame:
        return events

    store.apply([shelf])
    with pytest.raises(InvalidRequestError, match="several entities, customer, item"):
        store.get_online_features("c1", ["amount_3d", "price"])
    with pytest.raises(InvalidRequestError, match="is an int64, 'c1' is not"):
        store.get_online_features("c1", ["price"])


@pytest.mark.parametrize("entity_id", ["u" * 255, "a:b", "{c}", "}", "", "feature:x:v1:u", "\r\n$3\r\n", "🦩", "a|b\\"])
def test_any_text_names_an_entity(store, group, entity_id):
    store.ingest(group, pl.DataFrame([row(entity_id, amount=5)]))
    assert store.get_online_features(entity_id, ["amount_3d"]) == {"amount_3d": 5}
    assert store.get_online_features(entity_id + "x", ["amount_3d"]) == {"amount_3d": None}


def test_a_pace_is_kept(store, group):
    registered = store.catalog().group("spending")
    frame = pl.DataFrame([row(f"paced{n}") for n in range(60)]).with_columns(ingested_at=pl.lit(WHEN))
    started = time.monotonic()
    report = store.online.write(registered, frame, max_rows_per_second=200)
    assert report.written == 60
    assert 0.25 <= time.monotonic() - started < 3
    with pytest.raises(InvalidRequestError, match="give more than 0"):
        store.online.write(registered, frame, max_rows_per_second=-1)
