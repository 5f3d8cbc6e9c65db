"""The leak guard catches what engines do wrong, and finds nothing where they are right."""

from __future__ import annotations

import ast
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.clock import FixedClock
from feature_store.definitions.splits import split_by_time
from feature_store.errors import InvalidRequestError
from feature_store.store import FeatureStore
from feature_store.training_sets import leak_guard, leaks, raw_rows, window_guard
from feature_store.windows import plain_fold
from tests.orders import START, Orders, orders, spending
from tests.training_sets.conftest import SPAN, every_morning, label_frame, purchases
from tests.training_sets.faulty_engines import FaultyEngine

MICROSECOND = timedelta(microseconds=1)
NOON = START + timedelta(days=4, hours=12)
# One label at each edge at which an engine can go wrong, and one later, so that no file is out of reach.
EDGES = label_frame(
    [
        ("c1", NOON),
        ("c1", NOON - MICROSECOND),
        ("c1", NOON + timedelta(days=2) - MICROSECOND),
        ("c1", NOON + timedelta(days=2)),
        ("c1", NOON + timedelta(days=5) - MICROSECOND),
        ("c1", NOON + timedelta(days=5)),
        ("c2", NOON - timedelta(hours=1)),
        ("c2", NOON + timedelta(days=3)),
        ("c2", NOON + timedelta(days=5)),
        ("nobody", NOON),
    ]
)


@pytest.fixture
def edgy(store, clock):
    """A store with a row per edge: two observations of one time, a null that hides a value, late values."""
    group = spending(Orders(orders()))
    store.apply([group])

    def row(customer, when, amount, last):
        return {"customer": customer, "event_timestamp": when, "orders_3d": 1, "amount_3d": amount, "last_amount": last}

    clock.set(START + timedelta(days=8))
    store.ingest(group, pl.DataFrame([row("c1", NOON, 10, 10), row("c2", NOON, 20, 20)]))
    clock.set(START + timedelta(days=9))
    store.ingest(group, pl.DataFrame([row("c1", NOON, 11, 11), row("c1", NOON - timedelta(days=2), 7, 7)]))
    store.ingest(group, pl.DataFrame([row("c2", NOON + timedelta(days=2), 30, None)]))
    clock.set(START + timedelta(days=20))
    return store


def built_by(store, clock, engine, labels=EDGES, **arguments):
    with FeatureStore(store.offline, store.online, store.registry, clock, engine) as other:
        other.write_training_set(purchases(labels, **arguments))
    return store.verify_training_set("purchases")


@pytest.mark.parametrize("engine", ["duckdb", FaultyEngine()])
def test_a_correct_engine_leaks_nothing(edgy, clock, engine):
    report = built_by(edgy, clock, engine)
    assert report.passed
    assert (report.rows, report.rows_sampled, report.values_checked, report.values_skipped) == (10, 10, 30, 0)
    assert report.violations == {}
    assert "30 values checked" in report.summary()


def test_files_that_are_no_part_of_the_store_are_not_read(shop, group):
    day = shop.offline.root / "spending" / "date=2024-03-03"
    late = pl.read_parquet(day / "batch.parquet", hive_partitioning=False).with_columns(
        pl.col("ingested_at") + timedelta(days=1), amount_3d=pl.lit(-1, pl.Int64)
    )
    late.write_parquet(day / f"stream-t-0-{0:012}-{9:012}.parquet")
    late.clear().write_parquet(day / f"stream-t-0-{0:012}-{19:012}.parquet")
    for foreign in ("date=today", "date=2024-02-30", "notes"):
        (day.parent / foreign).mkdir()
        (day.parent / foreign / "x.parquet").write_bytes(b"no file of the store")
    rows = shop.write_training_set(purchases(every_morning())).scan().collect()
    assert (rows["amount_3d"] != -1).all()
    assert shop.verify_training_set("purchases").passed


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("microsecond", {"future"}),
        ("end of day", {"future"}),
        ("day before", {"outdated", "missing"}),
        ("tie", {"tie"}),
        ("expired", {"expired"}),
        ("null", {"outdated"}),
    ],
)
def test_a_planted_leak_is_caught_and_shown(edgy, clock, fault, kinds):
    features = ["last_amount"] if fault == "null" else ["spending"]
    report = built_by(edgy, clock, FaultyEngine(fault), features=features)
    assert not report.passed
    assert set(report.violations) == kinds
    assert report.offenders[0].kind in kinds
    assert leaks.KINDS[report.offenders[0].kind] in report.summary()


def test_an_offender_is_told_with_its_row_value_and_event(edgy, clock):
    report = built_by(edgy, clock, FaultyEngine("microsecond"), features=["last_amount"])
    [offender] = [each for each in report.offenders if each.keys == {"customer": "c1"}]
    assert (offender.found, offender.expected, offender.row) == (11, 7, 1)
    assert offender.label_time == NOON - MICROSECOND
    assert offender.event_time == NOON
    assert "last_amount of customer='c1' at 2024-03-05T11:59:59.999999+00:00 is 11, 7 was visible" in str(offender)


def test_a_changed_file_of_the_set_is_caught(edgy, clock):
    built_by(edgy, clock, FaultyEngine())
    [path] = edgy.open_training_set("purchases").files()
    path.unlink()
    EDGES.with_columns(orders_3d=1, amount_3d=99, last_amount=99).write_parquet(path)
    report = edgy.verify_training_set("purchases")
    assert report.violations == {"altered_file": 1}
    path.unlink()
    assert not edgy.verify_training_set("purchases").passed


def test_values_whose_sources_have_changed_since_are_skipped_not_blamed(shop, group, source):
    shop.write_training_set(purchases(every_morning(), features=["orders_3d"]))
    source.events = source.events.with_columns(
        pl.when(pl.col("event_timestamp").dt.date() == date(2024, 3, 3)).then(None).otherwise("amount").alias("amount")
    ).filter(pl.col("event_timestamp") != START + timedelta(days=2, hours=3, minutes=2))
    shop.materialize(group, *SPAN)
    report = shop.verify_training_set("purchases")
    assert report.passed
    assert 0 < report.values_skipped < 48
    assert report.values_checked + report.values_skipped == 48
    assert "skipped (source files changed since)" in report.summary()


def test_a_sample_is_chosen_by_its_seed(shop):
    shop.write_training_set(
        purchases(every_morning(), splits=split_by_time({"a": START + timedelta(days=3), "b": None}))
    )
    reports = [shop.verify_training_set("purchases", rows=7, seed=seed) for seed in (1, 1, 2)]
    assert [report.rows_sampled for report in reports] == [7, 7, 7]
    assert all(report.passed for report in reports)
    with pytest.raises(InvalidRequestError, match="rows=0 checks nothing"):
        shop.verify_training_set("purchases", rows=0)
    with pytest.raises(InvalidRequestError, match="has no partition 2024-03-01"):
        shop.verify_training_set("purchases", partitions=["2024-03-01"])


@pytest.mark.parametrize(
    "cast", [pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "America/New_York"), pl.Date]
)
def test_label_times_of_any_kind_are_understood(shop, cast):
    labels = every_morning().with_columns(pl.col("event_timestamp").cast(cast), pl.col("customer").cast(pl.Categorical))
    shop.write_training_set(purchases(labels))
    assert shop.verify_training_set("purchases").passed


def test_the_guard_shares_nothing_with_the_engines():
    modules = [leak_guard, leaks, raw_rows, window_guard, plain_fold]
    imported = set()
    for module in modules:
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    assert {name for name in imported if name.startswith("feature_store")} == {
        *(module.__name__ for module in modules if module is not leak_guard),
        "feature_store.definitions.dtypes",
        "feature_store.definitions.names",
        "feature_store.definitions.window_functions",
        "feature_store.definitions.window_spec",
        "feature_store.errors",
        "feature_store.storage.location",
        "feature_store.windows.sketches",
    }
    assert not {"polars", "duckdb"} & imported


moments = st.builds(
    lambda day, step: START + timedelta(days=day, hours=12 * step) + timedelta(microseconds=step - 1),
    st.integers(0, 4),
    st.integers(0, 2),
)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), moments, st.one_of(st.none(), st.integers(0, 3))), max_size=12),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), moments), min_size=1, max_size=8),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_engine_answers_the_guard_agrees(tmp_path_factory, redis_url, rows, labels):
    folder = tmp_path_factory.mktemp("store")
    clock = FixedClock(START)
    group = spending(Orders(orders()))
    with FeatureStore(folder / "offline", redis_url, f"sqlite:///{folder / 'registry.db'}", clock) as store:
        store.apply([group])
        for number, (customer, when, amount) in enumerate(rows):
            clock.set(START + timedelta(days=6, minutes=number))
            store.ingest(
                group,
                pl.DataFrame(
                    [
                        {
                            "customer": customer,
                            "event_timestamp": when,
                            "orders_3d": 1,
                            "amount_3d": amount,
                            "last_amount": number,
                        }
                    ],
                    schema_overrides={"amount_3d": pl.Int64},
                ),
            )
        clock.set(START + timedelta(days=10))
        store.write_training_set(purchases(label_frame(labels)))
        report = store.verify_training_set("purchases")
        assert report.violations == {}
        assert report.values_checked == 3 * len(labels)
