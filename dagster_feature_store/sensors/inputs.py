"""Partitions that were computed elsewhere, by the command line: of which inputs, and whether these still are the same.

Such a partition is reported with a data version made of the fingerprints of all source days that it reads. When a day
is reported as landed, Dagster would have everything computed that reads it; what was made of just these days is
reported once more, right behind them, and so is newer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date

import dagster as dg
from dagster import AssetMaterialization, DagsterEventType, DagsterInstance

from dagster_feature_store.check_results import latest_records
from dagster_feature_store.compat import DATA_VERSION_TAG
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.requests import digest
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Window


def inputs_version(group: FeatureGroup, window: Window, known: Mapping[date, str]) -> str:
    """Returns the data version of a partition.

    Args:
        group: The feature group.
        window: The partition.
        known: Fingerprints of the source days that have landed.
    """
    from feature_store.reconcile.partitions import source_days

    days = source_days(group, window).dates()
    return f"inputs-{digest([[day.isoformat(), known.get(day)] for day in days])}"


def unchanged_partitions(
    instance: DagsterInstance,
    group: FeatureGroup,
    landed: Collection[date],
    known: Mapping[date, str],
    *,
    names: Names = DEFAULT_NAMES,
) -> Iterator[AssetMaterialization]:
    """Yields the materializations of partitions anew that read landed days and were made of what lies there now.

    Args:
        instance: Holds the record.
        group: The feature group.
        landed: The days that are reported.
        known: Fingerprints of all source days that have landed.
        names: What the objects of the code location are called.
    """
    from feature_store.reconcile.partitions import source_days

    key = names.key(group.name)
    recorded = instance.event_log_storage.get_latest_tags_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    versions = {}
    for partition, tags in recorded.items():
        window = group.partitioning.window(partition)
        if not set(landed).isdisjoint(source_days(group, window).dates()):
            version = inputs_version(group, window, known)
            if tags.get(DATA_VERSION_TAG) == version:
                versions[partition] = version
    records = latest_records(instance, key, list(versions)) if versions else {}
    for partition, version in sorted(versions.items()):
        found = records[partition].asset_materialization
        yield dg.AssetMaterialization(
            asset_key=key,
            partition=partition,
            metadata=found.metadata if found else None,
            tags={DATA_VERSION_TAG: version},
        )
