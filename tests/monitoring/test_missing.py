"""Nulls and infinities of partitions: when they are a finding, whatever there is to compare with."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.monitor import Monitor
from feature_store.definitions.schema import Embedding, FeatureSchema, feature
from feature_store.monitoring.baseline import profile_column
from feature_store.monitoring.checks import PartitionMonitor
from feature_store.monitoring.expectation import NEW_NORMAL
from feature_store.monitoring.findings import CheckResult
from feature_store.monitoring.profile import profile_partitions
from feature_store.monitoring.reference import Baseline
from feature_store.partitions import Window
from tests.orders import START, Orders, orders

pytestmark = pytest.mark.slow

ROWS = 200
INFINITY = float("inf")


class Ratios(FeatureSchema):
    ratio: float = feature("A ratio.")
    bounded: float = feature("A ratio that may lack one value in 50.", max_null_rate=0.02)
    free: float = feature("A ratio that may be infinite.", monitor=Monitor(infinite=True))
    taste: Embedding = feature("A vector.", dimension=2)
    kind: str = feature("A text.")


@pytest.fixture
def group() -> FeatureGroup:
    @feature_group(entity=Entity("user", {"user": str}), source=Orders(orders()), schema=Ratios, owner="team")
    def ratios(events: pl.LazyFrame) -> pl.LazyFrame:
        """Ratios."""
        return events

    return ratios


def values(number: int, rows: int = ROWS) -> pl.DataFrame:
    rng = np.random.default_rng(number)
    return pl.DataFrame(
        {
            "ratio": rng.normal(1, 0.1, rows),
            "bounded": rng.normal(1, 0.1, rows),
            "free": rng.normal(1, 0.1, rows),
            "taste": pl.Series(rng.normal(1, 0.1, (rows, 2)), dtype=pl.Array(pl.Float32, 2)),
            "kind": pl.Series(np.array(["a", "b", "c"])[rng.integers(0, 3, rows)]),
        }
    )


def judge(monitor: PartitionMonitor, group: FeatureGroup, number: int, day: pl.DataFrame) -> dict[str, CheckResult]:
    window = Window(START + timedelta(days=number), START + timedelta(days=number + 1))
    placed = day.with_columns(
        pl.int_range(pl.len()).cast(pl.String).alias("user"),
        pl.lit(window.start).dt.cast_time_unit("us").alias("event_timestamp"),
    )
    [results] = monitor.judge([(window, profile_partitions(group, placed, [window])[0])])
    return {result.name: result for result in results}


def after(group: FeatureGroup, days: int, baselines: dict[str, Baseline] | None = None) -> PartitionMonitor:
    monitor = PartitionMonitor(group, baselines or {})
    for number in range(days):
        assert all(result.passed for result in judge(monitor, group, number, values(number)).values())
    return monitor


def with_value(day: pl.DataFrame, column: str, value: float | None, count: int = ROWS) -> pl.DataFrame:
    place = pl.int_range(pl.len()) < count
    return day.with_columns(pl.when(place).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


def told(results: dict[str, CheckResult]) -> list[tuple[str, str, str, str | None]]:
    return [(name, each.kind, each.level, each.feature) for name, result in results.items() for each in result.findings]


@pytest.mark.parametrize("days", [0, 3, 30])
@pytest.mark.parametrize("count", [1, 20, ROWS])
@pytest.mark.parametrize("infinity", [INFINITY, -INFINITY])
def test_infinities_are_a_finding_with_or_without_history(group, days, count, infinity):
    results = judge(after(group, days), group, days, with_value(values(days), "ratio", infinity, count))
    # One value may be chance, a tenth of them is none. Without anything to compare with it is a warning.
    level = "alert" if days and count > 1 else "warn"
    assert told(results) == [("null_rate", "infinite", level, "ratio")]
    assert f"{count} of 200 values are infinite" in results["null_rate"].summary
    assert results["null_rate"].numbers["infinite_rate/ratio"] == count / ROWS
    assert results["null_rate"].numbers["null_rate/ratio"] == 0


def test_a_vector_with_an_infinite_element_is_infinite(group):
    day = values(30).with_columns(
        pl.when(pl.int_range(pl.len()) < 9)
        .then(pl.lit([1.0, INFINITY], dtype=pl.Array(pl.Float32, 2)))
        .otherwise("taste")
        .alias("taste")
    )
    assert told(judge(after(group, 30), group, 30, day)) == [("null_rate", "infinite", "alert", "taste")]


def test_infinities_like_the_baselines_are_calm_and_more_of_them_are_not(group):
    trained = with_value(values(99, 2000), "ratio", INFINITY, 40)
    monitor = after(group, 30, {"ratio": Baseline("churn v1", profile_column(trained["ratio"]))})
    assert told(judge(monitor, group, 30, with_value(values(30), "ratio", INFINITY, 4))) == []
    found = judge(monitor, group, 31, with_value(values(31), "ratio", INFINITY, 30))
    assert told(found) == [("null_rate", "infinite", "alert", "ratio")]
    assert "2.0% in the baseline" in found["null_rate"].summary


def test_a_schema_may_allow_infinities_which_then_count_as_nulls(group):
    monitor = after(group, 30)
    assert told(judge(monitor, group, 30, with_value(values(30), "free", INFINITY, 2))) == []
    found = judge(monitor, group, 31, with_value(values(31), "free", INFINITY, 60))
    assert told(found) == [("null_rate", "nulls", "alert", "free")]
    assert "30.0% are null or infinite" in found["null_rate"].summary


def test_the_declared_null_rate_counts_both(group):
    day = with_value(with_value(values(0), "bounded", None, 5), "bounded", INFINITY, 3)
    found = judge(PartitionMonitor(group, {}), group, 0, day)
    assert told(found) == [("null_rate", "nulls", "alert", "bounded")]
    assert "2.5% are null or infinite, 2.0% allowed" in found["null_rate"].summary


def test_infinities_that_stay_are_how_things_are_now(group):
    monitor = after(group, 30)
    outcomes = [
        told(judge(monitor, group, day, with_value(values(day), "ratio", INFINITY, 3)))
        for day in range(30, 32 + NEW_NORMAL)
    ]
    assert all(outcomes[:NEW_NORMAL])
    assert not any(outcomes[NEW_NORMAL:])


@pytest.mark.parametrize("days", [1, 3, 30])
@pytest.mark.parametrize("column", ["ratio", "kind", "taste"])
def test_a_day_of_nulls_is_a_finding_from_the_second_day_on(group, days, column):
    day = values(days).with_columns(pl.lit(None).cast(values(0)[column].dtype).alias(column))
    results = judge(after(group, days), group, days, day)
    assert told(results) == [("null_rate", "nulls", "alert", column)]
    assert f"{column}: 100.0% are null" in results["null_rate"].summary


def test_a_feature_that_was_null_for_weeks_gets_a_baseline_of_its_own_once_it_has_values(group):
    monitor = PartitionMonitor(group, {})
    for number in range(30):
        assert told(judge(monitor, group, number, with_value(values(number), "ratio", None))) == []
    for number in range(30, 70):
        assert told(judge(monitor, group, number, values(number))) == []
    moved = values(70).with_columns(pl.col("ratio") + 1)
    assert ("drift", "mean", "alert", "ratio") in told(judge(monitor, group, 70, moved))


def test_a_constant_is_calm_however_it_is_rounded_and_a_change_of_it_is_found(group):
    monitor = PartitionMonitor(group, {})
    for number in range(60):
        spellings = (0.3, 0.1 + 0.2, 0.3 - 1e-16, 3 * 0.1)
        day = values(number).with_columns(pl.Series("ratio", [spellings[number % 4]] * ROWS))
        results = judge(monitor, group, number, day)
        assert told(results) == []
        assert abs(results["drift"].numbers.get("z/ratio", 0.0)) < 1
    changed = values(60).with_columns(pl.lit(0.3001).alias("ratio"))
    assert told(judge(monitor, group, 60, changed)) == [("drift", "mean", "alert", "ratio")]
