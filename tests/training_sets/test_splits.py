"""Splits by time and by entity."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.definitions.entity import Entity
from feature_store.definitions.splits import split_by_entity, split_by_time
from feature_store.errors import DefinitionError, InvalidRequestError
from feature_store.training_sets.splits import assign
from tests.orders import CUSTOMER, START
from tests.training_sets.conftest import every_morning, label_frame, purchases

ROUTE = Entity("route", {"carrier": str, "number": int})
CUT = START + timedelta(days=4)
MICROSECOND = timedelta(microseconds=1)


def times(*moments):
    return label_frame([("c1", moment) for moment in moments])


def test_a_cut_off_is_the_first_instant_of_the_next_split():
    splits = split_by_time({"train": CUT, "test": None})
    labels = times(CUT - MICROSECOND, CUT, CUT + MICROSECOND)
    assert assign(splits, labels, "event_timestamp").to_list() == ["train", "test", "test"]


def test_rows_in_the_gap_belong_to_no_split_and_are_kept(shop):
    splits = split_by_time({"train": CUT, "test": None}, gap=timedelta(days=1))
    written = shop.write_training_set(purchases(every_morning(), splits=splits))
    assert written.split_rows == {"train": 18, "test": 24, "gap": 6}
    assert written.rows == 48
    assert set(written.scan("gap").collect()["event_timestamp"]) == {CUT + timedelta(hours=6)}


@given(st.lists(st.datetimes(datetime(2024, 1, 1), datetime(2024, 12, 31)), max_size=20), st.integers(0, 10))
def test_splits_by_time_against_plain_python(moments, gap_days):
    ends = {"a": datetime(2024, 3, 1), "b": datetime(2024, 6, 1), "c": None}
    gap = timedelta(days=gap_days)

    def expected(moment):
        if moment < ends["a"]:
            return "a"
        if moment < ends["a"] + gap:
            return "gap"
        if moment < ends["b"]:
            return "b"
        return "gap" if moment < ends["b"] + gap else "c"

    labels = pl.DataFrame({"when": pl.Series(moments, dtype=pl.Datetime("us"))})
    assert assign(split_by_time(ends, gap=gap), labels, "when").to_list() == [expected(moment) for moment in moments]


@given(
    st.lists(st.tuples(st.sampled_from(["U|A", "A\\", "D"]), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(0, 3),
)
def test_an_entity_lies_where_the_documented_hash_puts_it(keys, seed):
    splits = split_by_entity(ROUTE, {"train": 0.6, "validation": 0.1, "test": 0.3}, seed=seed)
    labels = pl.DataFrame(keys, schema={"carrier": pl.String, "number": pl.Int64}, orient="row")

    def expected(carrier, number):
        text = f"{seed}|{ROUTE.entity_id(carrier=carrier, number=number)}"
        place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        return "train" if place < 0.6 else "validation" if place < 0.7 else "test"

    assert assign(splits, labels, "when").to_list() == [expected(*key) for key in keys]


def test_shares_are_kept_and_entities_never_move():
    labels = pl.DataFrame({"customer": [f"c{number}" for number in range(20_000)]})
    splits = split_by_entity(CUSTOMER, {"train": 0.8, "test": 0.2}, seed=7)
    named = assign(splits, labels, "when")
    assert (named == "train").mean() == pytest.approx(0.8, abs=0.01)
    assert assign(splits, labels[5000:5100], "when").to_list() == named[5000:5100].to_list()
    # Written down once: neither a machine nor a version may put an entity elsewhere.
    assert named.head(8).to_list() == ["train", "train", "train", "test", "train", "train", "train", "train"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: split_by_time({"train": CUT}), "at least 2"),
        (lambda: split_by_time({"train": CUT, "test": CUT}), "only the last, at None"),
        (lambda: split_by_time({"train": None, "test": None}), "only the last, at None"),
        (lambda: split_by_time({"a": CUT, "b": CUT - MICROSECOND, "c": None}), "one after the other"),
        (lambda: split_by_time({"a": CUT, "b": CUT + timedelta(1), "c": None}, gap=timedelta(1)), "more than the gap"),
        (lambda: split_by_time({"train": CUT, "test": None}, gap=-timedelta(1)), "not be negative"),
        (lambda: split_by_time({"train": CUT, "gap": None}), "cannot name a split"),
        (lambda: split_by_time({"../train": CUT, "test": None}), "cannot name a split"),
        (lambda: split_by_entity(CUSTOMER, {"train": 0.8, "test": 0.1}), "add up to 1"),
        (lambda: split_by_entity(CUSTOMER, {"train": 1.0, "test": 0.0}), "between 0 and 1"),
    ],
)
def test_splits_that_make_no_sense_are_refused(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_naive_cut_offs_are_utc():
    assert split_by_time({"train": datetime(2024, 3, 5), "test": None}).until["train"] == datetime(
        2024, 3, 5, tzinfo=UTC
    )


def test_labels_need_the_keys_of_their_splits(shop):
    with pytest.raises(InvalidRequestError, match="no column 'carrier', a join key of entity 'route', by which"):
        shop.write_training_set(purchases(every_morning(), splits=split_by_entity(ROUTE, {"a": 0.5, "b": 0.5})))
    nulls = every_morning().with_columns(
        carrier=pl.when(pl.int_range(pl.len()) > 0).then(pl.lit("x")), number=pl.lit(1)
    )
    with pytest.raises(InvalidRequestError, match="'carrier' of training set 'purchases' is null in 1 of 48 rows"):
        shop.write_training_set(purchases(nulls, splits=split_by_entity(ROUTE, {"a": 0.5, "b": 0.5})))
