"""The landing sensor: sees source days that have landed or changed, and tells Dagster.

What it compares with is Dagster's own record of each day, not a cursor: after a restart, or a day without a daemon, it
reports what is new and nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import dagster as dg
import polars as pl
from dagster import AssetMaterialization, DagsterEventType, DagsterInstance

from dagster_feature_store.compat import DATA_VERSION_TAG
from dagster_feature_store.metadata import event_columns
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.sources import SourceLooks
from feature_store.day_windows import day_window
from feature_store.definitions.source import Source
from feature_store.errors import FeatureStoreError
from feature_store.sources.cost import cost_of_look

INTERVAL_SECONDS = 30
MOST_EVENTS_A_TICK = 2000


def landed_events(
    instance: DagsterInstance, source: Source, known: Mapping[date, str], *, names: Names = DEFAULT_NAMES
) -> Iterator[AssetMaterialization]:
    """Yields a materialization for each landed day whose content differs from what Dagster has on record.

    All of them give the latest day that has landed and, where it is counted, what the look has cost. The last one,
    which the UI shows on the source's page, gives the columns, as its day has them.

    Args:
        instance: Holds the record.
        source: The source.
        known: The days that have landed, with their fingerprints.
        names: What the objects of the code location are called.
    """
    key = names.source_key(source.name)
    recorded = instance.event_log_storage.get_latest_tags_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    changed = [day for day in known if recorded.get(day.isoformat(), {}).get(DATA_VERSION_TAG) != known[day]]
    cost = cost_of_look(source.name)
    spent = {} if cost is None else {f"look_{name}": value for name, value in asdict(cost).items()}
    for day in changed:
        metadata: dict[str, Any] = {"latest_day": max(known).isoformat(), **spent}
        if day == changed[-1] and (columns := _columns(source, day)) is not None:
            metadata["dagster/column_schema"] = columns
        yield AssetMaterialization(
            asset_key=key, partition=day.isoformat(), tags={DATA_VERSION_TAG: known[day]}, metadata=metadata
        )


def _columns(source: Source, day: date) -> dg.TableSchema | None:
    """Returns the columns of a day; None where it cannot be read, which the groups that compute it will tell."""
    try:
        return event_columns(source.scan(day_window(day)).collect_schema())
    except (OSError, pl.exceptions.PolarsError, FeatureStoreError):
        return None


def landing_sensor(sources: Sequence[Source], looks: Looks = DEFAULT_LOOKS) -> dg.SensorDefinition:
    """Returns the sensor over all sources.

    Args:
        sources: The sources.
        looks: What all sensors share.
    """
    names = looks.names
    source_looks = SourceLooks()
    reported: dict[str, str] = {}

    @looks.sensor(
        "landing_sensor",
        INTERVAL_SECONDS,
        "Reports source days that have landed or changed. What reads them is requested by the gap sensor.",
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = source_looks.at(sources)
        events: list[AssetMaterialization] = []
        for source in sources:
            landed = seen.landed.get(source.name)
            if landed is None or reported.get(source.name) == landed.signature:
                continue
            found = list(landed_events(context.instance, source, landed.landed, names=names))
            if not found:
                # Dagster knows all of it: not asked again before something changes.
                reported[source.name] = landed.signature
            events += found
        for name, error in seen.errors.items():
            context.log.error("Source %s: %s", name, error)
        if not events:
            return dg.SkipReason(" ".join(filter(None, ["No source day has landed or changed.", str(seen)])))
        return dg.SensorResult(asset_events=events[:MOST_EVENTS_A_TICK])

    return sense
