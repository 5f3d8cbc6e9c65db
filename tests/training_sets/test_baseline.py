"""Baseline profiles."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import InvalidRequestError
from feature_store.monitoring.baseline import (
    TOP_CATEGORIES,
    baseline_counts,
    bin_counts,
    profile_column,
    profile_columns,
)

numbers = st.lists(st.one_of(st.none(), st.floats(allow_nan=False, width=32)), max_size=40)


@given(numbers)
def test_bins_count_every_value_once_and_again(values):
    column = pl.Series("x", values, dtype=pl.Float64)
    profile = profile_column(column)
    assert profile["edges"] == sorted(set(profile["edges"]))
    assert sum(baseline_counts(profile)) == len(values)
    assert bin_counts(profile, column) == baseline_counts(profile)
    assert profile == json.loads(json.dumps(profile)) == msgspec.json.decode(msgspec.json.encode(profile))


def test_numbers():
    profile = profile_column(pl.Series("x", [*range(100), None]))
    assert profile["n"] == 101
    assert profile["null_rate"] == pytest.approx(1 / 101)
    assert (profile["mean"], profile["minimum"], profile["maximum"]) == (49.5, 0, 99)
    assert profile["stddev"] == pytest.approx(29.0115, abs=1e-4)
    assert profile["edges"] == [9, 19, 29, 39, 49, 59, 69, 79, 89]
    assert profile["counts"] == [10] * 10


def test_deciles_that_fall_together_are_one_edge():
    profile = profile_column(pl.Series("x", [0.0] * 90 + [1.0] * 10))
    assert (profile["edges"], profile["counts"]) == ([0.0], [90, 10])


def test_infinities_are_counted_by_themselves():
    profile = profile_column(pl.Series("x", [float("-inf"), 1.0, 3.0, float("inf"), None]))
    assert (profile["mean"], profile["minimum"], profile["maximum"]) == (2.0, 1.0, 3.0)
    assert (profile["n"], profile["nulls"], profile["infinite"]) == (5, 1, 2)
    assert sum(profile["counts"]) == 2
    assert baseline_counts(profile)[:2] == [1, 2]
    nothing_else = profile_column(pl.Series("x", [float("inf")] * 3))
    assert (nothing_else["infinite"], nothing_else["mean"], nothing_else["edges"]) == (3, None, [])


def test_an_embedding_with_an_infinite_element_is_infinite():
    inside = pl.Series("x", [[3.0, 4.0], [float("inf"), 0.0], None], dtype=pl.Array(pl.Float32, 2))
    profile = profile_column(inside)
    assert (profile["infinite"], profile["nulls"], profile["centroid"]) == (1, 1, [3.0, 4.0])


def test_values_that_differ_by_rounding_share_a_bin():
    profile = profile_column(pl.Series("x", [0.3] * 9 + [0.1 + 0.2]))
    assert bin_counts(profile, pl.Series("x", [0.3, 0.1 + 0.2, 0.3 - 1e-17, 0.4])) == [0, 0, 3, 1]


def test_numbers_near_the_greatest_have_no_moments():
    profile = profile_column(pl.Series("x", [1.7e308, 1.7e308, -1.7e308, 1.0]))
    assert profile["stddev"] is None
    assert profile["maximum"] == 1.7e308


def test_texts_and_booleans():
    profile = profile_column(pl.Series("x", [f"c{number}" for number in range(30)] + ["c0", None]))
    assert len(profile["categories"]) == TOP_CATEGORIES
    assert next(iter(profile["categories"].items())) == ("c0", 2)
    assert (profile["other"], profile["distinct"]) == (10, 30)
    later = pl.Series("x", ["c0", "unheard of", None, None])
    assert bin_counts(profile, later)[:3] == [2, 0, 1]  # nulls, infinities, c0
    assert sum(bin_counts(profile, later)[3:]) == 1
    assert profile_column(pl.Series("x", [True, False, True]))["categories"] == {"true": 2, "false": 1}


def test_timestamps_are_microseconds():
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    profile = profile_column(pl.Series("x", [moment, None], dtype=pl.Datetime("us", "UTC")))
    assert profile["minimum"] == moment.timestamp() * 1e6


def test_embeddings():
    column = pl.Series("x", [[3.0, 4.0], None, [0.0, 0.0]], dtype=pl.Array(pl.Float32, 2))
    profile = profile_column(column)
    assert (profile["centroid"], profile["norm_mean"], profile["nulls"]) == ([1.5, 2.0], 2.5, 1)
    with pytest.raises(InvalidRequestError, match="no bins"):
        bin_counts(profile, column)


@pytest.mark.parametrize(
    "dtype", [pl.Float64, pl.Int64, pl.String, pl.Boolean, pl.Datetime("us", "UTC"), pl.Array(pl.Float32, 2)]
)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_nothing_but_nulls(dtype, rows):
    column = pl.Series("x", [None] * rows, dtype=dtype)
    profile = profile_columns([column])["x"]
    assert (profile["n"], profile["nulls"]) == (rows, rows)
    assert profile == json.loads(json.dumps(profile))
