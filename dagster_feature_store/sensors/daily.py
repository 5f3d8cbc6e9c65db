"""The daily schedule: each day after midnight UTC, the day that has ended is materialized in all feature groups.

Days are computed as soon as the landing sensor has reported them. The schedule is the net below: it asks for what is
not there yet, and for nothing whose events have not landed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.requests import REASON_TAG, busy_assets, partition_checks
from feature_store.day_windows import day_window
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Partitioning
from feature_store.reconcile.partitions import has_landed

MINUTES_AFTER_MIDNIGHT = 15


def daily_schedule(
    job: UnresolvedAssetJobDefinition,
    groups: Sequence[FeatureGroup],
    *,
    names: Names = DEFAULT_NAMES,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.ScheduleDefinition:
    """Returns the schedule of the feature job, some minutes after midnight so that the last events have landed."""

    @dg.schedule(
        name=names.of("daily_features"),
        description="Materializes the UTC day that has ended, in the feature groups that do not have it yet.",
        job=job,
        cron_schedule=f"{MINUTES_AFTER_MIDNIGHT} 0 * * *",
        execution_timezone="UTC",
        default_status=status,
    )
    def ask(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        window = day_window(tick.date() - timedelta(days=1))
        key = Partitioning.DAILY.key(window.start)
        due = [group for group in groups if group.start <= window.start and (not group.end or window.end <= group.end)]
        busy = busy_assets(context.instance, {job.name})
        open_groups = [] if busy is None else [group for group in due if names.key_text(group.name) not in busy]
        wanted = [group for group in open_groups if not _is_materialized(context.instance, names.key(group.name), key)]
        ready = [group for group in wanted if has_landed(group, window)]
        if ready:
            return dg.RunRequest(
                run_key=key,
                partition_key=key,
                asset_selection=[names.key(group.name) for group in ready],
                asset_check_keys=partition_checks(ready, names),
                tags={REASON_TAG: "schedule: the day that has ended"},
            )
        if wanted:
            late = ", ".join(group.source.name for group in wanted)
            return dg.SkipReason(f"{key} has not landed in {late}: it is computed once it has.")
        return dg.SkipReason(f"{key} is there already, or being worked on, in all feature groups.")

    return ask


def _is_materialized(instance: dg.DagsterInstance, asset_key: dg.AssetKey, key: str) -> bool:
    return bool(
        instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset_key, asset_partitions=[key]), limit=1
        ).records
    )
