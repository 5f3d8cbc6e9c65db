from __future__ import annotations

from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.check_results import is_repetition
from tests.orders import orders, spending

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
GROUP = dg.AssetKey("spending")


def run(defs, instance, job="feature_store_features", **arguments):
    return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)


def judgements(result):
    return [check for check in result.get_asset_check_evaluations() if not is_repetition(check)]


def by_partition(records):
    return {record.partition_key: record.asset_materialization for record in records}


def materializations(instance, key=GROUP):
    return by_partition(instance.fetch_materializations(key, limit=1000).records)


def test_a_range_runs_as_one_run_with_metadata_and_checks_per_partition(defs, instance):
    result = run(defs, instance, tags=RANGE)
    assert result.success
    found = materializations(instance)
    assert sorted(found) == [f"2024-03-0{day}" for day in range(1, 10)]
    rows = {key: event.metadata["dagster/partition_row_count"].value for key, event in found.items()}
    assert len(set(rows.values())) > 1
    assert {key: event.metadata["rows_changed"].value for key, event in found.items()} == rows
    assert {event.metadata["rows_withdrawn"].value for event in found.values()} == {0}
    assert "mean/amount_3d" in found["2024-03-05"].metadata
    evaluations = [check for check in judgements(result) if check.asset_key == GROUP]
    assert {(check.partition, check.check_name) for check in evaluations} == {
        (key, name) for key in found for name in ("schema", "null_rate", "row_count", "drift")
    }
    assert all(check.passed and check.target_materialization_data for check in evaluations)
    for check in evaluations:
        if check.check_name == "row_count":
            assert check.metadata["rows"].value == rows[check.partition]


def test_a_single_partition_and_an_hour_work_too(defs, instance):
    assert run(defs, instance, partition_key="2024-03-05").success
    assert list(materializations(instance)) == ["2024-03-05"]
    assert run(defs, instance, job="feature_store_hourly_features", partition_key="2024-03-05-06:00").success
    assert list(materializations(instance, dg.AssetKey("activity"))) == ["2024-03-05-06:00"]


def test_refused_rows_fail_the_schema_check_of_their_partition_and_the_run(defs, domain, instance):
    bad = orders(("c9", domain.source.start.replace(day=4, hour=12), 5000))
    domain.source.events = pl.concat([domain.source.events, bad])
    result = run(defs, instance, tags=RANGE)
    assert not result.success
    assert sorted(materializations(instance)) == [f"2024-03-0{day}" for day in (1, 2, 3, 5, 6, 7, 8, 9)]
    (failed,) = [check for check in judgements(result) if not check.passed]
    assert (failed.check_name, failed.partition) == ("schema", "2024-03-04")
    assert "5000" in failed.description


def test_the_training_set_asset_writes_a_version_and_finds_it_again(defs, instance):
    assert run(defs, instance, tags=RANGE).success
    for _ in range(2):
        assert run(defs, instance, job="feature_store_purchase_training_set").success
    records = instance.fetch_materializations(dg.AssetKey("purchase"), limit=10).records
    assert [record.asset_materialization.metadata["version"].value for record in records] == [1, 1]
    assert {"preview", "path", "null_rate/amount_3d"} <= records[0].asset_materialization.metadata.keys()


def test_training_set_follows_its_groups(defs):
    graph = defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey("purchase")).parent_keys == {GROUP}
    assert graph.get(GROUP).parent_keys == {dg.AssetKey("orders")}


@pytest.mark.parametrize("name", ["spending", "activity"])
def test_a_partition_depends_on_the_days_that_its_lookback_reaches(defs, name):
    graph = defs.resolve_asset_graph()
    child = graph.get(dg.AssetKey(name))
    key = "2024-03-06" if name == "spending" else "2024-03-06-00:00"
    mapping = graph.get_partition_mapping(child.key, dg.AssetKey("orders"))
    parents = mapping.get_upstream_mapped_partitions_result_for_partitions(
        child.partitions_def.subset_with_partition_keys([key]),
        child.partitions_def,
        graph.get(dg.AssetKey("orders")).partitions_def,
    )
    expected = {
        "spending": ["2024-03-03", "2024-03-04", "2024-03-05", "2024-03-06"],
        "activity": ["2024-03-05", "2024-03-06"],
    }
    assert sorted(parents.partitions_subset.get_partition_keys()) == expected[name]


def test_a_group_that_keeps_snapshots_has_an_asset_that_makes_what_is_missing(domain, resources, instance):
    domain.spending = spending(domain.source, snapshot_every=timedelta(days=3))
    defs = feature_store_definitions(domain, resources=resources)
    assert run(defs, instance, tags=RANGE).success
    made = []
    for _ in range(2):
        result = run(defs, instance, job="__ASSET_JOB", asset_selection=[dg.AssetKey("spending_snapshots")])
        assert result.success
        (event,) = result.get_asset_materialization_events()
        made.append(event.step_materialization_data.materialization.metadata["made"].value)
    assert made == [3, 0]
