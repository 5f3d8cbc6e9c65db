"""What is a baseline: training sets that hold enough, else the partitions' own weeks, and why."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from feature_store.definitions.monitor import Monitor
from feature_store.definitions.training_set import TrainingSet
from feature_store.monitoring.baseline import profile_column
from feature_store.monitoring.reference import shortage
from tests.orders import START, Orders, some_orders, spending


def numbers(known: int, nulls: int = 0, infinite: int = 0) -> dict:
    values = [float(number) for number in range(known)] + [None] * nulls + [float("inf")] * infinite
    return profile_column(pl.Series("x", values, dtype=pl.Float64))


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (numbers(281), None),
        (numbers(281, nulls=10_000), None),
        (numbers(280), "holds 280 values (280 rows), 281 are needed"),
        (numbers(3), "holds 3 values (3 rows)"),
        (numbers(0, nulls=5000), "holds 0 values (5,000 rows, 5,000 null), 100 are needed"),
        (numbers(200, nulls=40, infinite=60), "holds 200 values (300 rows, 40 null, 60 infinite), 281 are needed"),
        (profile_column(pl.Series("x", [5.0] * 100)), None),
        (profile_column(pl.Series("x", [5.0] * 99)), "holds 99 values (99 rows), 100 are needed"),
        (profile_column(pl.Series("x", ["a"] * 100 + ["b"] * 9)), None),
        (profile_column(pl.Series("x", ["a"] * 100 + ["b"] * 8)), "109 are needed"),
        ({"n": 5000, "nulls": 0, "edges": [1.0], "counts": [1, 2]}, "older version"),
    ],
)
def test_a_baseline_holds_so_many_values_that_chance_moves_its_index_by_less_than_the_warning(profile, reason):
    found = shortage(profile, Monitor())
    assert found is None if reason is None else reason in found


def test_a_feature_with_a_higher_threshold_needs_fewer_values():
    assert shortage(numbers(141), Monitor(psi_warn=0.2)) is None
    assert "140 values" in shortage(numbers(140), Monitor(psi_warn=0.2))


def training_set(name: str, rows: int, customers: int) -> TrainingSet:
    def labels() -> pl.LazyFrame:
        moment = pl.lit(START + timedelta(days=35)).dt.cast_time_unit("us")
        ids = [f"c{number % customers}" if customers else "nobody" for number in range(rows)]
        return pl.DataFrame({"customer": ids}).with_columns(event_timestamp=moment).lazy()

    return TrainingSet(name, labels, ["spending"], "team@example.com")


@pytest.mark.slow
def test_a_set_that_holds_too_little_leaves_the_baseline_as_it_was_and_the_check_tells_why(store, clock):
    group = spending(Orders(some_orders(days=40, customers=60), landed=date(2024, 4, 9)))
    clock.set(START + timedelta(days=40))
    store.apply([group])
    done = store.materialize(group, "2024-03-01", "2024-04-09").partitions
    last = [(done[-1].window, done[-1].profile)]

    def drift() -> str:
        [results] = store.monitor.partitions(group, done[-1].window.start).judge(last)
        return next(result.summary for result in results if result.name == "drift")

    own = drift()
    assert "since" not in own
    store.write_training_set(training_set("notebook", 3, 60))
    told = drift()
    assert told.startswith(own)
    assert "last_amount is compared with first 28 partitions, since notebook v1 holds " in told
    store.write_training_set(training_set("real", 600, 60))
    assert "since" not in drift()
    store.write_training_set(training_set("strangers", 700, 0))
    assert "amount_3d is compared with real v1, since strangers v1 holds 0 values (700 rows, 700 null)" in drift()
