"""Grows assets from definitions: a source becomes an external asset, a feature group a partitioned one with checks.

Nothing here knows a particular group; nothing here computes or stores a feature.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import dagster as dg

from dagster_feature_store.check_results import (
    check_outputs,
    evaluations,
    latest_materializations,
    materialization_events,
    verdicts,
)
from dagster_feature_store.held_back import BLOCKING
from dagster_feature_store.metadata import column_schema, owners, partition_metadata, tags
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.one_asset import one_asset
from dagster_feature_store.partitions import group_partitions, lookback_mapping, source_partitions
from dagster_feature_store.spark_passes import materialized_passes
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source
from feature_store.durations import duration_text
from feature_store.errors import InvalidRowsError
from feature_store.monitoring.check_names import DESCRIPTIONS, SCHEMA
from feature_store.monitoring.findings import CheckResult
from feature_store.partitions import Window

SOURCES = "sources"
FEATURES = "features"

SourceAsset = dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey | str | Sequence[str]
"""An asset of the project that writes what a source reads: the asset, its spec, or its key."""


def source_asset(source: Source, end: datetime | None, *, names: Names = DEFAULT_NAMES) -> dg.AssetSpec:
    """Returns the external asset of a source. Others write its days; the landing sensor reports them.

    Args:
        source: The source.
        end: Where its days end; None while time goes on.
        names: What the objects of the code location are called.
    """
    return dg.AssetSpec(
        names.source_key(source.name),
        description=getattr(source, "description", None),
        group_name=names.of(SOURCES),
        owners=owners(owner) if (owner := getattr(source, "owner", "")) else None,
        kinds={getattr(source, "kind", "parquet"), "source"},
        partitions_def=source_partitions(source, end),
    )


def source_dependency(group: FeatureGroup, names: Names, source: SourceAsset | None) -> dg.AssetDep:
    """Returns how a group depends on its source: on the days that its look-back reaches, where there are days."""
    if source is None:
        return dg.AssetDep(names.source_key(group.source.name), partition_mapping=lookback_mapping(group))
    if isinstance(source, dg.AssetsDefinition | dg.AssetSpec):
        is_daily = isinstance(source.partitions_def, dg.TimeWindowPartitionsDefinition)
        return dg.AssetDep(source.key, partition_mapping=lookback_mapping(group) if is_daily else None)
    return dg.AssetDep(dg.AssetKey.from_coercible(source))


def feature_group_asset(
    group: FeatureGroup,
    *,
    names: Names = DEFAULT_NAMES,
    source: SourceAsset | None = None,
    launches_spark: bool = False,
) -> dg.AssetsDefinition:
    """Returns the partitioned asset of a feature group, with its checks.

    One run materializes any contiguous range of partitions, a bounded number of them at a time; a single partition
    is a range of one.

    Args:
        group: The feature group.
        names: What the objects of the code location are called.
        source: The project's own asset that writes the group's source; by default the source is an asset of its own.
        launches_spark: Whether there is a resource for Spark jobs: the engine is `spark`.
    """
    partitions_def = group_partitions(group)
    check_specs = [
        dg.AssetCheckSpec(name, asset=names.key(group.name), description=description, blocking=name in BLOCKING)
        for name, description in DESCRIPTIONS.items()
    ]

    @one_asset(
        names,
        group.name,
        description=group.description,
        group=FEATURES,
        owner=group.owner,
        resources={names.store_key, names.spark_key} if launches_spark else {names.store_key},
        kinds={"polars", "parquet", "redis"},
        tags={**tags(group.tags), "entity": group.entity.name},
        partitions_def=partitions_def,
        deps=[source_dependency(group, names, source)],
        check_specs=check_specs,
        code_version=group.code_version,
        metadata={
            "dagster/column_schema": column_schema(group),
            "entity": group.entity.name,
            "join_keys": ", ".join(group.entity.join_keys),
            "lookback": duration_text(group.lookback, most_units=4),
            "online_layout": group.online_layout,
        },
    )
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        numbers: dict[str, dict[str, Any]] = {}
        results: dict[str, list[CheckResult]] = {}
        with names.store(context).open() as store:
            store.apply([group])
            try:
                for span in contiguous(group, list(context.partition_keys)):
                    monitor = store.monitor.partitions(group, span.start)
                    for done in materialized_passes(context, store, group, span, names):
                        profiles = [(partition.window, partition.profile) for partition in done.partitions]
                        for partition, judged in zip(done.partitions, monitor.judge(profiles), strict=True):
                            numbers[partition.key] = partition_metadata(partition, judged)
                            results[partition.key] = judged
                        for failure in done.failed:
                            context.log.error(str(failure.error))
                            if isinstance(failure.error, InvalidRowsError):
                                summary = str(failure.error)
                                results[failure.key] = [CheckResult(SCHEMA, passed=False, summary=summary)]
                        rows = sum(partition.profile.rows for partition in done.partitions)
                        context.log.info(
                            f"{group.name}: {len(numbers)} of {len(context.partition_keys)} partitions; "
                            f"{rows:,} rows in {done.seconds:.1f} s, {done.online.written:,} entities pushed online"
                        )
            except Exception:
                yield from materialization_events(context.asset_key, numbers)
                yield from check_outputs(check_specs, context.selected_asset_check_keys)
                yield from _evaluated(context, results, list(numbers))
                raise
        for key, metadata in numbers.items():
            context.add_asset_metadata(metadata, partition_key=key)
        yield dg.MaterializeResult()
        yield from check_outputs(check_specs, context.selected_asset_check_keys)
        yield from _evaluated(context, results, list(numbers))

    return compute


def _evaluated(
    context: dg.AssetExecutionContext, results: dict[str, list[CheckResult]], materialized: list[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    targets = latest_materializations(context.instance, context.asset_key, materialized)
    yield from evaluations(context.asset_key, results, targets)
    yield from verdicts(context.instance, context.asset_key, DESCRIPTIONS, results)


def contiguous(group: FeatureGroup, keys: list[str]) -> Iterator[Window]:
    """Yields the spans without gaps that some partition keys form, in order of time."""
    windows = sorted(group.partitioning.window(key) for key in keys)
    length = group.partitioning.length
    for _, run in groupby(enumerate(windows), lambda item: item[1].start - item[0] * length):
        span = [window for _, window in run]
        yield Window(span[0].start, span[-1].end)
