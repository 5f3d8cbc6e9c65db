"""The stream sensor: has streamed rows drained as they come. And the schedule that folds the files this leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Self

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import REASON_TAG, WorkInProgress
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import StreamError
from feature_store.extras import needs_extra
from feature_store.streaming.settings import StreamSettings

INTERVAL_SECONDS = 30
ENDS = "ends"
"""Metadata of a drain: where the partitions of its topic ended."""
_LONGEST_PAUSE = 3600.0
NIGHTLY = "45 3 * * *"
"""After the nightly monitor. UTC."""


def stream_sensor(
    groups: Sequence[FeatureGroup],
    job: UnresolvedAssetJobDefinition,
    asset_name: Callable[[str], str],
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all groups that have a stream.

    Args:
        groups: The groups.
        job: Drains them.
        asset_name: Returns the name of the asset that drains a group, given the group's.
        looks: What all sensors share.
    """
    names = looks.names

    @looks.sensor(
        "stream_sensor",
        INTERVAL_SECONDS,
        "Drains the rows that streams have computed into the offline store, as they come.",
        resources={names.store_key},
        jobs=[job],
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        settings = names.store(context).settings()
        if settings.kafka is None:
            return dg.SkipReason("No Kafka broker is named (FEATURE_STORE_KAFKA): there are no streams to drain.")
        with needs_extra("stream", "FEATURE_STORE_KAFKA"):
            from feature_store.streaming.topics import ends_of, features_topic

        asked = _Asked.of(context.cursor)
        try:
            ends = ends_of(StreamSettings.of(settings).client, [features_topic(group.name) for group in groups])
        except StreamError as error:
            return dg.SkipReason(str(error))
        work = WorkInProgress.of(context.instance, {job.name})
        waiting = {
            group.name: there
            for group in groups
            if (there := ends.get(features_topic(group.name)))
            and _has_grown(there, _drained(context.instance, names.key(asset_name(group.name))))
            and not work.on_any_of(names.key_text(asset_name(group.name)))
        }
        due = {
            name: there
            for name, there in waiting.items()
            if asked.is_due(name, there, lambda since: _has_failed(context.instance, job.name, since))
        }
        if not due:
            return dg.SkipReason("Nothing has been streamed since.")
        request = dg.RunRequest(
            asset_selection=[names.key(asset_name(name)) for name in due],
            tags={REASON_TAG: "stream: rows have come"},
        )
        return dg.SensorResult(run_requests=[request], cursor=asked.cursor(due))

    return sense


def _drained(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, int]:
    """Returns where the partitions ended that the last drain has read, by the names of `topics.ends_of`."""
    event = instance.get_latest_materialization_event(key)
    found = event.asset_materialization.metadata.get(ENDS) if event and event.asset_materialization else None
    return dict(found.value) if isinstance(found, dg.JsonMetadataValue) and isinstance(found.value, Mapping) else {}


def _has_failed(instance: dg.DagsterInstance, job: str, since: float) -> bool:
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    filters = dg.RunsFilter(job_name=job, statuses=ended, created_after=datetime.fromtimestamp(since, UTC))
    return bool(instance.get_run_records(filters, limit=1))


def _has_grown(ends: Mapping[str, int], drained: Mapping[str, int]) -> bool:
    return any(end > drained.get(name, 0) for name, end in ends.items())


class _Asked(NamedTuple):
    """What was asked for, per group: at which ends, how often, and when (seconds since 1970)."""

    groups: dict[str, tuple[dict[str, int], int, float]]

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        found = json.loads(cursor or "{}")
        return cls({name: tuple(asked) for name, asked in found.items() if isinstance(asked, list)})

    def is_due(self, name: str, ends: Mapping[str, int], has_failed: Callable[[float], bool]) -> bool:
        """Tells whether a drain that waits is to be asked for: at once, and ever less often the more have failed."""
        before, tries, when = self.groups.get(name, ({}, 0, 0.0))
        if before != ends:
            return True
        pause = 0.0 if tries <= 1 else min(30.0 * 2**tries, _LONGEST_PAUSE)
        # A run that was asked for and is not there yet will come; one that was deleted will not.
        return time.time() - when >= (pause if has_failed(when) else _LONGEST_PAUSE)

    def cursor(self, due: Mapping[str, dict[str, int]]) -> str:
        """Returns the cursor after drains have been asked for."""
        added = {}
        for name, ends in due.items():
            before, tries, _ = self.groups.get(name, ({}, 0, 0.0))
            added[name] = (ends, tries + 1 if before == ends else 1, time.time())
        return json.dumps({**self.groups, **added}, sort_keys=True)


def compaction_schedule(
    job: dg.JobDefinition,
    *,
    names: Names = DEFAULT_NAMES,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.ScheduleDefinition:
    """Returns the schedule that folds small files every night."""
    return dg.ScheduleDefinition(
        name=names.of("nightly_compaction"),
        job=job,
        cron_schedule=NIGHTLY,
        description="Folds the small files that streams leave.",
        default_status=status,
    )
