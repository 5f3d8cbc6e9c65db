"""What the sensors that request runs share: runs over a range of partitions, and what is being worked on already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus

from dagster_feature_store.compat import BulkActionsFilter, BulkActionStatus, UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.definitions.group import FeatureGroup
from feature_store.monitoring.checks import DESCRIPTIONS
from feature_store.partitions import Window

REASON_TAG = "feature_store/reason"
"""Tag of runs that a sensor has requested: why, in a few words."""

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_PRIORITY = "dagster/priority"
_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_MOST_RUNS = 1000


FeatureJobs = Mapping[str, UnresolvedAssetJobDefinition]
"""The job that computes each feature group, by the group's name. One job has groups of one partitioning."""


def range_request(
    group: FeatureGroup,
    span: Window,
    *,
    job_name: str,
    cause: str,
    reason: str,
    priority: int = 0,
    names: Names = DEFAULT_NAMES,
) -> dg.RunRequest:
    """Returns the request for one run that materializes a span of partitions.

    Args:
        group: The feature group.
        span: Whole partitions.
        job_name: The job that computes the group.
        cause: What makes this request another than one of the same span before: a request with the same cause is
            never launched twice, whatever restarts in between.
        reason: Why, in a few words; stands in the run's tags.
        priority: Runs of greater priority leave the queue first.
        names: What the objects of the code location are called.
    """
    first, last = group.partitioning.key(span.start), group.partitioning.key(span.end - group.partitioning.length)
    return dg.RunRequest(
        run_key=f"{group.name}/{first}..{last}/{cause}",
        job_name=job_name,
        asset_selection=[names.key(group.name)],
        asset_check_keys=partition_checks([group], names),
        tags={_RANGE_START: first, _RANGE_END: last, REASON_TAG: reason, _PRIORITY: str(priority)},
    )


def partition_checks(groups: Sequence[FeatureGroup], names: Names = DEFAULT_NAMES) -> list[dg.AssetCheckKey]:
    """Returns the checks of the partitions of groups: without them a run takes those of the whole group along, too."""
    return [dg.AssetCheckKey(names.key(group.name), check) for group in groups for check in DESCRIPTIONS]


def busy_assets(instance: DagsterInstance, job_names: Collection[str]) -> set[str] | None:
    """Returns the assets that an unfinished run or backfill works on; None for all, where a run does not tell.

    Args:
        instance: Holds the runs.
        job_names: Jobs over feature groups; a run of one that names no assets works on all of its groups.
    """
    found: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED), limit=_MOST_RUNS):
        if run.asset_selection:
            found |= {key.to_user_string() for key in run.asset_selection}
        elif run.job_name in job_names:
            return None
    active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    for backfill in instance.get_backfills(filters=active):
        found |= {key.to_user_string() for key in backfill.asset_selection or []}
    return found


def jobs_of(feature_jobs: FeatureJobs) -> list[UnresolvedAssetJobDefinition]:
    """Returns the jobs over feature groups, each once."""
    return list({job.name: job for job in feature_jobs.values()}.values())


def digest(value: Any) -> str:
    """Returns a short text that is equal for equal plain values, in cursors and run keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
