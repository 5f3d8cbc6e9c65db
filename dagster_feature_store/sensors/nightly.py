"""The schedules of the monitors: what is online every night, freshness every hour."""

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names

NIGHTLY = "30 3 * * *"
"""After the night's features have been computed and pushed, before people come to work. UTC."""

HOURLY = "5 * * * *"


def monitor_schedules(
    nightly: UnresolvedAssetJobDefinition,
    freshness: UnresolvedAssetJobDefinition,
    *,
    names: Names = DEFAULT_NAMES,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> list[dg.ScheduleDefinition]:
    """Returns the schedules of the nightly monitor and of the freshness job."""
    return [
        dg.ScheduleDefinition(
            name=names.of("nightly_monitor"),
            job=nightly,
            cron_schedule=NIGHTLY,
            description=(
                "Looks at what is online, whether it is what the offline store says, and at what was served: the "
                "checks `online_values`, `online_consistency`, `served_values` and `freshness`."
            ),
            default_status=status,
        ),
        dg.ScheduleDefinition(
            name=names.of("hourly_freshness"),
            job=freshness,
            cron_schedule=HOURLY,
            description="Looks whether all feature groups are as fresh as they promise: the check `freshness`.",
            default_status=status,
        ),
    ]
