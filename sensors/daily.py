"""The daily schedule: each day after midnight UTC, the day that has ended is materialized in all feature groups."""

import dagster as dg
from dagster._core.definitions.partitions.partitioned_schedule import (
    UnresolvedPartitionedAssetScheduleDefinition,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

MINUTES_AFTER_MIDNIGHT = 15


def daily_schedule(
    job: UnresolvedAssetJobDefinition,
) -> dg.ScheduleDefinition | UnresolvedPartitionedAssetScheduleDefinition:
    """Returns the schedule of the feature job, some minutes after midnight so that the last events have landed."""
    return dg.build_schedule_from_partitioned_job(
        job,
        name="daily_features",
        description="Materializes the UTC day that has ended, in all feature groups.",
        hour_of_day=0,
        minute_of_hour=MINUTES_AFTER_MIDNIGHT,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
