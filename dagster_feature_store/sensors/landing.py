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

import dagster as dg
from dagster import AssetMaterialization, DagsterEventType, DagsterInstance

from dagster_feature_store.compat import DATA_VERSION_TAG
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.inputs import unchanged_partitions
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import digest
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source, fingerprints

INTERVAL_SECONDS = 30
MOST_EVENTS_A_TICK = 2000
MOST_TICKS_WAITED = 10
"""A source whose files never come to rest is reported after this many ticks."""

_AT_REST = json.dumps(["", 0])


def landed_events(
    instance: DagsterInstance, source: Source, known: Mapping[date, str], *, names: Names = DEFAULT_NAMES
) -> Iterator[AssetMaterialization]:
    """Yields a materialization for each landed day whose content differs from what Dagster has on record.

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
    for day, fingerprint in known.items():
        partition = day.isoformat()
        if recorded.get(partition, {}).get(DATA_VERSION_TAG) != fingerprint:
            yield AssetMaterialization(asset_key=key, partition=partition, tags={DATA_VERSION_TAG: fingerprint})


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
        unchanged = [
            event
            for group in groups
            if (days := landed.get(names.key(group.source.name)))
            for event in unchanged_partitions(context.instance, group, days, known[group.source.name], names=names)
        ]
        return dg.SensorResult(asset_events=[*reported, *unchanged], cursor=_AT_REST)

    return sense
