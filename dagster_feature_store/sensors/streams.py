"""The stream sensor: has streamed rows drained as they come. And the schedule that folds the files this leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

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

        seen: dict[str, int] = json.loads(context.cursor or "{}")
        try:
            ends = ends_of(StreamSettings.of(settings).client, [features_topic(group.name) for group in groups])
        except StreamError as error:
            return dg.SkipReason(str(error))
        work = WorkInProgress.of(context.instance, {job.name})
        grown = {
            group.name: end
            for group in groups
            if (end := ends.get(features_topic(group.name), 0)) > seen.get(group.name, 0)
            and not work.on_any_of(names.key_text(asset_name(group.name)))
        }
        if not grown:
            return dg.SkipReason("Nothing has been streamed since.")
        request = dg.RunRequest(
            run_key=json.dumps(grown, sort_keys=True),
            asset_selection=[names.key(asset_name(name)) for name in grown],
            tags={REASON_TAG: "stream: rows have come"},
        )
        return dg.SensorResult(run_requests=[request], cursor=json.dumps(seen | grown, sort_keys=True))

    return sense


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
