"""The jobs that compute feature groups: one for those with days, one for those with hours."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from dagster_feature_store.monitor_checks import monitor_checks
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.requests import FeatureJobs
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Partitioning

FEATURE_JOB = "features"
HOURLY_FEATURE_JOB = "hourly_features"

_NAMES = {Partitioning.DAILY: FEATURE_JOB, Partitioning.HOURLY: HOURLY_FEATURE_JOB}
_DESCRIPTIONS = {
    Partitioning.DAILY: "Computes all daily feature groups, for one day or any range of days, with their checks.",
    Partitioning.HOURLY: "Computes all hourly feature groups, for an hour or a range of hours, with their checks.",
}


def feature_jobs(groups: Sequence[FeatureGroup], *, names: Names = DEFAULT_NAMES) -> FeatureJobs:
    """Returns the job that computes each feature group, by the group's name; groups of one partitioning share one."""
    found = {}
    for partitioning, name in _NAMES.items():
        members = [group for group in groups if group.partitioning is partitioning]
        if not members:
            continue
        assets = dg.AssetSelection.assets(*(names.key(group.name) for group in members))
        job = dg.define_asset_job(
            names.of(name),
            selection=assets - monitor_checks(groups, names=names),
            description=_DESCRIPTIONS[partitioning],
            # A step of its own process costs two seconds; the work of these assets is in Polars, which uses all cores.
            executor_def=dg.in_process_executor,
        )
        found.update(dict.fromkeys((group.name for group in members), job))
    return found
