"""The alert sensor: reports what finished runs say, and sends the messages that all sensors have noted.

Its cursor moves past a run only when what the run says is in the registry: while the registry is away, nothing is lost.
The other sensors note what they find and send nothing, so that a slow channel holds up none of them.

A feature group whose run has failed is well again when nothing of it is left to be computed or pushed: what that means
the gap sensor sees, and notes it with `recoveries`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import msgspec
from dagster import DagsterInstance, DagsterRunStatus

from dagster_feature_store.alerts_page import alerts_observation
from dagster_feature_store.naming import Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.outages import STORAGE
from dagster_feature_store.sensors.run_findings import Owned, findings_of
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.clock import SystemClock, to_utc
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import RegistryError

if TYPE_CHECKING:
    from feature_store.alerts.notifier import Notice
    from feature_store.registry.records import IncidentRecord

INTERVAL_SECONDS = 30
SECONDS_A_LOOK = 20.0
MOST_RUNS_A_LOOK = 100

FIRST_LOOK_BACK = timedelta(days=1)
"""A sensor that has never looked looks at the runs of this time."""

_OVERLAP = timedelta(minutes=2)
"""Runs are looked for again so far back: the machines that end them have clocks of their own."""


class _Cursor(msgspec.Struct):
    """Up to where runs have been looked at.

    Attributes:
        until: When the last one ended, seconds since 1970.
        runs: Those of the time before it that is looked at again, with their ends.
    """

    until: float
    runs: dict[str, float] = {}


@dataclass(slots=True)
class _Reported:
    runs: int = 0
    findings: int = 0
    failing: int = 0
    left: int = 0


def alert_sensor(
    groups: Sequence[FeatureGroup],
    training_sets: Sequence[TrainingSet],
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all runs of this code location."""
    names = looks.names
    every: list[Owned] = [*groups, *training_sets]
    owned = {names.key_text(each.name): each for each in every}

    @looks.sensor(
        "alert_sensor",
        INTERVAL_SECONDS,
        "Reports once to owners what fails in runs, and once when it is well again; sends what other sensors found.",
        resources={names.store_key, names.alerts_key},
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = SystemClock().now()
        cursor = _Cursor((now - FIRST_LOOK_BACK).timestamp())
        if context.cursor:
            cursor = msgspec.json.decode(context.cursor, type=_Cursor)
        done = _Reported()
        noted: dict[str, IncidentRecord] = {}
        until = time.monotonic() + SECONDS_A_LOOK
        with names.store(context).open() as store:
            alerts = names.alerts(context).open(store.registry)
            try:
                records = list(_finished(context.instance, cursor))
                for number, record in enumerate(records):
                    if number and time.monotonic() > until:
                        done.left = len(records) - number
                        break
                    findings = _findings(context, record.dagster_run, owned, names)
                    noted |= {incident.key: incident for incident in alerts.note(findings)}
                    _passed(cursor, record)
                    done.runs += 1
                    done.findings += len(findings)
                    done.failing += sum(bool(finding.failed) for finding in findings)
                notices = alerts.deliver(list(noted.values()))
                seen = store.registry.incidents() if notices else {}
            except RegistryError as error:
                context.update_cursor(msgspec.json.encode(cursor).decode())
                return dg.SkipReason(f"The registry does not answer: what was found is reported later. {error}")
        for notice in notices:
            for reason in notice.errors.values():
                context.log.error("An alert was not delivered. %s", reason)
        summary = _summary(done, notices)
        events = [alerts_observation(seen.values(), names)] if notices else []
        return dg.SensorResult(skip_reason=summary, asset_events=events, cursor=msgspec.json.encode(cursor).decode())

    return sense


def recoveries(incidents: Collection[IncidentRecord], well: Collection[str]) -> Iterator[Finding]:
    """Yields findings that failed runs have been made good, and that a storage that had failed them answers again.

    Args:
        incidents: Those that are open.
        well: Names of feature groups of which nothing is left to be computed or pushed.
    """
    for incident in incidents:
        kind, _, name = incident.key.partition("/")
        groups = incident.finding.get("groups") or [name]
        is_of_groups = kind in {"run", "cause"} or (incident.key == STORAGE.key and incident.finding.get("groups"))
        if is_of_groups and set(groups) <= set(well):
            finding = {**incident.finding, "failed": (), "passed": (WHOLE,)}
            yield msgspec.convert(finding, Finding)


def _findings(
    context: dg.SensorEvaluationContext, run: dg.DagsterRun, owned: Mapping[str, Owned], names: Names
) -> list[Finding]:
    """Returns what a run says; a run that cannot be read is logged, and stands in no other's way."""
    try:
        return findings_of(context.instance, run, owned, names)
    except Exception:
        context.log.exception("What run %s says cannot be read", run.run_id)
        return []


def _finished(instance: DagsterInstance, cursor: _Cursor) -> Iterator[dg.RunRecord]:
    """Yields the runs that have ended and were not looked at, in the order in which they ended."""
    filters = dg.RunsFilter(
        statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE],
        updated_after=datetime.fromtimestamp(cursor.until, UTC) - _OVERLAP,
    )
    limit = MOST_RUNS_A_LOOK + len(cursor.runs)
    for record in instance.get_run_records(filters, limit=limit, order_by="update_timestamp", ascending=True):
        if record.dagster_run.run_id not in cursor.runs:
            yield record


def _passed(cursor: _Cursor, record: dg.RunRecord) -> None:
    ended = to_utc(record.update_timestamp).timestamp()
    cursor.until = max(cursor.until, ended)
    cursor.runs[record.dagster_run.run_id] = ended
    oldest = cursor.until - 2 * _OVERLAP.total_seconds()
    cursor.runs = {run: end for run, end in cursor.runs.items() if end >= oldest}


def _summary(done: _Reported, notices: Sequence[Notice]) -> str:
    told = "; ".join(f"{notice.event}: {notice.title}" for notice in notices) or "nobody needed to be told"
    left = f" {done.left} more run(s) are looked at next." if done.left else ""
    return f"{done.runs} run(s): {done.failing} of {done.findings} checks and steps failed; {told}.{left}"
