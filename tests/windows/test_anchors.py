"""What others get wrong about windows: ends, stale batches, last bits, ties, runs that differ, and overflow."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import WindowOverflowError
from feature_store.windows.fold import fold
from feature_store.windows.sketches import bucket_values, buckets_of
from feature_store.windows.views import Events, Readers, Window

HOUR = 3_600_000_000
DAY = 24 * HOUR


def window(function: str, dtype: str, length: int | None, column: str = "float", **given: object) -> Window:
    hop = None if length is None else HOUR // 12 if length < DAY // 2 else DAY
    spec = WindowSpec(function, "x", column, None, None, length, hop, **given)  # type: ignore[arg-type]
    return Window(spec, Dtype.parse(dtype))


def folded(what: Window, times: list[int], values: list[object], at: int, dtype: pl.DataType | None = None) -> object:
    column = pl.Series("x", values, dtype=dtype or pl.Float64())
    events = Events(np.zeros(len(times), np.int64), np.array(times, dtype=np.int64), {"x": column})
    return fold(events, Readers(np.zeros(1, np.int64), np.array([at])), [what])[0].to_list()[0]


@pytest.mark.parametrize(
    ("values", "exact"),
    [([0.1, 0.2, 0.3, 0.4, 0.5, 1.1, 0.1], 2.7), ([1e16, 1.0, -1e16, 1.0], 2.0), ([1e308, 1e308, -1e308], 1e308)],
)
def test_a_sum_is_exact_whatever_the_order(values, exact):
    for order in itertools.islice(itertools.permutations(values), 200):
        assert folded(window("total", "float", HOUR), [1] * len(values), list(order), 2) == exact


def test_the_event_at_the_tail_is_outside_and_the_one_a_microsecond_later_inside():
    at = 10 * HOUR + 7
    tail = 9 * HOUR
    counted = window("count", "int", HOUR)
    assert folded(counted, [tail], [1.0], at) == 0
    assert folded(counted, [tail + 1], [1.0], at) == 1
    assert folded(counted, [at], [1.0], at) == 1
    assert folded(counted, [at + 1], [1.0], at) == 0


def test_a_batch_that_is_days_old_counts_nothing_twice():
    # Events of two days ago, and none since: the window has moved on.
    assert folded(window("count", "int", DAY), [HOUR, 2 * HOUR], [1.0, 1.0], 4 * DAY) == 0
    assert folded(window("count", "int", 4 * DAY), [HOUR, 2 * HOUR], [1.0, 1.0], 4 * DAY) == 2


def test_last_and_the_last_of_several_agree_on_ties():
    for values in itertools.permutations(["a", "b", "c"]):
        one = folded(window("last", "string", HOUR, "string"), [5, 5, 5], list(values), 6, pl.String())
        some = folded(window("last", "list[string]", HOUR, "string", size=2), [5, 5, 5], list(values), 6, pl.String())
        assert (one, some) == ("c", ["b", "c"])


def test_quantiles_are_the_same_in_every_run_and_near():
    values = np.random.default_rng(1).gamma(2, 30, 1001)
    for quantile in (0.01, 0.5, 0.9, 1.0):
        found = {
            folded(window("approx_quantile", "float", HOUR, quantile=quantile), [1] * 1001, order.tolist(), 2)
            for order in (values, values[::-1], np.sort(values))
        }
        [value] = found
        exact = np.quantile(values, quantile, method="inverted_cdf")
        assert value == pytest.approx(exact, rel=0.004)


def test_a_bucket_lies_within_its_error_of_every_number_in_it():
    numbers = np.concatenate([np.geomspace(1e-300, 1e300, 5001), -np.geomspace(1e-300, 1e300, 5001), [0.0]])
    assert np.all(np.abs(bucket_values(buckets_of(numbers)) - numbers) <= 0.004 * np.abs(numbers))
    assert np.all(np.diff(buckets_of(np.sort(numbers))) >= 0)


@pytest.mark.parametrize("different", [0, 1, 10, 1000, 100_000])
def test_about_how_many_differ_is_near(different):
    values = [str(number) for number in range(different)] * 2
    found = folded(window("approx_distinct", "int", HOUR, "string"), [1] * len(values), values, 2, pl.String())
    assert found == pytest.approx(different, rel=0.07)


def test_totals_that_do_not_fit_are_an_error():
    for dtype, values, kind in (("int", [2**62, 2**62], pl.Int64()), ("float", [1.7e308, 1.7e308], pl.Float64())):
        with pytest.raises(WindowOverflowError, match="the total of 'x' is too large for"):
            folded(window("total", dtype, HOUR, dtype), [1, 1], values, 2, kind)
