"""Exact rolling expressions: `math.fsum` and fractions in every window, and the same bits from any pass."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store import exact
from feature_store.errors import InvalidRequestError

START = datetime(2024, 1, 1, tzinfo=UTC)
PERIOD = timedelta(hours=5)
SCHEMA = {"shop": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "amount": pl.Float64}
AMOUNTS = st.one_of(
    st.none(),
    st.sampled_from([0.1, -0.1, 1e16, -1e16, 1.0, 5e-324, 2.0**-1022, 1e150, 0.0, -0.0]),
    st.floats(-1e6, 1e6),
    st.floats(min_value=-1e300, max_value=1e300),
)
EVENTS = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 30), AMOUNTS), min_size=1, max_size=40)


def frame(events: list[tuple[str | None, int, float | None]]) -> pl.DataFrame:
    rows = [(shop, START + timedelta(hours=hour), amount) for shop, hour, amount in events]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def rolled(events: pl.DataFrame, value: str | pl.Expr = "amount") -> pl.DataFrame:
    return events.select(
        sum=exact.rolling_sum(value, PERIOD, over="shop"),
        mean=exact.rolling_mean(value, PERIOD, over=["shop"]),
        std=exact.rolling_std(value, PERIOD, over="shop"),
    )


def window(events: list[tuple[str | None, int, float | None]], shop: str | None, hour: int) -> list[float]:
    hours = PERIOD // timedelta(hours=1)
    return [amount for other, h, amount in events if other == shop and hour - hours < h <= hour and amount is not None]


def deviation(values: list[float]) -> float:
    """The deviation to 60 digits or so, rounded once."""
    exactly = [Fraction(value) for value in values]
    count = len(exactly)
    variance = (count * sum(value * value for value in exactly) - sum(exactly) ** 2) / (count * (count - 1))
    if not variance:
        return 0.0
    power = (variance.numerator.bit_length() - variance.denominator.bit_length()) // 2 - 200
    scaled = variance / Fraction(4) ** power
    return float(Fraction(math.isqrt(scaled.numerator // scaled.denominator)) * Fraction(2) ** power)


@given(EVENTS)
def test_every_window_is_exact_and_rounded_once(events):
    for (shop, hour, _), (total, mean, std) in zip(events, rolled(frame(events)).rows(), strict=True):
        values = window(events, shop, hour)
        assert total == math.fsum(values)
        assert mean == (math.fsum(values) / len(values) if values else None)
        if len(values) < 2:
            assert std is None
        else:
            assert math.isclose(std, deviation(values), rel_tol=4e-16)


@pytest.mark.slow
@given(EVENTS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_the_bits_are_those_of_the_window_whatever_comes_before_it_beside_it_or_in_which_order(events, random, since):
    whole = frame(events).with_row_index().with_columns(rolled(frame(events)))
    order = list(range(len(events)))
    random.shuffle(order)
    shuffled = whole[order]
    assert rolled(shuffled.select(list(SCHEMA))).equals(shuffled.select("sum", "mean", "std"))
    begin = START + timedelta(hours=since)
    mine = pl.col("shop").eq_missing(events[0][0])
    part = whole.filter(mine & (pl.col("event_timestamp") > begin - PERIOD))
    judged = pl.col("event_timestamp") >= begin
    recomputed = part.select(list(SCHEMA)).with_columns(rolled(part.select(list(SCHEMA)))).filter(judged)
    assert recomputed.select("sum", "mean", "std").equals(part.filter(judged).select("sum", "mean", "std"))


def test_no_more_events_than_a_block_holds_are_needed_to_be_exact(monkeypatch):
    events = frame([(shop, hour, hour / 10) for hour in range(40) for shop in "ab"])
    whole = rolled(events)
    monkeypatch.setattr(exact, "_BLOCK", 3)
    assert rolled(events).equals(whole)


def test_a_filter_on_the_result_does_not_reach_the_events():
    events = frame([("a", hour, 0.1) for hour in range(10)])
    total = exact.rolling_sum("amount", PERIOD, over="shop")
    late = events.lazy().with_columns(total=total).filter(pl.col("event_timestamp") >= START + timedelta(hours=9))
    assert late.collect()["total"].to_list() == [0.5]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.inf], (math.inf, math.inf, None)),
        ([-math.inf, 1.0], (-math.inf, -math.inf, None)),
        ([math.inf, -math.inf], (None, None, None)),
        ([1.0, math.nan], (None, None, None)),
        ([None, None], (0.0, None, None)),
        ([1e308, 1e308], (math.inf, math.inf, 0.0)),
    ],
    ids=str,
)
def test_infinities_and_nan_are_those_of_arithmetic(values, expected):
    last = rolled(frame([("a", hour, value) for hour, value in enumerate(values)])).fill_nan(None).rows()[-1]
    assert last == expected


def test_integers_of_cents_are_taken_and_those_that_floats_cannot_hold_are_not():
    events = frame([("a", hour, None) for hour in range(3)]).with_columns(amount=pl.Series([10, 20, 30]))
    assert rolled(events)["sum"].to_list() == [10.0, 30.0, 60.0]
    with pytest.raises(InvalidRequestError, match=r"holds 9007199254740993, beyond 2\*\*53"):
        rolled(events.with_columns(amount=pl.lit(2**53 + 1)))
    with pytest.raises(InvalidRequestError, match="holds String: exact rolling sums are of floats"):
        rolled(events.with_columns(amount=pl.lit("10")))


def test_a_window_has_a_length():
    with pytest.raises(InvalidRequestError, match="above 0"):
        exact.rolling_sum("amount", timedelta(0), over="shop")
