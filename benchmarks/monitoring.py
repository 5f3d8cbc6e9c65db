"""What monitoring costs, and how often it is wrong: a million rows, and the year of flights.

python benchmarks/monitoring.py speed     seconds per million rows x 10 features, all checks of a partition
python benchmarks/monitoring.py alarms    alarms over the year of flights, by check
python benchmarks/monitoring.py faults    planted faults: which check catches them, on 25 days per feature
python benchmarks/monitoring.py swaps     swapped categories, likewise
python benchmarks/monitoring.py log       what the request log costs per request
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_assets.flights import FEATURE_GROUPS, plane_profile
from feature_assets.flights.events import EVENTS, flight_arrivals
from feature_store.clock import SystemClock
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.monitoring.baseline import profile_column
from feature_store.monitoring.checks import PartitionMonitor
from feature_store.monitoring.profile import PartitionProfile, profile_partitions
from feature_store.monitoring.reference import Baseline
from feature_store.partitions import Window
from feature_store.sources import ParquetSource

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 1_000_000
HISTORY = 56
DAYS_TRIED = 25
SWAPS = [
    ("manufacturer", "BOEING", "AIRBUS INDUSTRIE"),
    ("manufacturer", "BOEING", "Boeing Co."),
    ("model", "A320-232", "?"),
]


class Ten(FeatureSchema):
    """Ten features of one kind."""

    f0: float = feature("normal")
    f1: float = feature("normal")
    f2: float = feature("normal")
    f3: float = feature("normal")
    f4: float = feature("normal")
    f5: float = feature("normal")
    f6: float = feature("normal")
    f7: int = feature("count")
    f8: int = feature("count")
    f9: str = feature("category")


@feature_group(
    entity=Entity("user", {"user": str}),
    source=ParquetSource("none", root="/nowhere", start=START, description="none"),
    schema=Ten,
    owner="benchmark",
)
def ten(events: pl.LazyFrame) -> pl.LazyFrame:
    """Ten features."""
    return events


def rows_of(day: int, rows: int, entities: int) -> pl.DataFrame:
    rng = np.random.default_rng(day)
    moment = (START + timedelta(days=day)).replace(tzinfo=None)
    seconds = np.sort(rng.integers(0, 86_400, rows)).astype("timedelta64[s]")
    return pl.DataFrame(
        {
            "user": pl.Series(rng.integers(0, entities, rows)).cast(pl.String),
            "event_timestamp": pl.Series(np.datetime64(moment, "us") + seconds).dt.replace_time_zone("UTC"),
            **{f"f{number}": rng.normal(number, 1, rows) for number in range(7)},
            "f7": rng.poisson(3, rows),
            "f8": rng.poisson(30, rows),
            "f9": pl.Series(np.array(["a", "b", "c", "d"])[rng.integers(0, 4, rows)]),
        }
    )


def speed() -> None:
    windows = [Window(START + timedelta(days=day), START + timedelta(days=day + 1)) for day in range(HISTORY + 1)]
    monitor = PartitionMonitor(ten, {})
    history = [
        (windows[day], profile_partitions(ten, rows_of(day, 2000, 500), [windows[day]])[0]) for day in range(HISTORY)
    ]
    monitor.judge(history)
    for entities in (ROWS // 2, ROWS * 1000):
        rows = rows_of(HISTORY, ROWS, entities)
        measured, spent = [], []
        for _ in range(5):
            processor = time.process_time()
            started = time.perf_counter()
            (profile,) = profile_partitions(ten, rows, [windows[HISTORY]])
            profiled = time.perf_counter()
            copied = copy.deepcopy(monitor)
            judging = time.perf_counter()
            copied.judge([(windows[HISTORY], profile)])
            measured.append((profiled - started, time.perf_counter() - judging))
            spent.append(time.process_time() - processor)
        profiling, judged = (statistics.median(seconds) for seconds in zip(*measured, strict=True))
        print(
            f"{ROWS:,} rows x 10, {profile.entities:,} entities, median of {len(measured)}: profile {profiling:.2f} s, "
            f"judge {judged * 1000:.1f} ms, {statistics.median(spent):.2f} CPU s"
        )


def year(group: FeatureGroup) -> tuple[pl.DataFrame, list[tuple[Window, PartitionProfile]]]:
    rows = group.transform(EVENTS[group.source.name]().lazy()).collect()
    windows = list(group.partitioning.windows(Window(group.start, group.end)))
    return rows, list(zip(windows, profile_partitions(group, rows, windows), strict=True))


def alarms() -> None:
    for source in ("first weeks", "training set"):
        failed, judged, listed = Counter(), Counter(), []
        started = time.perf_counter()
        for group in FEATURE_GROUPS:
            rows, partitions = year(group)
            known = {}
            if source == "training set":
                known = {
                    spec.ref.column: Baseline("the year", profile_column(rows[spec.ref.column]))
                    for spec in group.features
                }
            for (window, _), results in zip(partitions, PartitionMonitor(group, known).judge(partitions), strict=True):
                for result in results:
                    judged[result.name] += 1
                    failed[result.name] += not result.passed
                    listed += [(window.start.date(), group.name, result.name, each.text) for each in result.findings]
        print(f"\nbaseline: {source} ({time.perf_counter() - started:.0f} s)")
        for name, count in judged.items():
            print(f"  {name:10} {failed[name]:3} of {count:,} = {failed[name] / count:.2%}")
        for day, *rest in sorted(listed):
            print("   ", day, *rest)


def faults() -> None:
    rng = np.random.default_rng(1)
    caught: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wanted = {
        "10% nulls": "nulls", "x 60": "scale", "/ 60": "scale", "x 1.609": "scale", "stuck": "stuck",
        "+1 sd": "mean", "+2 sd": "mean", "-2 sd": "mean",
    }  # fmt: skip
    for group in FEATURE_GROUPS:
        rows, partitions = year(group)
        numbers = [spec.ref.column for spec in group.features if spec.dtype.name in {"float", "int"}]
        if group.name == "plane_profile" or not numbers:
            continue
        by_day = dict(rows.group_by(pl.col("event_timestamp").dt.truncate("1d")).__iter__())
        tried = set(rng.choice(np.arange(40 + group.lookback.days, 355), DAYS_TRIED, replace=False).tolist())
        warm = [profile for window, profile in partitions if window.start >= group.start + group.lookback]
        monitor = PartitionMonitor(group, {}, warm[:28])
        for position, (window, profile) in enumerate(partitions):
            if position in tried and not any(
                each.findings for each in copy.deepcopy(monitor).judge([(window, profile)])[0]
            ):
                for column in numbers:
                    value, deviation = pl.col(column).cast(pl.Float64), rows[column].std()
                    planted = {
                        "10% nulls": pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise(value),
                        "x 60": value * 60, "/ 60": value / 60, "x 1.609": value * 1.609,
                        "stuck": pl.lit(rows[column].median()).cast(pl.Float64),
                        "+1 sd": value + deviation, "+2 sd": value + 2 * deviation, "-2 sd": value - 2 * deviation,
                    }  # fmt: skip
                    for name, fault in planted.items():
                        faulty = by_day[(window.start,)].with_columns(fault.alias(column))
                        (seen,) = profile_partitions(group, faulty, [window])
                        (results,) = copy.deepcopy(monitor).judge([(window, seen)])
                        kinds = [(each.kind, each.feature) for result in results for each in result.findings]
                        right = kinds == [(wanted[name], column)]
                        caught[group.name, name]["right" if right else "none" if not kinds else "other"] += 1
            monitor.judge([(window, profile)])
    print(f"{'group':20}{'fault':12}{'by its own check alone':>24}{'by none':>9}{'otherwise':>11}")
    for (name, fault), outcome in caught.items():
        print(
            f"{name:20}{fault:12}{outcome['right']:>18} of {outcome.total():<3}"
            f"{outcome['none']:>8}{outcome['other']:>11}"
        )


def swaps() -> None:
    """Swaps two categories; the registry of aircraft counts as if it sent each day those that have landed."""
    registry = plane_profile.transform(EVENTS[plane_profile.source.name]().lazy()).collect().drop("event_timestamp")
    landed = flight_arrivals().select("tailnum", pl.col("event_timestamp").dt.truncate("1d")).unique()
    rows = landed.join(registry, on="tailnum").sort("event_timestamp", "tailnum")
    windows = list(plane_profile.partitioning.windows(Window(plane_profile.start, plane_profile.end)))
    by_day = dict(rows.group_by("event_timestamp").__iter__())
    tried = set(np.random.default_rng(1).choice(np.arange(40, 355), DAYS_TRIED, replace=False).tolist())
    monitor = PartitionMonitor(plane_profile, {})
    caught: dict[str, Counter[str]] = defaultdict(Counter)
    for position, (window, profile) in enumerate(
        zip(windows, profile_partitions(plane_profile, rows, windows), strict=True)
    ):
        if position in tried:
            for column, one, other in SWAPS:
                faulty = by_day[(window.start,)].with_columns(pl.col(column).replace({one: other, other: one}))
                (seen,) = profile_partitions(plane_profile, faulty, [window])
                (results,) = copy.deepcopy(monitor).judge([(window, seen)])
                kinds = [(each.kind, each.feature) for result in results for each in result.findings]
                outcome = "right" if kinds == [("category", column)] else "none" if not kinds else "other"
                caught[f"{column}: {one} for {other}"][outcome] += 1
        monitor.judge([(window, profile)])
    for name, outcomes in caught.items():
        print(f"{name:45} {outcomes['right']} of {outcomes.total()}, none {outcomes['none']}, {outcomes['other']}")


def log() -> None:
    from feature_store.catalog import Feature, Selection
    from feature_store.definitions.dtypes import FLOAT
    from feature_store.definitions.names import FeatureRef
    from feature_store.monitoring.request_log import MOST_WAITING, RequestLog

    selections = [
        Selection(f"f{n}", Feature(n, FeatureRef(f"f{n}", 1), "user", FLOAT, "", "", 1, {}, "ten", START))
        for n in range(10)
    ]
    answer = [{selection.label: 1.0 for selection in selections}]
    with tempfile.TemporaryDirectory() as folder:
        for rate in (0.01, 1.0):
            kept, seconds = RequestLog(folder, SystemClock(), rate=rate), 0.0
            for _ in range(100):
                started = time.perf_counter()
                for _ in range(MOST_WAITING):
                    kept.offer(["user_1"], selections, answer)
                seconds += time.perf_counter() - started
                kept.flush()
            print(f"rate {rate}: {seconds / 100 / MOST_WAITING * 1e6:.2f} us per request, {kept.dropped} dropped")
            kept.close()


if __name__ == "__main__":
    {"speed": speed, "alarms": alarms, "faults": faults, "swaps": swaps, "log": log}[
        sys.argv[1] if len(sys.argv) > 1 else "speed"
    ]()
