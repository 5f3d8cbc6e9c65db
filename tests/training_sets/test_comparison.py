"""What `diff` says of two versions."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal

import polars as pl
import polars.selectors as cs
import pytest

from feature_store.definitions.splits import split_by_time
from feature_store.errors import InvalidRequestError, UnknownFeatureError
from tests.orders import START
from tests.training_sets.conftest import SPAN, every_morning, purchases

pytestmark = pytest.mark.slow

FEATURES = ("orders_3d", "amount_3d", "last_amount")


def named(definition, name):
    object.__setattr__(definition, "name", name)
    return definition


def changes(diff):
    return {change.column: change for change in diff.columns}


def test_a_version_does_not_differ_from_itself(shop):
    shop.write_training_set(purchases(every_morning()))
    diff = shop.compare_training_sets("purchases", "purchases:v1")
    assert (diff.before, diff.after, diff.rows_added, diff.rows_removed) == ("purchases:v1", "purchases:v1", 0, 0)
    assert (diff.features_added, diff.features_removed, diff.features_changed) == ([], [], {})
    assert {change.changed for change in diff.columns} == {0}
    assert changes(diff)["amount_3d"].psi == 0
    assert diff.row_keys == ["customer", "event_timestamp"]


def test_rows_are_matched_by_key_and_time_whatever_their_order_and_split(shop):
    labels = every_morning()
    shop.write_training_set(purchases(labels))
    again = labels[6:].sample(fraction=1, shuffle=True, seed=1)
    again = pl.concat([again, again[:2]])
    shop.write_training_set(purchases(again, splits=split_by_time({"a": START + timedelta(days=5), "b": None})))
    diff = shop.compare_training_sets("purchases:v1", "purchases:v2")
    assert (diff.rows_before, diff.rows_after, diff.rows_added, diff.rows_removed) == (48, 44, 2, 6)
    assert {change.changed for change in diff.columns} == {0}


def test_changed_values_features_and_distributions_are_counted(shop, group, source):
    shop.write_training_set(purchases(every_morning(), features=["amount_3d", "last_amount"]))
    before = shop.open_training_set("purchases").scan().collect()
    source.events = source.events.with_columns(amount=pl.col("amount") + 50 * (pl.col("customer") == "c3"))
    shop.materialize(group, *SPAN)
    shop.write_training_set(
        purchases(every_morning().with_columns(bought=True), features=["amount_3d", "last_amount:v1", "orders_3d"])
    )
    diff = shop.compare_training_sets("purchases:v1", "purchases")
    assert diff.features_added == ["last_amount:v1", "orders_3d:v1"]
    assert diff.features_removed == ["last_amount:v1"]
    of_c3 = before.filter(pl.col("customer") == "c3")["amount_3d"]
    amount = changes(diff)["amount_3d"]
    assert amount.changed == of_c3.len() - of_c3.null_count() > 0
    assert amount.null_rate_before == amount.null_rate_after > 0
    assert amount.mean_after > amount.mean_before
    assert amount.psi > 0.2
    assert changes(diff)["bought"].changed == (~before["bought"]).sum()


def test_two_sets_may_be_compared(shop):
    shop.write_training_set(purchases(every_morning()))
    shop.write_training_set(named(purchases(every_morning(3)), "others"))
    diff = shop.compare_training_sets("purchases", "others")
    assert (diff.before, diff.after, diff.rows_removed) == ("purchases:v1", "others:v1", 30)


def test_what_cannot_be_compared(shop):
    shop.write_training_set(purchases(every_morning()))
    times = every_morning().rename({"event_timestamp": "when"})
    shop.write_training_set(named(purchases(times, as_of="when"), "others"))
    with pytest.raises(InvalidRequestError, match="first has customer, event_timestamp, the second customer, when"):
        shop.compare_training_sets("purchases", "others")
    with pytest.raises(InvalidRequestError, match="write name or name:v2"):
        shop.compare_training_sets("purchases:1", "others")
    with pytest.raises(UnknownFeatureError, match="no version 9"):
        shop.compare_training_sets("purchases:v9", "others")


def test_a_changed_dtype_is_no_number_of_rows(shop):
    shop.write_training_set(purchases(every_morning()))
    shop.write_training_set(purchases(every_morning().with_columns(pl.col("bought").cast(pl.Int8))))
    bought = changes(shop.compare_training_sets("purchases:v1", "purchases:v2"))["bought"]
    assert (bought.changed, bought.psi) == (None, None)


OF_ANY_DTYPE = {
    "durations": pl.Series([timedelta(hours=1), None, timedelta(0)]),
    "times": pl.Series([time(10), None, time(11)]),
    "dates": pl.Series([date(2024, 1, 1), None, date(2024, 1, 2)]),
    "bytes": pl.Series([b"\xff\x00", None, b""]),
    "decimals": pl.Series([Decimal("1.50"), None, Decimal("2.25")]),
    "lists": pl.Series([[1.0, float("nan")], None, [None]]),
    "structs": pl.Series([{"a": 1, "b": [1]}, None, {"a": None, "b": []}]),
    "lists_of_structs": pl.Series([[{"key": "a", "value": 1.0}], None, []]),
    "arrays": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    "arrays_of_texts": pl.Series([["a", "b"], None, ["c", "d"]], dtype=pl.Array(pl.String, 2)),
    "matrices": pl.Series([[[1, 2], [3, 4]], None, [[5, 6], [7, 8]]], dtype=pl.Array(pl.Int64, (2, 2))),
    "categories": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "nothing": pl.Series([None, None, None], dtype=pl.Null),
    "large": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
    "index": pl.Series([1, None, 2]),
    "count": pl.Series(["a", None, "b"]),
    "value": pl.Series([True, None, False]),
    "_file": pl.Series([1, 2, 3]),
    "before": pl.Series(["x", "y", "z"]),
    "_occurrence": pl.Series([1, 2, 3]),
    "*": pl.Series([1, 2, 3]),
    "a.b": pl.Series([1, 2, 3]),
    "date": pl.Series(["p", "q", "r"]),
    "label": pl.Series([1.5, None, float("nan")]),
}


def test_labels_may_have_columns_of_any_dtype_and_name(shop):
    labels = every_morning(1)[:3].with_columns(values.alias(name) for name, values in OF_ANY_DTYPE.items())
    shop.write_training_set(purchases(labels))
    twice = pl.concat([labels[:1], labels[:1], labels[1:]])
    splits = split_by_time({"train": START.replace(day=2, hour=7), "test": None})
    shop.write_training_set(purchases(twice, splits=splits))
    diff = shop.compare_training_sets("purchases:v1", "purchases:v2")
    assert (diff.rows_added, diff.rows_removed) == (1, 0)
    found = changes(diff)
    assert {name: found[name].changed for name in OF_ANY_DTYPE} == dict.fromkeys(OF_ANY_DTYPE, 0)
    assert found["decimals"].mean_before == 1.875
    assert found["durations"].mean_before == 1.8e9
    rows = shop.open_training_set("purchases").scan().collect()
    assert rows.columns[-1] == "split"
    assert rows.drop("split", *FEATURES).equals(twice)
    assert shop.verify_training_set("purchases").passed
    assert shop.training_sets.rebuild("purchases").same_bytes
    other = twice.with_columns(twice[[3, 2, 1, 0]].select(cs.by_name(*OF_ANY_DTYPE)).get_columns())
    shop.write_training_set(purchases(other))
    found = changes(shop.compare_training_sets("purchases:v2", "purchases:v3"))
    assert all(found[name].changed for name in OF_ANY_DTYPE if name != "nothing")


@pytest.mark.parametrize("as_of", ["before", "after", "_occurrence", "_before", "index", "*", "a.b"])
def test_the_time_of_labels_may_have_any_name(shop, as_of):
    labels = every_morning(2).rename({"event_timestamp": as_of})
    shop.write_training_set(purchases(labels, as_of=as_of))
    shop.write_training_set(purchases(labels.reverse(), as_of=as_of))
    assert {change.changed for change in shop.compare_training_sets("purchases:v1", "purchases").columns} == {0}
    assert shop.verify_training_set("purchases").passed
