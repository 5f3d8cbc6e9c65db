"""The daily schedule: each day after midnight UTC, the day that has ended is materialized in all feature groups.

The gap sensor computes days as they land. The schedule asks at a known time for what is not there yet, and for nothing
whose events have not landed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.requests import REASON_TAG, WorkInProgress, partition_checks
from dagster_feature_store.sensors.sources import SourceLooks
from feature_store.day_windows import day_window
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Partitioning, Window
from feature_store.store import FeatureStore

MINUTES_AFTER_MIDNIGHT = 15


def daily_schedule(
    job: UnresolvedAssetJobDefinition,
    groups: Sequence[FeatureGroup],
    *,
    names: Names = DEFAULT_NAMES,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.ScheduleDefinition:
    """Returns the schedule of the feature job, some minutes after midnight so that the last events have landed."""
    source_looks = SourceLooks()

    @dg.schedule(
        name=names.of("daily_features"),
        description=(
            "Materializes the UTC day that has ended, in the feature groups that do not have it yet and whose events "
            "have landed."
        ),
        job=job,
        cron_schedule=f"{MINUTES_AFTER_MIDNIGHT} 0 * * *",
        execution_timezone="UTC",
        default_status=status,
        required_resource_keys={names.store_key},
    )
    def ask(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from feature_store.reconcile.due import has_landed

        tick = context.scheduled_execution_time.astimezone(UTC)
        window = day_window(tick.date() - timedelta(days=1))
        key = Partitioning.DAILY.key(window.start)
        due = [group for group in groups if group.start <= window.start and (not group.end or window.end <= group.end)]
        work = WorkInProgress.of(context.instance, {job.name})
        open_groups = [group for group in due if not _is_worked_on(work, names.key_text(group.name), window)]
        with names.store(context).open() as store:
            wanted = [group for group in open_groups if not _is_stored(store, group, window)]
        seen = source_looks.at(group.source for group in wanted)
        ready = [
            group
            for group in wanted
            if group.source.name in seen.landed and has_landed(group, window, seen.landed[group.source.name])
        ]
        if ready:
            return dg.RunRequest(
                run_key=key,
                partition_key=key,
                asset_selection=[names.key(group.name) for group in ready],
                asset_check_keys=partition_checks([group.name for group in ready], names),
                tags={REASON_TAG: "schedule: the day that has ended"},
            )
        if wanted:
            late = ", ".join(group.source.name for group in wanted)
            return dg.SkipReason(f"{key} has not landed in {late}: it is computed once it has. {seen}".strip())
        return dg.SkipReason(f"{key} is there already, or being worked on, in all feature groups.")

    return ask


def _is_worked_on(work: WorkInProgress, asset: str, window: Window) -> bool:
    spans = work.on(asset)
    return work.on_all_of(asset) or any(span.start < window.end and window.start < span.end for span in spans)


def _is_stored(store: FeatureStore, group: FeatureGroup, window: Window) -> bool:
    """Tells whether a partition has a file. One that is damaged, or old by now, is the gap sensor's."""
    return any(
        file.window == window and file.belongs_to(group.partitioning)
        for file in store.offline.files(group.name, window)
    )
