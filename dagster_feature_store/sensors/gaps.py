"""The gap sensor: requests partitions that are missing between the first and the last that are materialized.

The files are what counts, not Dagster's record: a file that was lost or damaged is a gap as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from dagster import DagsterInstance

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import FeatureJobs, busy_assets, digest, jobs_of, range_request
from feature_store.definitions.group import FeatureGroup

if TYPE_CHECKING:
    from feature_store.reconcile.coverage import Coverage

INTERVAL_SECONDS = 300
MOST_RUNS_A_TICK = 20


def gap_requests(
    group: FeatureGroup, instance: DagsterInstance, found: Coverage, job_name: str, names: Names = DEFAULT_NAMES
) -> Iterator[dg.RunRequest]:
    """Yields requests for a group's missing partitions, the newest first, as few runs as is worth it.

    A gap is requested once. It is requested again when its events or its function have changed, or when the group has
    been materialized since: a run that failed is not repeated as it was.

    Args:
        group: The feature group.
        instance: Tells when the group was last materialized.
        found: What lies in the offline store.
        job_name: The job that computes the group.
        names: What the objects of the code location are called.
    """
    from feature_store.reconcile.partitions import gaps, source_days

    latest = instance.get_latest_materialization_event(names.key(group.name))
    for span in gaps(group, found):
        events = [group.source.fingerprint(day) for day in source_days(group, span).dates()]
        cause = digest([events, group.code_version, latest.timestamp if latest else None])
        reason = "gap: partitions between others were missing"
        yield range_request(group, span, job_name=job_name, cause=f"gap-{cause}", reason=reason, names=names)


def gap_sensor(
    groups: Sequence[FeatureGroup],
    feature_jobs: FeatureJobs,
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all feature groups."""
    names = looks.names

    @looks.sensor(
        "gap_sensor",
        INTERVAL_SECONDS,
        "Requests partitions that are missing, or damaged, between others that are materialized.",
        resources={names.store_key},
        jobs=jobs_of(feature_jobs),
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from feature_store.reconcile.coverage import coverage

        busy = busy_assets(context.instance, [job.name for job in feature_jobs.values()])
        requests: list[dg.RunRequest] = []
        with names.store(context).open() as store:
            for group in groups:
                # A backfill in the making has gaps of its own.
                if busy is None or names.key_text(group.name) in busy:
                    continue
                requests += gap_requests(
                    group, context.instance, coverage(group, store.offline), feature_jobs[group.name].name, names
                )
        if not requests:
            return dg.SkipReason("No partition is missing between others, or what is missing is being worked on.")
        return dg.SensorResult(run_requests=requests[:MOST_RUNS_A_TICK])

    return sense
