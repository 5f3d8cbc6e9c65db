"""What the sensors that request runs share: runs over a range of partitions, and what is being worked on already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import Names
from dagster_feature_store.sensors.attempts import CAUSE_TAG, Attempts
from feature_store.clock import SystemClock, to_utc
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import InvalidRequestError
from feature_store.monitoring.check_names import DESCRIPTIONS
from feature_store.partitions import Partitioning, Window

REASON_TAG = "feature_store/reason"
"""Tag of runs that a sensor has requested: why, in a few words."""

MOST_RUNS_A_LOOK = 20

TRUSTED_FOR = timedelta(hours=2)
"""How long a run may log nothing and still counts as going on."""

_PARTITION = "dagster/partition"
_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_PRIORITY = "dagster/priority"
PARTITION_TAGS = (_PARTITION, _RANGE_START, _RANGE_END)
"""Tags that say which partitions a run computes."""

_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_MOST_RUNS = 1000


FeatureJobs = Mapping[str, UnresolvedAssetJobDefinition]
"""The job that computes each feature group, by the group's name. One job has groups of one partitioning."""


class RangeRequests:
    """Requests for runs over ranges of partitions: one run for all groups that need the same range for one reason.

    A run that has failed is requested again, as long as its cause is there: after a pause that is doubled with each
    attempt, and stays short where an outage has ended it. Records of runs can put off a request, and never make it
    superfluous.

    Args:
        instance: Holds the runs.
        names: What the objects of the code location are called.
        first_pause: Time to the second attempt.
    """

    def __init__(self, instance: DagsterInstance, names: Names, first_pause: timedelta) -> None:
        self.paused = 0
        self._instance = instance
        self._names = names
        self._first_pause = first_pause
        self._wanted: dict[_Range, list[tuple[str, Any]]] = {}

    def add(
        self, group: FeatureGroup, span: Window, *, job_name: str, cause: Any, reason: str, priority: int = 0
    ) -> None:
        """Adds a span of partitions of a group.

        Args:
            group: The feature group.
            span: Whole partitions.
            job_name: The job that computes the group.
            cause: Plain values that make this another request than one of the same span before.
            reason: Why, in a few words; stands in the run's tags.
            priority: Runs of greater priority leave the queue first.
        """
        first, last = group.partitioning.key(span.start), group.partitioning.key(span.end - group.partitioning.length)
        self._wanted.setdefault(_Range(-priority, job_name, first, last, reason), []).append((group.name, cause))

    def due(self, now: datetime, most: int = MOST_RUNS_A_LOOK) -> list[dg.RunRequest]:
        """Returns the requests whose time has come: of the greatest priority and the newest first.

        Args:
            now: The wall clock.
            most: So many at once.
        """
        found: list[dg.RunRequest] = []
        wanted = sorted(self._wanted.items(), key=lambda item: item[0].last, reverse=True)
        for asked, groups in sorted(wanted, key=lambda item: item[0].rank):
            if len(found) == most:
                break
            cause = digest([asked, groups])
            attempts = Attempts.of_cause(self._instance, cause)
            next_at = attempts.next_at(self._instance, self._first_pause)
            if next_at is not None and now < next_at:
                self.paused += 1
                continue
            found.append(self._request(asked, [name for name, _ in groups], cause, attempts.count))
        return found

    def _request(self, asked: _Range, groups: Sequence[str], cause: str, attempts: int) -> dg.RunRequest:
        return dg.RunRequest(
            # Two daemons, or one that has died meanwhile, ask by the same key: Dagster launches it once.
            run_key=f"{cause}/{attempts}",
            job_name=asked.job_name,
            asset_selection=[self._names.key(name) for name in groups],
            asset_check_keys=partition_checks(groups, self._names),
            tags={
                _RANGE_START: asked.first,
                _RANGE_END: asked.last,
                REASON_TAG: asked.reason,
                CAUSE_TAG: cause,
                _PRIORITY: str(-asked.rank),
            },
        )


def partition_checks(groups: Iterable[str], names: Names) -> list[dg.AssetCheckKey]:
    """Returns the checks of the partitions of groups: without them a run takes those of the whole group along, too."""
    return [dg.AssetCheckKey(names.key(group), check) for group in groups for check in DESCRIPTIONS]


class _Range(NamedTuple):
    """A range of partitions of a job's groups, and why it is wanted."""

    rank: int
    job_name: str
    first: str
    last: str
    reason: str


class WorkInProgress:
    """What unfinished runs and backfills work on: nobody requests it a second time.

    The record of a run whose machine has died may say for ever that it goes on. It is trusted as long as the run has
    logged something within `TRUSTED_FOR`; Dagster's run monitoring finds most of them much sooner.
    """

    def __init__(self, spans: Mapping[str, list[Window] | None], *, on_everything: bool) -> None:
        self._spans = spans
        self._on_everything = on_everything

    @classmethod
    def of(cls, instance: DagsterInstance, job_names: Collection[str]) -> WorkInProgress:
        """Looks at what goes on.

        Args:
            instance: Holds the runs.
            job_names: Jobs over feature groups; a run of one that names no assets works on all of its groups.
        """
        from dagster_feature_store.compat_backfills import BulkActionsFilter, BulkActionStatus

        spans: dict[str, list[Window] | None] = {}
        on_everything = False
        for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED), limit=_MOST_RUNS):
            run = record.dagster_run
            if not _is_alive(instance, record):
                continue
            if not run.asset_selection:
                on_everything |= run.job_name in job_names
                continue
            worked_on = _span_of(run.tags)
            for key in run.asset_selection:
                known = spans.setdefault(key.to_user_string(), [])
                if worked_on is None:
                    spans[key.to_user_string()] = None
                elif known is not None:
                    known.append(worked_on)
        active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
        for backfill in instance.get_backfills(filters=active):
            spans |= {key.to_user_string(): None for key in backfill.asset_selection or []}
        return cls(spans, on_everything=on_everything)

    def on_any_of(self, asset: str) -> bool:
        """Tells whether something of an asset is worked on."""
        return self._on_everything or asset in self._spans

    def on_all_of(self, asset: str) -> bool:
        """Tells whether all partitions of an asset may be worked on."""
        return self._on_everything or self._spans.get(asset, []) is None

    def on(self, asset: str) -> Sequence[Window]:
        """Returns the spans of an asset that are worked on, where it is not all of it."""
        return self._spans.get(asset) or []


def _span_of(tags: Mapping[str, str]) -> Window | None:
    """Returns the span of partitions that a run's tags name; None if they do not."""
    first = tags.get(_RANGE_START, tags.get(_PARTITION))
    last = tags.get(_RANGE_END, tags.get(_PARTITION))
    if first is None or last is None:
        return None
    for partitioning in Partitioning:
        with suppress(InvalidRequestError):
            return partitioning.span(first, last)
    return None


def _is_alive(instance: DagsterInstance, record: dg.RunRecord) -> bool:
    """Tells whether the record of an unfinished run can be trusted."""
    now = SystemClock().now()
    if record.dagster_run.status is DagsterRunStatus.QUEUED or now - to_utc(record.update_timestamp) < TRUSTED_FOR:
        # What waits in the queue is started by whatever daemon comes.
        return True
    page = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False)
    last = max((entry.timestamp for entry in page.records), default=0.0)
    return now - datetime.fromtimestamp(last, UTC) < TRUSTED_FOR


def jobs_of(feature_jobs: FeatureJobs) -> list[UnresolvedAssetJobDefinition]:
    """Returns the jobs over feature groups, each once."""
    return list({job.name: job for job in feature_jobs.values()}.values())


def digest(value: Any) -> str:
    """Returns a short text that is equal for equal plain values, in cursors and run keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
