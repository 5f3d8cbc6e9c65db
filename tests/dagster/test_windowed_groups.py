"""A windowed group in Dagster: its asset, its checks, its training set and the nightly monitors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from tests.orders import Orders, habits, some_orders

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
WINDOWS = ("orders_12h", "amount_7d", "mean_amount_7d", "last_amounts", "large_orders_ever", "hours_since_order")
NOW = datetime(2024, 3, 10, tzinfo=UTC)


@pytest.fixture
def windowed(domain, resources):
    del domain.spending, domain.activity, domain.purchase
    domain.source = Orders(some_orders())
    domain.habits = habits(domain.source)
    return feature_store_definitions(domain, resources=resources)


def run(defs, instance, job, **arguments):
    return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)


def test_it_is_materialized_checked_and_read_alike_in_both_stores(windowed, instance, store):
    result = run(windowed, instance, "feature_store_features", tags=RANGE)
    assert result.success
    judged = {(check.check_name, check.passed) for check in result.get_asset_check_evaluations()}
    assert {name for name, _ in judged} == {"schema", "null_rate", "row_count", "drift"}
    assert {passed for _, passed in judged} == {True}
    customers = [f"c{number}" for number in range(6)]
    offline = store.get_offline_features(customers, ["habits"], [NOW] * 6).drop("entity_id", "as_of_timestamp")
    assert offline.columns == list(WINDOWS)
    assert store.get_online_features_batch(customers, ["habits"]) == offline.to_dicts()
    assert offline["amount_7d"].to_list()[-1] == 0


def test_monitors_and_freshness_judge_it(windowed, instance):
    assert run(windowed, instance, "feature_store_features", tags=RANGE).success
    for job in ("feature_store_freshness", "feature_store_nightly_monitor"):
        result = run(windowed, instance, job)
        assert result.success, job
        evaluations = result.get_asset_check_evaluations()
        assert evaluations
        assert all(check.passed for check in evaluations), [
            (check.check_name, check.description) for check in evaluations if not check.passed
        ]


def test_its_asset_shows_its_windows(windowed):
    [spec] = [spec for spec in windowed.resolve_all_asset_specs() if spec.key == dg.AssetKey("habits")]
    columns = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}
    assert set(WINDOWS) <= columns.keys()
    assert "7 days" in (columns["amount_7d"].description or "")


def test_a_late_order_is_folded_in_at_once(windowed, domain, instance, store):
    assert run(windowed, instance, "feature_store_features", tags=RANGE).success
    before = store.get_online_features("c1", ["orders_12h", "amount_7d"])
    event = pl.DataFrame([("c1", NOW - timedelta(hours=1), 7)], schema=domain.source.events.schema, orient="row")
    domain.source.events = pl.concat([domain.source.events, event])
    assert run(windowed, instance, "feature_store_features", partition_key="2024-03-09").success
    after = store.get_online_features("c1", ["orders_12h", "amount_7d"])
    assert after == {"orders_12h": before["orders_12h"] + 1, "amount_7d": before["amount_7d"] + 7}
