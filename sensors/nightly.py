"""The schedules of the monitors: what is online every night, freshness every hour."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NIGHTLY = "30 3 * * *"
"""After the night's features have been computed and pushed, before people come to work. UTC."""

HOURLY = "5 * * * *"


def monitor_schedules(
    nightly: UnresolvedAssetJobDefinition, freshness: UnresolvedAssetJobDefinition
) -> list[dg.ScheduleDefinition]:
    """Returns the schedules of the nightly monitor and of the freshness job."""
    return [
        dg.ScheduleDefinition(
            name="nightly_monitor",
            job=nightly,
            cron_schedule=NIGHTLY,
            description="Looks every night at what is online, and whether it is what the offline store says.",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
        dg.ScheduleDefinition(
            name="hourly_freshness",
            job=freshness,
            cron_schedule=HOURLY,
            description="Looks every hour whether all feature groups are as fresh as they promise.",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
    ]
