"""How often the checks of a partition are wrong by chance, and what they find: days drawn from known distributions.

python benchmarks/drift.py alarms [ROWS DAYS]   days of one distribution: alarms by check, of which there should be none
python benchmarks/drift.py power                planted faults: on how many of 100 days each is found
"""

from __future__ import annotations

import copy
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.monitoring.baseline import profile_column
from feature_store.monitoring.checks import PartitionMonitor
from feature_store.monitoring.findings import CheckResult
from feature_store.monitoring.profile import PartitionProfile, profile_partitions
from feature_store.monitoring.reference import Baseline
from feature_store.partitions import Window
from feature_store.sources import ParquetSource

START = datetime(2024, 1, 1, tzinfo=UTC)
WARM_UP = 35
"""Days that are learnt from before any is counted: a season more than a forecast looks back on."""

RUN = 400
"""Days after which monitor and baseline are drawn anew: the luck of one baseline is not that of all days."""

ROWS_AT_ONCE = 400_000
TRAINED_ROWS = (1_000, None)
"""Rows of the training set that is the baseline; None for the group's own first weeks."""

ALARMS = ((20, 20_000), (100, 10_000), (1_000, 10_000), (10_000, 1_000), (100_000, 200))
"""Rows of a day, and days for each kind of baseline."""

TRIALS = 100
POWER_ROWS = (100, 1_000, 10_000)


class Drawn(FeatureSchema):
    """One feature per distribution."""

    normal: float = feature("Normal.")
    skewed: float = feature("Lognormal, sigma 1.")
    long_tailed: float = feature("Lognormal, sigma 2.")
    zero_inflated: float = feature("Nine of ten are 0, else exponential.")
    count: int = feature("Poisson, 3.")
    constant: float = feature("One tenth.")
    few: str = feature("Four categories, of 60, 30, 9 and 1 percent.")
    many: str = feature("300 equally common categories.")
    very_many: str = feature("30,000 equally common categories.")
    flag: bool = feature("True in one row of 50.")
    with_nulls: float = feature("Normal, one in ten is null.")
    with_infinities: float = feature("Normal, one in 50 is infinite.")


@feature_group(
    entity=Entity("user", {"user": str}),
    source=ParquetSource("none", root="/nowhere", start=START, description="none"),
    schema=Drawn,
    owner="benchmark",
)
def drawn(events: pl.LazyFrame) -> pl.LazyFrame:
    """Values drawn at random."""
    return events


def values(rng: np.random.Generator, size: int) -> pl.DataFrame:
    """Returns independent values of each distribution."""
    return pl.DataFrame(
        {
            "normal": rng.normal(50, 10, size),
            "skewed": rng.lognormal(0, 1, size),
            "long_tailed": rng.lognormal(0, 2, size),
            "zero_inflated": np.where(rng.random(size) < 0.9, 0.0, rng.exponential(1, size)),
            "count": rng.poisson(3, size),
            "constant": np.full(size, 0.1),
            "few": pl.Series(np.array(["a", "b", "c", "d"])[rng.choice(4, size, p=[0.6, 0.3, 0.09, 0.01])]),
            "many": pl.Series(rng.integers(0, 300, size)).cast(pl.String),
            "very_many": pl.Series(rng.integers(0, 30_000, size)).cast(pl.String),
            "flag": rng.random(size) < 0.02,
            "with_nulls": pl.Series(np.where(rng.random(size) < 0.1, np.nan, rng.normal(0, 1, size))).fill_nan(None),
            "with_infinities": np.where(rng.random(size) < 0.02, np.inf, rng.normal(0, 1, size)),
        }
    )


def day_of(number: int) -> Window:
    return Window(START + timedelta(days=number), START + timedelta(days=number + 1))


def profiled(rows: pl.DataFrame, first: int, days: int) -> list[tuple[Window, PartitionProfile]]:
    """Profiles equally many rows per day as the days from a number on; each row is of another entity."""
    size = rows.height // days
    moments = np.datetime64(START.replace(tzinfo=None), "us") + np.repeat(
        np.arange(first, first + days).astype("timedelta64[D]"), size
    )
    placed = rows.with_columns(
        pl.Series(np.tile(np.arange(size), days)).cast(pl.String).alias("user"),
        pl.Series(moments).dt.replace_time_zone("UTC").alias("event_timestamp"),
    )
    windows = [day_of(number) for number in range(first, first + days)]
    return list(zip(windows, profile_partitions(drawn, placed, windows), strict=True))


def monitor_of(rng: np.random.Generator, trained_rows: int | None) -> PartitionMonitor:
    """Returns a monitor with the baseline of a training set of so many rows, or without one."""
    if trained_rows is None:
        return PartitionMonitor(drawn, {})
    rows = values(rng, trained_rows)
    known = {column.name: Baseline("training set", profile_column(column)) for column in rows}
    return PartitionMonitor(drawn, known)


def false_alarms(
    rng: np.random.Generator, rows: int, days: int, trained_rows: int | None
) -> tuple[Counter[str], list[str]]:
    """Returns how many days of one distribution each check failed on, and what it said.

    Args:
        rng: Draws.
        rows: Rows of a day.
        days: Days to count, beside those to warm up.
        trained_rows: See `monitor_of`.
    """
    failed: Counter[str] = Counter()
    texts: list[str] = []
    counted = 0
    while counted < days:
        monitor = monitor_of(rng, trained_rows)
        total = WARM_UP + min(RUN, days - counted)
        step = max(WARM_UP, min(total, ROWS_AT_ONCE // rows)) if trained_rows is None else max(1, ROWS_AT_ONCE // rows)
        for first in range(0, total, step):
            several = min(step, total - first)
            judged = monitor.judge(profiled(values(rng, rows * several), first, several))
            for number, results in enumerate(judged, start=first):
                if number >= WARM_UP:
                    failed.update(result.name for result in results if not result.passed)
                    texts += [finding.text for result in results for finding in result.findings]
        counted += total - WARM_UP
    return failed, texts


Faults = Mapping[str, Mapping[str, pl.Expr]]


def faults() -> Faults:
    """Returns what is planted, by name: expressions by the column that they replace."""
    part = pl.int_range(pl.len()) / pl.len()
    numbers = ("normal", "skewed", "long_tailed", "zero_inflated")
    deviation = {"normal": 10.0, "skewed": 2.161, "long_tailed": 54.1, "zero_inflated": 0.436}
    return {
        "mean + half a deviation": {name: pl.col(name) + deviation[name] / 2 for name in numbers},
        "spread x 2 about the mean": {"normal": 50 + (pl.col("normal") - 50) * 2},
        "another unit (x 60)": {name: pl.col(name) * 60 for name in numbers},
        "nulls + 8 points": {
            "normal": pl.when(part >= 0.08).then(pl.col("normal")),  # of none
            "with_infinities": pl.when(part >= 0.08 / 0.98).then(pl.col("with_infinities")),  # of 2 percent
            "with_nulls": pl.when(part >= 0.08 / 0.9).then(pl.col("with_nulls")),  # of 10 percent
        },
        "all null": {name: pl.lit(None, dtype=pl.Float64) for name in ("normal", "constant", "with_nulls")},
        "one value in 100 infinite": {"normal": pl.when(part < 0.01).then(np.inf).otherwise(pl.col("normal"))},
        "constant has another value": {"constant": pl.lit(0.11)},
        "two of four categories swapped": {"few": pl.col("few").replace({"a": "b", "b": "a"})},
        "categories in capitals, or renamed": {
            "few": pl.col("few").str.to_uppercase(),
            "many": "c" + pl.col("many"),
            "very_many": "c" + pl.col("very_many"),
        },
        "the 300 become the first 30": {"many": (pl.col("many").cast(pl.Int64) % 30).cast(pl.String)},
        "true in one of 5": {"flag": part < 0.2},
    }


def power(rng: np.random.Generator, rows: int, trials: int, trained_rows: int | None) -> dict[str, dict[str, int]]:
    """Returns on how many days each planted fault is found, by its name and the feature."""
    found: dict[str, dict[str, int]] = {name: dict.fromkeys(replaced, 0) for name, replaced in faults().items()}
    for trial in range(trials):
        if trial % 25 == 0:
            monitor = monitor_of(rng, trained_rows)
            monitor.judge(profiled(values(rng, rows * WARM_UP), 0, WARM_UP))
        day = values(rng, rows)
        for name, replaced in faults().items():
            planted = day.with_columns(expression.alias(column) for column, expression in replaced.items())
            [results] = copy.deepcopy(monitor).judge(profiled(planted, WARM_UP, 1))
            for column in found_in(results) & replaced.keys():
                found[name][column] += 1
    return found


def found_in(results: list[CheckResult]) -> set[str | None]:
    return {finding.feature for result in results for finding in result.findings}


def print_alarms(plan: tuple[tuple[int, int], ...]) -> None:
    for rows, days in plan:
        for trained_rows in TRAINED_ROWS:
            started = time.perf_counter()
            failed, texts = false_alarms(np.random.default_rng(rows), rows, days, trained_rows)
            baseline = "first weeks" if trained_rows is None else f"{trained_rows:,} rows"
            rates = ", ".join(f"{name} {failed[name]}" for name in ("null_rate", "row_count", "drift"))
            rates += f" ({time.perf_counter() - started:.0f} s)"
            print(f"{rows:>9,} rows, {days:>7,} days, baseline {baseline}: {rates}")
            for text in texts:
                print("      ", text)


def print_power() -> None:
    print(f"found on so many of {TRIALS} days; baseline: first weeks / training set of 1,000 rows")
    for rows in POWER_ROWS:
        own, trained = (power(np.random.default_rng(rows), rows, TRIALS, known) for known in (None, 1_000))
        print(f"\n{rows:,} rows")
        for name, replaced in faults().items():
            for column in replaced:
                print(f"{name:36}{column:18}{own[name][column]:>5} / {trained[name][column]}", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["alarms"]:
            print_alarms(ALARMS)
        case ["alarms", rows, days]:
            print_alarms(((int(rows), int(days)),))
        case ["power"]:
            print_power()
        case _:
            sys.exit(__doc__)
