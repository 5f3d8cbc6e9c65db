"""The rerun sensor: has jobs that look at the whole store, or build a training set, run again when they were cut off.

A run that was killed, or that an outage has ended, has not done its work; the next one of its schedule may be a night
away, and a training set has none. What fails for a reason of its own is left to its owner. Partitions of feature groups
are none of its business: the gap sensor looks at what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus

from dagster_feature_store.sensors.attempts import Attempts
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Job, Looks
from dagster_feature_store.sensors.outages import has_met_outage, was_cut_off
from dagster_feature_store.sensors.requests import PARTITION_TAGS, REASON_TAG
from feature_store.clock import SystemClock, to_utc

INTERVAL_SECONDS = 30
LOOK_BACK = timedelta(days=4)
"""Runs that were cut off so long ago are not repeated."""

_MOST_RUNS = 200
_OWN_TAG = "feature_store/rerun_of"


def rerun_sensor(jobs: Sequence[Job], looks: Looks = DEFAULT_LOOKS) -> dg.SensorDefinition:
    """Returns the sensor over jobs of which the latest run tells whether there is something to repeat."""
    names = [job.name for job in jobs]

    @looks.sensor(
        "rerun_sensor",
        INTERVAL_SECONDS,
        "Requests again what a killed run or an outage has cut off: monitors and training sets.",
        jobs=jobs,
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = SystemClock().now()
        requests, paused = [], 0
        for name, record in _cut_off(context.instance, names, now):
            next_at = Attempts.of_runs(context.instance, dg.RunsFilter(job_name=name)).next_at(
                context.instance, looks.first_pause
            )
            if next_at is not None and now < next_at:
                paused += 1
            else:
                requests.append(_request(record.dagster_run))
        if not requests:
            return dg.SkipReason(
                f"{paused} run(s) were cut off a moment ago, and are repeated after a pause."
                if paused
                else "No run was cut off that another has not made good."
            )
        return dg.SensorResult(run_requests=requests)

    return sense


def _cut_off(instance: DagsterInstance, jobs: Sequence[str], now: datetime) -> Iterator[tuple[str, dg.RunRecord]]:
    """Yields jobs whose latest run was cut off, with that run."""
    failed = dg.RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    suspects = {record.dagster_run.job_name for record in instance.get_run_records(failed, limit=_MOST_RUNS)}
    for name in jobs:
        if name not in suspects:
            continue
        (latest,) = instance.get_run_records(dg.RunsFilter(job_name=name), limit=1)
        run = latest.dagster_run
        if run.status is not DagsterRunStatus.FAILURE or now - to_utc(latest.update_timestamp) > LOOK_BACK:
            continue
        if was_cut_off(instance, run) or has_met_outage(instance, run):
            yield name, latest


def _request(run: dg.DagsterRun) -> dg.RunRequest:
    partitions = {name: run.tags[name] for name in PARTITION_TAGS if name in run.tags}
    return dg.RunRequest(
        # One for each run that was cut off, whichever daemon asks.
        run_key=f"rerun/{run.run_id}",
        job_name=run.job_name,
        run_config=run.run_config,
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        asset_check_keys=sorted(run.asset_check_selection) if run.asset_check_selection else None,
        tags={**partitions, REASON_TAG: "rerun: the run before was cut off", _OWN_TAG: run.run_id},
    )
