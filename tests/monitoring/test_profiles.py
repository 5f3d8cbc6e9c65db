"""Profiles against brute force, whatever the values."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import mean, stdev

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_store.definitions.dtypes import STRING, list_of
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.monitor import Monitor
from feature_store.definitions.schema import Embedding, FeatureSchema, feature
from feature_store.monitoring import profile as profiling
from feature_store.monitoring.baseline import DECILES, profile_column, reach
from feature_store.monitoring.profile import FeatureProfile, PartitionProfile, profile_partitions, profile_values
from feature_store.monitoring.quantiles import Quantiles, merged_quantiles
from feature_store.monitoring.reference import merged
from feature_store.monitoring.watchers import watcher
from feature_store.partitions import Window
from tests.orders import START, Orders, orders

NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0]))


class Everything(FeatureSchema):
    price: float = feature("A number.")
    count: int = feature("A count.")
    kind: str = feature("A text.")
    is_new: bool = feature("A boolean.")
    taste: Embedding = feature("A vector.", dimension=2)


def everything() -> FeatureGroup:
    @feature_group(entity=Entity("user", {"user": str}), source=Orders(orders()), schema=Everything, owner="team")
    def everything(events: pl.LazyFrame) -> pl.LazyFrame:
        """All dtypes."""
        return events

    return everything


GROUP = everything()
ROW = st.fixed_dictionaries(
    {
        "user": st.sampled_from("abc"),
        "minutes": st.integers(0, 3 * 24 * 60 - 1),
        "price": st.none() | NUMBERS | st.sampled_from([float("inf"), float("-inf")]),
        "count": st.none() | st.integers(-3, 3),
        "kind": st.none() | st.sampled_from(["x", "y"]),
        "is_new": st.none() | st.booleans(),
        "taste": st.none() | st.lists(st.floats(-8, 8, width=32) | st.just(float("inf")), min_size=2, max_size=2),
    }
)


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    table = pl.DataFrame(
        rows,
        schema={
            "user": pl.String,
            "minutes": pl.Int64,
            "price": pl.Float64,
            "count": pl.Int64,
            "kind": pl.String,
            "is_new": pl.Boolean,
            "taste": pl.Array(pl.Float32, 2),
        },
    )
    moment = pl.lit(START) + pl.duration(minutes="minutes")
    return table.with_columns(moment.dt.cast_time_unit("us").alias("event_timestamp")).drop("minutes")


@settings(max_examples=25, deadline=None)
@given(st.lists(ROW, max_size=30, unique_by=lambda row: (row["user"], row["minutes"])))
def test_a_profile_is_what_python_counts(rows):
    windows = list(GROUP.partitioning.windows(Window(START, START + timedelta(days=3))))
    profiles = profile_partitions(GROUP, frame(rows), windows)
    for day, profile in enumerate(profiles):
        inside = sorted((row for row in rows if row["minutes"] // 1440 == day), key=lambda row: row["minutes"])
        assert profile.rows == len(inside)
        assert profile.entities == len({row["user"] for row in inside})
        assert profile.followers == profile.rows - profile.entities
        if not inside:
            assert profile.last_event is None
            continue
        assert profile.last_event == START + timedelta(minutes=inside[-1]["minutes"])
        for column, seen in profile.features.items():
            values = [row[column] for row in inside]
            assert (seen.rows, seen.nulls) == (len(values), values.count(None))
            assert seen.infinite == sum(is_infinite(value) for value in values)
            assert seen.known == len(values) - seen.missing
            assert seen.repeats == repeats(inside, column)
        prices = [row["price"] for row in inside if row["price"] is not None and abs(row["price"]) < float("inf")]
        price = profile.features["price"]
        if prices:
            assert price.mean == pytest.approx(mean(prices), abs=1e-6)
            assert (price.minimum, price.maximum) == (min(prices), max(prices))
            assert price.quantiles is not None
            assert price.quantiles.size == len(prices)
        if len(prices) > 1:
            assert price.stddev == pytest.approx(stdev(prices), abs=1e-6)
        kinds = [row["kind"] for row in inside if row["kind"] is not None]
        assert profile.features["kind"].categories == {kind: kinds.count(kind) for kind in kinds}
        flags = [row["is_new"] for row in inside if row["is_new"] is not None]
        assert profile.features["is_new"].categories == {str(flag).lower(): flags.count(flag) for flag in flags}
        assert sum(profile.features["kind"].buckets) == len(kinds)
        vectors = [row["taste"] for row in inside if row["taste"] is not None and not is_infinite(row["taste"])]
        if vectors:
            assert profile.features["taste"].centroid == pytest.approx(np.mean(vectors, axis=0), abs=1e-5)
            norms = [float(np.linalg.norm(vector)) for vector in vectors]
            assert profile.features["taste"].norm_mean == pytest.approx(mean(norms), abs=1e-5)
        assert msgspec.json.decode(msgspec.json.encode(profile), type=PartitionProfile) == profile
    alone = [profile_partitions(GROUP, of_day(frame(rows), window), [window])[0] for window in windows]
    assert alone == profiles


def is_infinite(value: object) -> bool:
    return any(each in (float("inf"), float("-inf")) for each in (value if isinstance(value, list) else [value]))


def repeats(rows: list[dict[str, object]], column: str) -> int:
    last: dict[object, object] = {}
    count = 0
    for row in rows:
        count += row["user"] in last and last[row["user"]] == row[column]
        last[row["user"]] = row[column]
    return count


def of_day(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    return rows.filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))


def test_quantiles_of_many_rows_come_from_a_part_of_them(monkeypatch):
    monkeypatch.setattr(profiling, "SKETCHED_ROWS", 1000)
    rng = np.random.default_rng(3)
    count = 20_000
    rows = pl.DataFrame(
        {
            "user": [f"u{number}" for number in range(count)],
            "event_timestamp": pl.Series([START] * count, dtype=pl.Datetime("us", "UTC")),
            "price": rng.normal(0, 1, count),
            "count": pl.Series([1] * count, dtype=pl.Int64),
            "kind": pl.Series([None] * count, dtype=pl.String),
            "is_new": pl.Series([None] * count, dtype=pl.Boolean),
            "taste": pl.Series([None] * count, dtype=pl.Array(pl.Float32, 2)),
        }
    )
    (profile,) = profile_partitions(GROUP, rows, [GROUP.partitioning.window("2024-03-01")])
    sketch = profile.features["price"].quantiles
    assert sketch is not None
    assert sketch.size <= 1000
    assert sketch.through_shares(np.array([0.0]))[0] == pytest.approx(0.5, abs=0.05)
    assert profile.features["price"].mean == pytest.approx(rows["price"].mean())


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.lists(NUMBERS, max_size=10))
def test_a_sketch_is_exact_at_its_points_and_close_between_them(values, others):
    ascending = np.sort(np.array(values))
    sketch = Quantiles.of(ascending)
    assert sketch is not None
    points = np.array(sketch.points)
    exact = np.searchsorted(ascending, points, side="right") / len(values)
    assert sketch.through_shares(points) == pytest.approx(exact)
    somewhere = np.array([*others, -1e9, 1e9])
    true = np.searchsorted(ascending, somewhere, side="right") / len(values)
    assert np.abs(sketch.through_shares(somewhere) - true).max() <= 1 / 20 + 1e-9
    edges = np.unique(others).tolist()
    counts = sketch.counts(edges)
    assert len(counts) == len(edges) + 1
    assert counts.sum() == pytest.approx(len(values))
    assert (counts >= -1e-9).all()


def test_no_numbers_have_no_sketch():
    assert Quantiles.of(np.array([])) is None


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=80), min_size=1, max_size=6))
@example([[999_999.9999999999, 1_000_000.0]])
@example([[999_999.9999999999], [1_000_000.0, 3.0]])
def test_sketches_together_have_about_the_deciles_of_all_values(parts):
    sketches = [sketch for part in parts if (sketch := Quantiles.of(np.sort(np.array(part)))) is not None]
    together = np.sort(np.concatenate([np.array(part) for part in parts]))
    edges, counts = merged_quantiles(sketches, DECILES)
    assert edges == sorted(set(edges))
    assert sum(counts) == pytest.approx(len(together))
    for edge, count in zip(edges, np.cumsum(counts), strict=False):
        # What differs from an edge by rounding alone lies in its bin.
        true = np.searchsorted(together, reach([edge])[0], side="right")
        assert abs(count - true) / len(together) <= 1 / 20 + 1e-9


def test_partitions_together_are_profiled_as_if_they_were_one():
    rng = np.random.default_rng(5)
    rows = [
        {
            "user": f"u{number}",
            "minutes": int(rng.integers(0, 3 * 1440)),
            "price": float(rng.normal(3, 2)) if number % 50 else float("inf"),
            "count": int(rng.integers(0, 4)),
            "kind": str(rng.choice(["x", "y", "z"], p=[0.6, 0.3, 0.1])),
            "is_new": bool(rng.random() < 0.2),
            "taste": [float(rng.normal(1, 1)), float(rng.normal(-1, 1))],
        }
        for number in range(3000)
    ]
    table = frame(rows)
    windows = list(GROUP.partitioning.windows(Window(START, START + timedelta(days=3))))
    profiles = profile_partitions(GROUP, table, windows)
    for column in ("price", "count", "kind", "is_new", "taste"):
        whole, parts = profile_column(table[column]), merged([profile.features[column] for profile in profiles])
        assert (parts["n"], parts["nulls"]) == (whole["n"], whole["nulls"])
        for name in ("mean", "stddev", "minimum", "maximum", "norm_mean", "norm_stddev"):
            if name in whole:
                assert parts[name] == pytest.approx(whole[name], rel=1e-5)
        if "edges" in whole:
            assert parts["edges"] == pytest.approx(whole["edges"], abs=0.2)
            assert parts["counts"] == pytest.approx(whole["counts"], rel=0.2)
        if "categories" in whole:
            assert parts["categories"] == whole["categories"]
            assert parts["buckets"] == whole["buckets"]
        assert parts["infinite"] == whole["infinite"] == (whole["n"] // 50 if column == "price" else 0)
        if "centroid" in whole:
            assert parts["centroid"] == pytest.approx(whole["centroid"], abs=1e-5)


def test_a_partition_without_rows_has_an_empty_profile():
    window = GROUP.partitioning.window("2024-03-02")
    (profile,) = profile_partitions(GROUP, frame([]), [window])
    assert (profile.rows, profile.entities, profile.last_event) == (0, 0, None)
    assert profile.features["price"].null_rate == 0
    assert datetime(2024, 3, 2, tzinfo=UTC) == window.start


class Collections(FeatureSchema):
    day: date = feature("A day.")
    spent: Decimal = feature("Money.")
    kinds: list[str] = feature("Texts.")
    amounts: dict[str, float] = feature("Numbers by text.")


def test_dates_and_decimals_are_numbers_and_collections_have_lengths_and_elements():
    @feature_group(entity=Entity("user", {"user": str}), source=Orders(orders()), schema=Collections, owner="team")
    def collections(events: pl.LazyFrame) -> pl.LazyFrame:
        """What is no plain number."""
        return events

    rows = pl.DataFrame(
        {
            "user": ["a", "b", "a", "c"],
            "event_timestamp": [START + timedelta(minutes=minute) for minute in range(4)],
            "day": [date(1970, 1, 2), date(1970, 1, 4), None, date(1970, 1, 4)],
            "spent": [Decimal("1.50"), Decimal("2.50"), None, Decimal("2.50")],
            "kinds": [["x", "y"], [], None, ["x"]],
            "amounts": [
                [{"key": "k", "value": 2.0}],
                [{"key": "k", "value": 4.0}, {"key": "l", "value": 6.0}],
                [],
                [{"key": "k", "value": float("inf")}],
            ],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC"), "spent": pl.Decimal(38, 2)},
    )
    [found] = profile_partitions(collections, rows, [Window(START, START + timedelta(days=1))])
    day, spent, kinds, amounts = (found.features[name] for name in ("day", "spent", "kinds", "amounts"))
    assert (day.mean, day.minimum, day.maximum, day.nulls) == (pytest.approx(7 / 3), 1.0, 3.0, 1)
    assert (spent.mean, spent.maximum) == (pytest.approx(6.5 / 3), 2.5)
    assert (kinds.mean, kinds.maximum, kinds.nulls) == (1.0, 2.0, 1)
    assert (amounts.mean, amounts.infinite) == (1.0, 1)
    assert kinds.elements is not None
    assert kinds.elements.categories == {"x": 2, "y": 1}
    assert amounts.elements is not None
    assert (amounts.elements.rows, amounts.elements.mean, amounts.elements.infinite) == (4, 4.0, 1)
    # A baseline is the same whether it is made of the values or of their partitions.
    for column in ("day", "spent", "kinds", "amounts"):
        whole, parts = profile_column(rows[column]), merged([found.features[column]])
        shared = ("n", "nulls", "infinite", "minimum", "maximum", "edges", "counts")
        assert {name: parts[name] for name in shared} == {name: whole[name] for name in shared}
        assert parts["mean"] == pytest.approx(whole["mean"])
    assert profile_column(rows["kinds"])["elements"]["categories"] == {"x": 2, "y": 1}


def test_the_elements_of_lists_are_watched():
    def partition(words: list[str], length: int) -> FeatureProfile:
        values = pl.DataFrame(
            {"kinds": [[words[(row + place) % len(words)] for place in range(length)] for row in range(200)]}
        )
        return profile_values({"kinds": list_of(STRING)}, values)["kinds"]

    usual = [partition(["x", "y", "z"], 3) for _ in range(30)]
    judge = watcher("kinds", list_of(STRING), Monitor(), merged(usual), 7, 1e-4)
    assert judge is not None
    assert [judge.see(each, 200, 0).finding for each in usual] == [None] * 30
    finding = judge.see(partition(["x", "q", "q", "q"], 3), 200, 0).finding
    assert finding is not None
    assert finding.text.startswith("the elements of kinds: ")
