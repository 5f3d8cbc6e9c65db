from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from tests.orders import orders

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def run(defs, instance):
    def execute(job="feature_store_features", **arguments):
        result = defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)
        assert result.success
        return result

    return execute


@pytest.fixture
def built(run):
    run(tags=RANGE)
    run("feature_store_purchase_training_set")


def marks(ticks, defs):
    ticks.requests(defs, "feature_store_stale_training_set_sensor")
    return [(event.asset_key.to_user_string(), event.check_name, event.passed) for event in ticks.events]


def late(domain, day):
    domain.source.events = pl.concat([domain.source.events, orders(("c1", datetime(2024, 3, day, 1, tzinfo=UTC), 7))])


def test_a_set_is_stale_when_a_partition_that_it_used_has_changed(ticks, defs, built, run, domain, instance):
    assert marks(ticks, defs) == []
    late(domain, 4)
    assert marks(ticks, defs) == []
    run(tags=RANGE)
    assert marks(ticks, defs) == [("purchase", "up_to_date", False)]
    assert marks(ticks, defs) == []
    key = dg.AssetCheckKey(dg.AssetKey("purchase"), "up_to_date")
    record = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)[0]
    evaluation = record.event.asset_check_evaluation
    assert "Version 1 is stale" in evaluation.description
    assert "spending/date=2024-03-04/batch.parquet" in evaluation.description
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    run("feature_store_purchase_training_set")
    assert marks(ticks, defs) == [("purchase", "up_to_date", True)]


def test_recomputing_the_same_rows_makes_nothing_stale(ticks, defs, built, run):
    marks(ticks, defs)
    run(tags=RANGE)
    assert marks(ticks, defs) == []


def test_a_restart_marks_nothing_twice_but_finds_what_it_missed(ticks, defs, built, run, domain, instance):
    late(domain, 4)
    run(tags=RANGE)
    assert marks(ticks, defs) == [("purchase", "up_to_date", False)]
    assert marks(ticks, defs) == []


def test_a_set_that_was_never_built_is_not_stale(ticks, defs, run):
    run(tags=RANGE)
    assert marks(ticks, defs) == []


def test_the_check_can_be_run_by_hand(defs, built, run, domain, instance):
    late(domain, 4)
    run(tags=RANGE)
    key = dg.AssetCheckKey(dg.AssetKey("purchase"), "up_to_date")
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_check_selection={key}, asset_selection=set()).execute_in_process(
        instance=instance, resources=defs.resources
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
