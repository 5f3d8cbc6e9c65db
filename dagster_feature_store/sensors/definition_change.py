"""The definition sensor: backfills new features, and reports what an edited function would change.

A new version or a new column is missing in the files that exist: they are computed again, the newest first. An edited
function of a live version is another matter. Its values stay as they are; the sensor runs the function on one stored
partition, writes nothing, and reports a difference to the owner. A backfill that would change live values in passing
is not requested either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import FeatureJobs, busy_assets, digest, jobs_of, range_request
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.definitions.group import FeatureGroup
from feature_store.offline.store import OfflineStore
from feature_store.reconcile.coverage import Coverage, coverage
from feature_store.reconcile.definition_change import changed_values
from feature_store.reconcile.partitions import lacking_features

INTERVAL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a group's definition means for what is stored; `difference` is None where no live value would change."""

    requests: tuple[dg.RunRequest, ...]
    difference: str | None
    is_settled: bool


def backfill_requests(
    group: FeatureGroup, found: Coverage, job_name: str, names: Names = DEFAULT_NAMES
) -> Iterator[dg.RunRequest]:
    """Yields requests for the partitions that lack a feature: the newest in one run, then the rest of each range.

    Args:
        group: As it is declared now.
        found: What lies in the offline store.
        job_name: The job that computes the group.
        names: What the objects of the code location are called.
    """
    columns = sorted(spec.ref.column for spec in group.features)
    cause = f"columns-{digest([columns, group.code_version])}"
    reason = "definition: files that exist lack a feature"
    newest, rest = lacking_features(group, found)
    for priority, part in ((1, newest), (0, rest)):
        for span in part:
            yield range_request(
                group, span, job_name=job_name, cause=cause, reason=reason, priority=priority, names=names
            )


def definition_sensor(
    groups: Sequence[FeatureGroup],
    feature_jobs: FeatureJobs,
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all feature groups."""
    names = looks.names

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
        settled: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        changed = [group for group in groups if settled.get(group.name) != _signature(group)]
        if not changed:
            return dg.SkipReason("Every definition is the one that was looked at before.")
        busy = busy_assets(context.instance, [job.name for job in feature_jobs.values()])
        requests: list[dg.RunRequest] = []
        findings: list[Finding] = []
        with names.store(context).open() as store:
            for group in changed:
                if busy is None or names.key_text(group.name) in busy:
                    continue
                verdict = _judged(group, store.offline, feature_jobs[group.name].name, names)
                requests += verdict.requests
                findings.append(_finding(group, verdict.difference))
                if verdict.difference is not None:
                    context.log.info("%s: %s", group.name, verdict.difference)
                if verdict.is_settled:
                    settled[group.name] = _signature(group)
            notices = names.alerts(context).open(store.registry).report(findings)
        told = [notice.title for notice in notices]
        cursor = json.dumps(settled)
        if not requests:
            context.update_cursor(cursor)
            return dg.SkipReason("; ".join(told) or "Nothing that is stored lacks a feature.")
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return sense


def _signature(group: FeatureGroup) -> str:
    return digest([sorted(spec.ref.column for spec in group.features), group.code_version])


def _judged(group: FeatureGroup, offline: OfflineStore, job_name: str, names: Names) -> _Verdict:
    found = coverage(group, offline)
    difference = changed_values(group, offline, found)
    if difference is not None:
        return _Verdict((), difference, is_settled=False)
    return _Verdict(tuple(backfill_requests(group, found, job_name, names)), None, is_settled=not found.lacking)


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
