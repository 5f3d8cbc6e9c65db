from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from feature_store.errors import InvalidRequestError, InvalidRowsError, OnlineStoreError, UnknownFeatureError
from feature_store.store import FeatureStore
from tests.orders import Orders, orders, some_orders, spending

WHEN = datetime(2024, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def group(store):
    group = spending(Orders(some_orders()))
    store.apply([group])
    return group


def row(customer="c1", when=WHEN, count=1, amount=10, last=10):
    return {"customer": customer, "event_timestamp": when, "orders_3d": count, "amount_3d": amount, "last_amount": last}


def test_ingested_rows_are_read_online_and_offline_alike(store, group):
    report = store.ingest(group, pl.DataFrame([row("c1"), row("c2", amount=None)]))
    assert report.rows == 2
    assert store.get_online_features("c1", ["amount_3d", "last_amount:v1"]) == {"amount_3d": 10, "last_amount:v1": 10}
    assert store.get_online_features_batch(["c2", "nobody", "c2"], ["amount_3d"]) == [{"amount_3d": None}] * 3
    offline = store.get_offline_features(["c2", "c1", "c1"], ["spending"], [WHEN, WHEN, WHEN - timedelta(hours=1)])
    assert offline.columns == ["entity_id", "as_of_timestamp", "orders_3d", "amount_3d", "last_amount"]
    assert offline["amount_3d"].to_list() == [None, 10, None]


@pytest.mark.parametrize("convert", [pl.DataFrame.to_arrow, pl.DataFrame.lazy, pl.DataFrame.to_pandas])
def test_any_table_is_ingested_and_twice_is_once(store, group, convert):
    frame = pl.DataFrame([row("c1"), row("c2")])
    store.ingest(group, convert(frame))
    files = store.offline.files("spending")
    store.ingest(group, frame)
    assert store.offline.files("spending") == files


def test_a_correction_with_the_same_event_time_wins_in_both_stores(store, clock, group):
    store.ingest(group, pl.DataFrame([row(amount=10)]))
    clock.set(clock.now() + timedelta(minutes=1))
    store.ingest(group, pl.DataFrame([row(amount=11)]))
    assert store.get_online_features("c1", ["amount_3d"]) == {"amount_3d": 11}
    assert store.get_offline_features(["c1"], ["amount_3d"], [WHEN])["amount_3d"].to_list() == [11]


def test_an_event_later_than_the_clock_is_not_served_until_its_time(store, clock, group):
    clock.set(WHEN - timedelta(minutes=1))
    assert store.ingest(group, pl.DataFrame([row()])).online.pending == 1
    assert store.get_online_features("c1", ["amount_3d"]) == {"amount_3d": None}


def test_times_to_live_end_to_the_microsecond_on_both_sides(store, clock, group):
    store.ingest(group, pl.DataFrame([row()]))
    ttl = timedelta(days=5)
    for instant, expected in [(WHEN + ttl - timedelta(microseconds=1), 10), (WHEN + ttl, None)]:
        clock.set(instant)
        assert store.get_online_features("c1", ["amount_3d"]) == {"amount_3d": expected}
        assert store.get_offline_features(["c1"], ["amount_3d"], [instant])["amount_3d"].to_list() == [expected]


def test_naive_and_foreign_time_zones_are_utc(store, group):
    store.ingest(group, pl.DataFrame([row(when=WHEN.replace(tzinfo=None))]))
    tokyo = WHEN.astimezone(timezone(timedelta(hours=9)))
    answers = store.get_offline_features(["c1", "c1"], ["amount_3d"], [tokyo, WHEN.replace(tzinfo=None)])
    assert answers["amount_3d"].to_list() == [10, 10]


def test_a_training_set_leaves_labels_untouched_and_in_order(store, group):
    store.ingest(group, pl.DataFrame([row("c1"), row("c2", amount=5)]))
    labels = pl.DataFrame(
        {
            "customer": ["c2", "c1", "c2", "zz"],
            "event_timestamp": [WHEN, WHEN, WHEN - timedelta(days=1), WHEN],
            "bought": [True, False, True, None],
        }
    )
    joined = store.training_set(labels, ["amount_3d"])
    assert_frame_equal(joined.select(labels.columns), labels)
    assert joined["amount_3d"].to_list() == [5, 10, None, None]
    arrow = store.training_set(pa.table(labels.to_arrow()), ["amount_3d"])
    assert_frame_equal(arrow, joined, check_dtypes=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**row(), "customer": None}], "'customer' is null in 1 of 2 rows"),
        ([{**row(), "event_timestamp": None}], "'event_timestamp' is null"),
        ([{**row(), "orders_3d": 0}], "orders_3d.*greater_than_or_equal_to"),
        ([{**row(), "orders_3d": None}], "orders_3d.*null"),
        ([{**row(), "last_amount": "ten"}], "'last_amount' holds String, the schema declares int"),
        ([{**row(), "extra": 1}], "'extra' is neither a join key nor a feature"),
        ([row(), row(amount=11)], "share entity and event time"),
    ],
)
def test_rows_that_break_a_rule_are_refused_whole(store, group, rows, message):
    with pytest.raises(InvalidRowsError, match=message):
        store.ingest(group, pl.DataFrame([row("good"), *rows], infer_schema_length=None, strict=False))
    assert store.offline.files("spending") == []
    assert store.get_online_features("good", ["amount_3d"]) == {"amount_3d": None}


def test_a_missing_column_is_named(store, group):
    with pytest.raises(InvalidRowsError, match="'amount_3d' is missing"):
        store.ingest(group, pl.DataFrame([row()]).drop("amount_3d"))


def test_unknown_names_are_answered_with_the_closest(store, group):
    with pytest.raises(UnknownFeatureError, match="Did you mean amount_3d"):
        store.get_online_features("c1", ["amount_3"])
    with pytest.raises(UnknownFeatureError, match="live version"):
        store.get_online_features("c1", ["amount_3d:v2"])
    with pytest.raises(InvalidRequestError, match="not a feature reference"):
        store.get_online_features("c1", ["amount_3d'; DROP TABLE feature"])
    with pytest.raises(InvalidRequestError, match="give one per entity id"):
        store.get_offline_features(["c1"], ["amount_3d"], [])


def test_a_group_that_was_not_applied_says_what_to_run(open_store):
    store = open_store()
    group = spending(Orders(orders()))
    with pytest.raises(Exception, match="feature-store apply"):
        store.ingest(group, pl.DataFrame([row()]))


def test_a_dead_online_store_is_one_clear_error(tmp_path, clock):
    with FeatureStore(tmp_path, "redis://127.0.0.1:1/0", f"sqlite:///{tmp_path / 'r.db'}", clock) as store:
        store.apply([spending(Orders(orders()))])
        with pytest.raises(OnlineStoreError, match=r"127\.0\.0\.1:1"):
            store.get_online_features("c1", ["amount_3d"])
