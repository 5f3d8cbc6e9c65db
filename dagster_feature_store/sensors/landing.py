"""The landing sensor: sees source days that have landed or changed, and tells Dagster.

What it compares with is Dagster's own record of each day, not a cursor: after a restart, or a day without a daemon, it
reports what is new and nothing twice. The automation conditions of the feature groups do the rest.

Files seldom change alone. Days are reported together once nothing more has changed for one tick, so that a storm of
late files makes one backfill; the cursor holds what is being waited for, and losing it costs one tick.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl
from dagster import AssetCheckEvaluation, AssetMaterialization, DagsterEventType, DagsterInstance

from dagster_feature_store.check_results import verdicts_again
from dagster_feature_store.compat import DATA_VERSION_TAG
from dagster_feature_store.metadata import event_columns
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.inputs import unchanged_partitions
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import digest
from feature_store.day_windows import day_window
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source, fingerprints
from feature_store.errors import FeatureStoreError
from feature_store.monitoring.checks import DESCRIPTIONS

INTERVAL_SECONDS = 30
MOST_EVENTS_A_TICK = 2000
MOST_TICKS_WAITED = 10
"""A source whose files never come to rest is reported after this many ticks."""

_AT_REST = json.dumps(["", 0])


def landed_events(
    instance: DagsterInstance, source: Source, known: Mapping[date, str], *, names: Names = DEFAULT_NAMES
) -> Iterator[AssetMaterialization]:
    """Yields a materialization for each landed day whose content differs from what Dagster has on record.

    All of them tell the latest day that has landed, and the last one the columns, as its day has them: that is the one
    which the UI shows on the source's page.

    Args:
        instance: Holds the record.
        source: The source.
        known: The days that have landed, with their fingerprints.
        names: What the objects of the code location are called.
    """
    key = names.key(source.name)
    recorded = instance.event_log_storage.get_latest_tags_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    changed = [day for day in known if recorded.get(day.isoformat(), {}).get(DATA_VERSION_TAG) != known[day]]
    for day in changed:
        metadata: dict[str, Any] = {"latest_day": max(known).isoformat()}
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


def landing_sensor(
    sources: Sequence[Source],
    groups: Sequence[FeatureGroup] = (),
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all sources.

    Args:
        sources: The sources.
        groups: The groups that read them. What the command line has computed of a day is not computed again.
        looks: What all sensors share.
    """
    names = looks.names

    @looks.sensor(
        "landing_sensor",
        INTERVAL_SECONDS,
        "Reports source days that have landed or changed, together, once no more of them do; what reads them is "
        "then recomputed as one backfill.",
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        known = {source.name: fingerprints(source) for source in sources}
        events = [
            event
            for source in sources
            for event in landed_events(context.instance, source, known[source.name], names=names)
        ]
        if not events:
            context.update_cursor(_AT_REST)
            return dg.SkipReason("No source day has landed or changed.")
        seen = digest([[event.asset_key.to_user_string(), event.partition, event.tags] for event in events])
        before, ticks = json.loads(context.cursor or _AT_REST)
        if before != seen and ticks < MOST_TICKS_WAITED:
            context.update_cursor(json.dumps([seen, ticks + 1]))
            return dg.SkipReason(f"{len(events)} source day(s) have landed or changed; waiting whether more do.")
        reported = events[:MOST_EVENTS_A_TICK]
        landed: dict[dg.AssetKey, set[date]] = defaultdict(set)
        for event in reported:
            landed[event.asset_key].add(date.fromisoformat(event.partition or ""))
        again: list[AssetMaterialization | AssetCheckEvaluation] = []
        for group in groups:
            if days := landed.get(names.key(group.source.name)):
                found = known[group.source.name]
                unchanged = list(unchanged_partitions(context.instance, group, days, found, names=names))
                again += unchanged
                if unchanged:
                    again += verdicts_again(context.instance, names.key(group.name), DESCRIPTIONS)
        return dg.SensorResult(asset_events=[*reported, *again], cursor=_AT_REST)

    return sense
