"""One verdict of each check, on every page of the UI: that of the newest partition that could be judged."""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store.check_results import is_repetition, verdicts
from feature_store.monitoring.findings import CheckResult, Finding
from tests.orders import orders

GROUP = dg.AssetKey("spending")
RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def run(defs, instance):
    def execute(job="feature_store_features", **arguments):
        return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)

    return execute


def with_nulls(domain, day):
    rows = [(f"n{number}", datetime(2024, 3, day, 15, tzinfo=UTC), None) for number in range(20)]
    domain.source.events = pl.concat([domain.source.events, orders(*rows)])


def shown(instance, name, group=GROUP):
    """What graph, list, overview and health take for the state of a check: what was recorded last."""
    key = dg.AssetCheckKey(group, name)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.evaluation is not None, record.status
    return record.evaluation


def history(instance, name, group=GROUP):
    key = dg.AssetCheckKey(group, name)
    return instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)


def test_no_check_has_partitions_of_which_one_alone_would_decide(defs):
    graph = defs.resolve_asset_graph()
    assert {graph.get(key).partitions_def for key in graph.asset_check_keys} == {None}


def test_an_old_fault_does_not_stay_for_ever(run, instance, domain):
    with_nulls(domain, 4)
    assert run(tags=RANGE).success
    failed = [record.partition for record in history(instance, "null_rate") if not record.evaluation.passed]
    assert failed == ["2024-03-04"]
    assert {record.status.value for record in history(instance, "null_rate")} == {"SUCCEEDED", "FAILED"}
    verdict = shown(instance, "null_rate")
    assert verdict.passed
    assert verdict.partition == "2024-03-09"
    assert verdict.description.startswith("2024-03-09: ")
    assert verdict.description.endswith("this run found faults in 2024-03-04.")


def test_a_fault_of_the_newest_partition_is_the_verdict(run, instance, domain):
    with_nulls(domain, 9)
    assert run(tags=RANGE).success
    verdict = shown(instance, "null_rate")
    assert not verdict.passed
    assert "last_amount" in verdict.description
    assert "this run" not in verdict.description


def test_a_run_over_older_partitions_does_not_decide(run, instance, domain):
    with_nulls(domain, 4)
    with_nulls(domain, 9)
    assert run(tags=RANGE).success
    assert run(partition_key="2024-03-05").success
    assert not shown(instance, "null_rate").passed
    with_nulls(domain, 3)
    later = RANGE | {"dagster/asset_partition_range_start": "2024-03-09"}
    domain.source.events = domain.source.events.filter(pl.col("event_timestamp").dt.date() != date(2024, 3, 9))
    assert run(tags=later).success
    assert run(partition_key="2024-03-03").success
    assert shown(instance, "null_rate").description.startswith("2024-03-09: ")
    assert "faults in 2024-03-03" in shown(instance, "null_rate").description


def test_what_was_not_judged_is_no_verdict_where_something_was(run, instance):
    """The first days of a group are not judged for drift: their look-back is not full."""
    first = RANGE | {"dagster/asset_partition_range_end": "2024-03-02"}
    assert run(tags=first).success
    assert shown(instance, "drift").description.startswith("2024-03-02: Not judged")
    assert shown(instance, "drift").passed
    judged = {record.partition: "judged" not in record.evaluation.metadata for record in history(instance, "drift")}
    assert judged == {"2024-03-01": False, "2024-03-02": False}


def test_a_newest_partition_that_could_not_be_judged_leaves_the_verdict_to_the_one_before(instance):
    moved = CheckResult("drift", False, "last_amount: moved.", findings=(Finding("mean", "alert", "moved"),))
    ends = CheckResult("drift", True, "Not judged: the group ends with this partition.", judged=False)
    (verdict,) = verdicts(instance, GROUP, ["drift"], {"2024-03-08": [moved], "2024-03-09": [ends]})
    assert (verdict.passed, verdict.partition) == (False, "2024-03-08")
    assert verdict.description == "2024-03-08: last_amount: moved."


def test_rejected_rows_are_the_verdict_of_the_schema_and_the_other_checks_keep_theirs(run, instance, domain):
    assert run(tags=RANGE | {"dagster/asset_partition_range_end": "2024-03-08"}).success
    bad = orders(("c9", domain.source.start.replace(day=9, hour=12), 5000))
    domain.source.events = pl.concat([domain.source.events, bad])
    assert not run(partition_key="2024-03-09").success
    assert not shown(instance, "schema").passed
    assert shown(instance, "row_count").description.startswith("2024-03-08: ")


def test_a_run_over_partitions_leaves_no_check_of_the_whole_group_skipped(run, instance):
    """A backfill takes every check of its assets along."""
    result = run("__ASSET_JOB", tags=RANGE, asset_selection=[GROUP])
    assert result.success
    freshness = history(instance, "freshness")
    assert len(freshness) > 1
    assert {str(record.status) for record in freshness} == {"AssetCheckExecutionRecordStatus.SUCCEEDED"}
    assert [record.partition for record in freshness if not is_repetition(record.evaluation)] == [None]
    assert "age_hours" in shown(instance, "freshness").metadata


def test_what_is_plotted_over_partitions_has_the_numbers_of_checks(run, instance):
    assert run(tags=RANGE).success
    records = instance.fetch_materializations(GROUP, limit=100).records
    found = {record.partition_key: record.asset_materialization.metadata for record in records}
    assert {"null_rate/last_amount", "null_rate/amount_3d"} <= found["2024-03-09"].keys()
