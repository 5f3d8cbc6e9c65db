"""Runs of the demo belong to the code location that the UI opens: timeline, list and job pages find them."""

from __future__ import annotations

import dagster as dg

from dagster_feature_store.compat import run_for_location
from feature_assets.demo import WORKSPACE

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
JOB = "feature_store_features"


def test_a_run_in_this_process_is_one_of_the_workspaces_location(defs, instance):
    result = run_for_location(defs, JOB, instance, WORKSPACE, run_config={}, tags=RANGE)
    assert result.success
    # By this tag the pages of jobs look for their runs, by the origin the timeline does.
    tags = {".dagster/repository": "__repository__@feature_store"}
    (run,) = instance.get_runs(dg.RunsFilter(job_name=JOB, tags=tags))
    assert run.run_id == result.run_id
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.remote_job_origin.location_name == "feature_store"
    assert instance.get_materialized_partitions(dg.AssetKey("spending")) == {f"2024-03-0{day}" for day in range(1, 10)}


def test_a_run_that_fails_says_so(defs, instance):
    result = run_for_location(defs, JOB, instance, WORKSPACE, run_config={}, tags={"dagster/partition": "2024-03-20"})
    assert not result.success
    assert instance.get_run_by_id(result.run_id).status is dg.DagsterRunStatus.FAILURE
