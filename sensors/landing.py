"""The landing sensor: sees source days that have landed or changed, and tells Dagster.

What it compares with is Dagster's own record of each day, not a cursor: after a restart, or a day without a daemon, it
reports what is new and nothing twice. The automation conditions of the feature groups do the rest.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
from dagster import AssetMaterialization, DagsterEventType, DagsterInstance
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from feature_store.definitions.source import Source

INTERVAL_SECONDS = 60
MOST_EVENTS_A_TICK = 2000


def landed_events(instance: DagsterInstance, source: Source, days: Sequence[date]) -> Iterator[AssetMaterialization]:
    """Yields a materialization for each landed day whose content differs from what Dagster has on record.

    Args:
        instance: Holds the record.
        source: The source.
        days: The days to look at.
    """
    key = dg.AssetKey(source.name)
    recorded = instance.event_log_storage.get_latest_tags_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    for day in days:
        fingerprint = source.fingerprint(day)
        partition = day.isoformat()
        if fingerprint is not None and recorded.get(partition, {}).get(DATA_VERSION_TAG) != fingerprint:
            yield AssetMaterialization(asset_key=key, partition=partition, tags={DATA_VERSION_TAG: fingerprint})


def landing_sensor(sources: Sequence[Source]) -> dg.SensorDefinition:
    """Returns the sensor over all sources."""

    @dg.sensor(
        name="landing_sensor",
        description="Reports source days that have landed or changed; what reads them is then recomputed.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        events = [
            event for source in sources for event in landed_events(context.instance, source, list(source.landed_days()))
        ][:MOST_EVENTS_A_TICK]
        if not events:
            return dg.SkipReason("No source day has landed or changed.")
        return dg.SensorResult(asset_events=events)

    return sense
