"""What `diff` says of two versions."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from feature_store.definitions.splits import by_time
from feature_store.errors import InvalidRequestError, UnknownFeatureError
from tests.orders import START
from tests.training_sets.conftest import SPAN, every_morning, purchases


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
    shop.write_training_set(purchases(again, splits=by_time({"a": START + timedelta(days=5), "b": None})))
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
