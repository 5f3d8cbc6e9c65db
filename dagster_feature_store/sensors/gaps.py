"""The gap sensor: requests what should be in the offline store and is not.

Partitions that have landed and are not computed, that were computed from source days which have changed since, or whose
files are lost or damaged. It compares the files with the source (`feature_store.reconcile.due`), not with what was once
requested: what a killed run, a full disk or a day without a daemon has left undone is requested again.

Files seldom change alone. While a source goes on changing from look to look its partitions wait, so that a storm of
late files makes few runs. The cursor holds what was seen, and whose turn it is; losing it costs one look.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import FeatureJobs, RangeRequests, WorkInProgress, jobs_of
from dagster_feature_store.sensors.sources import SourceLooks
from feature_store.clock import SystemClock
from feature_store.definitions.group import FeatureGroup

INTERVAL_SECONDS = 30


def gap_sensor(
    groups: Sequence[FeatureGroup],
    feature_jobs: FeatureJobs,
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all feature groups."""
    names = looks.names
    source_looks = SourceLooks()
    known: dict[str, int] = {}
    assets = {names.key(group.name) for group in groups}

    def is_ours(run: dg.DagsterRun) -> bool:
        return run.job_name.startswith(names.of("")) or not assets.isdisjoint(run.asset_selection or ())

    @looks.sensor(
        "gap_sensor",
        INTERVAL_SECONDS,
        "Requests partitions that have landed and are missing, were computed from source days that have changed "
        "since, or whose files are lost or damaged.",
        resources={names.store_key, names.alerts_key},
        jobs=jobs_of(feature_jobs),
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        # A code location loads without what only looks need.
        from dagster_feature_store.dead_runs import end_dead_runs
        from dagster_feature_store.sensors.gap_look import MOST_REPORTED, GapLook, LookCursor, note_recoveries

        before = LookCursor.read(context.cursor)
        for run_id in end_dead_runs(context.instance, is_ours):
            context.log.error("The process of run %s is gone: what it has not done is requested again.", run_id)
        work = WorkInProgress.of(context.instance, [job.name for job in feature_jobs.values()])
        seen = source_looks.at(group.source for group in groups)
        for source, error in seen.errors.items():
            context.log.error("Source %s: %s", source, error)
        look = GapLook(
            context.instance,
            names,
            feature_jobs,
            before,
            RangeRequests(context.instance, names, looks.first_pause),
            LookCursor(sources={name: landed.signature for name, landed in seen.landed.items()}),
        )
        with names.store(context).open() as store:
            look.at(groups, store, seen, work, known)
            note_recoveries(store, names.alerts(context), look.well)
        for name, error in look.errors.items():
            context.log.error("Feature group %s: %s", name, error)
        cursor = look.after.written()
        requests = look.requests.due(SystemClock().now())
        if not requests and not look.events:
            context.update_cursor(cursor)
            return dg.SkipReason(" ".join(filter(None, [look.told(), str(seen)])))
        return dg.SensorResult(run_requests=requests, asset_events=look.events[:MOST_REPORTED], cursor=cursor)

    return sense
