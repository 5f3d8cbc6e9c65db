"""All of a module's feature groups and training sets as Dagster definitions, to be merged with a project's own.

It adds, and takes nothing over: no executor, no logger, no name without the prefix.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import dagster as dg

from dagster_feature_store.alerts_page import alerts_asset
from dagster_feature_store.feature_groups import SourceAsset, feature_group_asset, source_asset
from dagster_feature_store.jobs import feature_jobs
from dagster_feature_store.monitor_checks import freshness_checks, monitor_jobs, online_checks
from dagster_feature_store.naming import Names, key_prefix
from dagster_feature_store.refill import refill_config, refill_job
from dagster_feature_store.resources.alerts import AlertsResource
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from dagster_feature_store.resources.spark import SparkJobsResource
from dagster_feature_store.sensors.all import all_sensors
from dagster_feature_store.sensors.daily import daily_schedule
from dagster_feature_store.sensors.nightly import monitor_schedules
from dagster_feature_store.snapshots import SNAPSHOTS, snapshot_asset
from dagster_feature_store.streams import stream_definitions
from dagster_feature_store.training_sets import training_set_asset, training_set_job
from dagster_feature_store.up_to_date import up_to_date_checks
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.loading import load_definitions
from feature_store.definitions.source import Source
from feature_store.errors import DefinitionError, did_you_mean
from feature_store.partitions import Partitioning
from feature_store.settings import Settings


def feature_store_definitions(
    module: ModuleType | str,
    *,
    prefix: str = "feature_store",
    asset_key_prefix: str | Sequence[str] | None = None,
    resources: Mapping[str, Any] | None = None,
    source_assets: Mapping[str, SourceAsset] | None = None,
    sensor_interval_seconds: int | None = None,
    automation: bool | None = None,
) -> dg.Definitions:
    """Returns all that a module's feature groups and training sets are in Dagster.

    Args:
        module: Its attributes are feature groups, training sets, streams; or its dotted name.
        prefix: Stands before the names of jobs, schedules, sensors, ops, asset groups and resources.
        asset_key_prefix: Stands before the keys of assets; by default what FEATURE_STORE_ASSET_KEY_PREFIX says, which
            the command line goes by, too.
        resources: Take the place of the own resources of the same keys: `feature_store`, which opens the store,
            `feature_store_alerts`, `feature_store_spark`.
        source_assets: Assets of the project that write what a source reads, by the source's name: the asset, its
            spec or its key. All other sources become external assets of their own.
        sensor_interval_seconds: Takes the place of every sensor's own interval, for a test or a demonstration.
        automation: Whether sensors and schedules run from the start; by default what FEATURE_STORE_AUTOMATION says.

    Raises:
        DefinitionError: If two assets would have one name, or a source of `source_assets` does not exist.
        SettingsError: If the module cannot be imported, or a setting cannot be read.
    """
    if asset_key_prefix is None:
        asset_key_prefix = key_prefix(Settings.from_env())
    names = Names(prefix, (asset_key_prefix,) if isinstance(asset_key_prefix, str) else tuple(asset_key_prefix))
    with warnings.catch_warnings():
        # Backfill policies are beta in the supported versions of Dagster.
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        return _build(
            module, names, dict(resources or {}), dict(source_assets or {}), sensor_interval_seconds, automation
        )


def _build(
    module: ModuleType | str,
    names: Names,
    resources: dict[str, Any],
    source_assets: dict[str, SourceAsset],
    interval_seconds: int | None,
    automation: bool | None,
) -> dg.Definitions:
    loaded = load_definitions(module)
    groups = list(loaded.groups.values())
    names = replace(names, groups=frozenset(loaded.groups))
    training_sets = list(loaded.training_sets.values())
    sources = _own_sources(groups, source_assets)
    settings = Settings.from_env()
    runs = settings.automation if automation is None else automation
    sensor_status = dg.DefaultSensorStatus.RUNNING if runs else dg.DefaultSensorStatus.STOPPED
    schedule_status = dg.DefaultScheduleStatus.RUNNING if runs else dg.DefaultScheduleStatus.STOPPED
    resources = _resources(names, settings, resources)
    jobs = feature_jobs(groups, names=names)
    daily = [group for group in groups if group.partitioning is Partitioning.DAILY]
    refill = refill_job(names=names)
    monitors = monitor_jobs(groups, names=names) if groups else None
    set_jobs = [training_set_job(definition, names=names) for definition in training_sets]
    schedules = [daily_schedule(jobs[daily[0].name], daily, names=names, status=schedule_status)] if daily else []
    schedules += monitor_schedules(*monitors, names=names, status=schedule_status) if monitors else []
    sensors = all_sensors(
        sources=sources,
        groups=groups,
        training_sets=training_sets,
        feature_jobs=jobs,
        refill_job=refill,
        refill_config=refill_config(names),
        whole_jobs=[*(monitors or ()), *set_jobs],
        interval_seconds=interval_seconds,
        names=names,
        status=sensor_status,
    )
    if any(group.snapshot_every for group in groups):
        sensors.append(_snapshot_sensor(names, interval_seconds, sensor_status))
    own = dg.Definitions(
        assets=[
            *(source_asset(source, _end(source, groups), names=names) for source in sources),
            *(
                feature_group_asset(
                    group,
                    names=names,
                    source=source_assets.get(group.source.name),
                    launches_spark=names.spark_key in resources,
                )
                for group in groups
            ),
            *(snapshot_asset(group, names=names) for group in groups if group.snapshot_every),
            *(training_set_asset(definition, groups, loaded.module, names=names) for definition in training_sets),
            *([alerts_asset(names)] if groups or training_sets else []),
        ],
        asset_checks=[
            *up_to_date_checks(training_sets, names=names),
            *([freshness_checks(groups, names=names), online_checks(groups, names=names)] if groups else []),
        ],
        jobs=[
            *{job.name: job for job in jobs.values()}.values(),
            *set_jobs,
            *(monitors or ()),
            *([refill] if groups else []),
        ],
        schedules=schedules,
        sensors=sensors,
        resources=resources,
    )
    streams = stream_definitions(
        loaded, names=names, interval_seconds=interval_seconds, sensor_status=sensor_status, status=schedule_status
    )
    return own if streams is None else dg.Definitions.merge(own, streams)


def _resources(names: Names, settings: Settings, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the resources that are used, those that are given among them."""
    store = given.get(names.store_key, FeatureStoreResource())
    own: dict[str, Any] = {names.store_key: store, names.alerts_key: AlertsResource()}
    overrides = store.overrides if isinstance(store, FeatureStoreResource) else {}
    if overrides.get("engine", settings.engine) == "spark":
        own[names.spark_key] = SparkJobsResource()
    allowed = {*own, names.spark_key}
    for key in given:
        if key not in allowed:
            raise DefinitionError(
                f"There is no resource {key!r} of the feature store. {did_you_mean(key, allowed)} Resources of the "
                "project belong into its own definitions."
            )
    return {**own, **given}


def _snapshot_sensor(
    names: Names, interval_seconds: int | None, status: dg.DefaultSensorStatus
) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        names.of("snapshot_sensor"),
        target=dg.AssetSelection.groups(names.of(SNAPSHOTS)),
        description="Takes the snapshots that are due, and takes those anew whose days have changed.",
        minimum_interval_seconds=interval_seconds,
        default_status=status,
    )


def _own_sources(groups: Sequence[FeatureGroup], source_assets: Mapping[str, SourceAsset]) -> list[Source]:
    """Returns the sources that become assets of their own."""
    sources = {group.source.name: group.source for group in groups}
    for name in source_assets:
        if name not in sources:
            raise DefinitionError(
                f"`source_assets` names {name!r}, which no feature group reads. {did_you_mean(name, sources)}"
            )
    return [source for name, source in sources.items() if name not in source_assets]


def _end(source: Source, groups: Sequence[FeatureGroup]) -> Any:
    ends = [group.end for group in groups if group.source.name == source.name]
    return None if None in ends else max(end for end in ends if end is not None)
