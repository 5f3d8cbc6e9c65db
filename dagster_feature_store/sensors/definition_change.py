"""The definition sensor: backfills new features, and reports what an edited function would change.

A new version or a new column is missing in the files that exist: they are computed again, the newest first. An edited
function of a live version is another matter. Its values stay as they are; the sensor runs the function on one stored
partition, writes nothing, and reports a difference to the owner. A backfill that would change live values in passing
is not requested either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import FeatureJobs, RangeRequests, WorkInProgress, digest, jobs_of
from dagster_feature_store.sensors.sources import SourceLooks
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.clock import SystemClock
from feature_store.definitions.group import FeatureGroup

if TYPE_CHECKING:
    from feature_store.offline.failed_partitions import FailedPartition
    from feature_store.reconcile.due import DuePartitions, LandedDays
    from feature_store.store import FeatureStore

INTERVAL_SECONDS = 60
LACKING = "definition: files that exist lack a feature"


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a group's definition means for what is stored; `difference` is None where no live value would change."""

    due: DuePartitions | None
    difference: str | None
    is_settled: bool


def backfill_requests(group: FeatureGroup, due: DuePartitions, requests: RangeRequests, job_name: str) -> None:
    """Adds requests for the partitions that lack a feature: the newest in one run, then the rest of each range.

    Args:
        group: As it is declared now.
        due: What is to be computed of it.
        requests: Is added to.
        job_name: The job that computes the group.
    """
    from feature_store.reconcile.coverage import spans
    from feature_store.reconcile.due import NEWEST_PARTITIONS, newest_first

    cause = [group.name, sorted(spec.ref.column for spec in group.features), group.code_version]
    newest, rest = due.lacking[-NEWEST_PARTITIONS:], due.lacking[:-NEWEST_PARTITIONS]
    for priority, part in ((1, newest), (0, rest)):
        for span in newest_first(spans(part)):
            requests.add(group, span, job_name=job_name, cause=cause, reason=LACKING, priority=priority)


def definition_sensor(
    groups: Sequence[FeatureGroup],
    feature_jobs: FeatureJobs,
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all feature groups."""
    names = looks.names
    source_looks = SourceLooks()

    @looks.sensor(
        "definition_sensor",
        INTERVAL_SECONDS,
        (
            "Backfills the partitions that exist with features that were added, the newest first; reports an edited "
            "function whose live values would change, and computes nothing again."
        ),
        resources={names.store_key, names.alerts_key},
        jobs=jobs_of(feature_jobs),
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from feature_store.offline.failed_partitions import failed_partitions

        settled: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        changed = [group for group in groups if settled.get(group.name) != _signature(group)]
        if not changed:
            return dg.SkipReason("Every definition is the one that was looked at before.")
        work = WorkInProgress.of(context.instance, [job.name for job in feature_jobs.values()])
        seen = source_looks.at(group.source for group in changed)
        wanted = RangeRequests(context.instance, names, looks.first_pause)
        findings: list[Finding] = []
        with names.store(context).open() as store:
            failed = failed_partitions(store.offline.root)
            for group in changed:
                landed = seen.landed.get(group.source.name)
                if landed is None or work.on_any_of(names.key_text(group.name)):
                    continue
                verdict = _judged(group, store, landed, failed)
                if verdict.due is not None:
                    backfill_requests(group, verdict.due, wanted, feature_jobs[group.name].name)
                findings.append(_finding(group, verdict.difference))
                if verdict.difference is not None:
                    context.log.info("%s: %s", group.name, verdict.difference)
                if verdict.is_settled:
                    settled[group.name] = _signature(group)
            noted = names.alerts(context).open(store.registry).note(findings)
        told = [f"{record.pending}: {record.finding['title']}" for record in noted]
        for source, error in seen.errors.items():
            context.log.error("Source %s: %s", source, error)
        cursor = json.dumps(settled)
        requests = wanted.due(SystemClock().now())
        if not requests:
            context.update_cursor(cursor)
            what = "; ".join(told) or "Nothing that is stored lacks a feature, or a failed run waits for its pause."
            return dg.SkipReason(" ".join(filter(None, [what, str(seen)])))
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return sense


def _signature(group: FeatureGroup) -> str:
    return digest([sorted(spec.ref.column for spec in group.features), group.code_version])


def _judged(
    group: FeatureGroup,
    store: FeatureStore,
    landed: LandedDays,
    failed: Mapping[tuple[str, datetime], FailedPartition],
) -> _Verdict:
    from feature_store.reconcile.coverage import coverage
    from feature_store.reconcile.definition_change import changed_values
    from feature_store.reconcile.due import due_partitions

    found = coverage(group, store.offline)
    difference = changed_values(group, store.offline, found, landed)
    if difference is not None:
        return _Verdict(None, difference, is_settled=False)
    now = store.clock.now()
    due = due_partitions(group, found, landed, failed, now=now, tried_until=SystemClock().now())
    return _Verdict(due, None, is_settled=not found.lacking)


def _finding(group: FeatureGroup, difference: str | None) -> Finding:
    whole: dict[str, Any] = {"passed" if difference is None else "failed": (WHOLE,)}
    return Finding(
        key=f"definition/{group.name}",
        title=f"The function of {group.name} was edited, and live values would change",
        summary=f"{difference} Nothing was computed again." if difference else "",
        group=group.name,
        owner=group.owner,
        remedy=(
            "Give the features that change a new version (a column with the suffix _v2), or undo the edit. If the "
            "stored values are what is wrong, materialize the partitions again by hand."
        ),
        link=f"/assets/{group.name}",
        **whole,
    )
