"""The stream sensor: has streamed rows drained as they come. And the schedule that folds the files this leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from feature_store.definitions.group import FeatureGroup
from feature_store.errors import StreamError
from feature_store.streaming.settings import StreamSettings
from resources.feature_store import FeatureStoreResource
from sensors.requests import REASON_TAG, busy_assets

INTERVAL_SECONDS = 30
NIGHTLY = "45 3 * * *"
"""After the nightly monitor. UTC."""


def stream_sensor(
    groups: Sequence[FeatureGroup],
    job: UnresolvedAssetJobDefinition,
    asset_name: Callable[[str], str],
    *,
    interval_seconds: int = INTERVAL_SECONDS,
) -> dg.SensorDefinition:
    """Returns the sensor over all groups that have a stream.

    Args:
        groups: The groups.
        job: Drains them.
        asset_name: Returns the name of the asset that drains a group, given the group's.
        interval_seconds: Time between two looks.
    """

    @dg.sensor(
        name="stream_sensor",
        description="Drains the rows that streams have computed into the offline store, as they come.",
        job=job,
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sense(
        context: dg.SensorEvaluationContext, feature_store: FeatureStoreResource
    ) -> dg.SensorResult | dg.SkipReason:
        settings = feature_store.settings()
        if settings.kafka is None:
            return dg.SkipReason("No Kafka broker is named (FEATURE_STORE_KAFKA): there are no streams to drain.")
        from feature_store.streaming.topics import ends_of, features_topic

        seen: dict[str, int] = json.loads(context.cursor or "{}")
        try:
            ends = ends_of(StreamSettings.of(settings).client, [features_topic(group.name) for group in groups])
        except StreamError as error:
            return dg.SkipReason(str(error))
        busy = busy_assets(context.instance, {job.name})
        if busy is None:
            return dg.SkipReason("Too much is going on to tell what is being drained.")
        grown = {
            group.name: end
            for group in groups
            if (end := ends.get(features_topic(group.name), 0)) > seen.get(group.name, 0)
            and asset_name(group.name) not in busy
        }
        if not grown:
            return dg.SkipReason("Nothing has been streamed since.")
        request = dg.RunRequest(
            run_key=json.dumps(grown, sort_keys=True),
            asset_selection=[dg.AssetKey(asset_name(name)) for name in grown],
            tags={REASON_TAG: "stream: rows have come"},
        )
        return dg.SensorResult(run_requests=[request], cursor=json.dumps(seen | grown, sort_keys=True))

    return sense


def compaction_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Returns the schedule that folds small files every night."""
    return dg.ScheduleDefinition(
        name="nightly_compaction",
        job=job,
        cron_schedule=NIGHTLY,
        description="Folds every night the small files that streams leave.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
