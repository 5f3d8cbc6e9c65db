"""The one place where the code location is put together: production and tests both call `build_defs`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from dagster_duckdb import DuckDBResource

from feature_assets import flights
from feature_assets.build import FEATURES, feature_group_asset, source_spec
from feature_assets.console import brief_console
from feature_assets.monitor_assets import freshness_checks, monitor_checks, monitor_jobs, online_checks
from feature_assets.refill import refill_config, refill_online
from feature_assets.snapshot_assets import SNAPSHOTS, snapshot_asset
from feature_assets.stream_assets import DRAIN_JOB, STREAMS, compaction_job, stream_asset, stream_asset_name
from feature_assets.training_set_assets import training_set_asset
from feature_assets.up_to_date import up_to_date_checks
from feature_store.definitions.event_stream import streamed_groups
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.loading import load_definitions
from feature_store.definitions.source import Source
from feature_store.partitions import Partitioning
from resources.alerts import AlertsResource
from resources.feature_store import FeatureStoreResource
from resources.spark import SparkJobsResource
from sensors.all import all_sensors
from sensors.daily import daily_schedule
from sensors.nightly import monitor_schedules
from sensors.streams import INTERVAL_SECONDS, compaction_schedule, stream_sensor

FEATURE_JOB = "features"

# Dagster copies sensors with a beta parameter of its own that nobody here has set.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)


def default_resources() -> dict[str, Any]:
    """Returns the resources that the settings name."""
    s3 = S3Resource()
    return {
        "feature_store": FeatureStoreResource(
            s3=s3,
            duckdb=DuckDBResource(database=":memory:"),
        ),
        "alerts": AlertsResource(),
        "spark": SparkJobsResource(),
        # Endpoint, region and credentials come the usual AWS way. Also for a team's own source assets.
        "s3": s3,
    }


def build_defs(
    *,
    domain: ModuleType = flights,
    resources: Mapping[str, Any] | None = None,
    sensor_interval_seconds: int | None = None,
) -> dg.Definitions:
    """Returns the code location of a domain.

    Args:
        domain: Module whose attributes are feature groups and training sets.
        resources: Take the place of the default resources of the same names.
        sensor_interval_seconds: Takes the place of every sensor's own interval, for a test or a demonstration.
    """
    with warnings.catch_warnings():
        # Backfill policies and partitioned checks are beta in the pinned version of Dagster.
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        return _build(domain, {**default_resources(), **(resources or {})}, sensor_interval_seconds)


def _build(domain: ModuleType, resources: Mapping[str, Any], sensor_interval_seconds: int | None) -> dg.Definitions:
    loaded = load_definitions(domain)
    groups = list(loaded.groups.values())
    training_sets = list(loaded.training_sets.values())
    daily = [group.name for group in groups if group.partitioning is Partitioning.DAILY]
    hourly = [group.name for group in groups if group.partitioning is Partitioning.HOURLY]
    jobs = [
        dg.define_asset_job(
            f"{definition.name}_training_set",
            selection=[definition.name],
            description=f"Builds the training set {definition.name}.",
        )
        for definition in training_sets
    ]
    schedules = []
    feature_jobs = {}
    if daily:
        feature_job = dg.define_asset_job(
            FEATURE_JOB,
            selection=dg.AssetSelection.assets(*daily) - monitor_checks(groups),
            description="Computes all daily feature groups, for one day or any range of days, with their checks.",
        )
        jobs.append(feature_job)
        feature_jobs.update(dict.fromkeys(daily, feature_job))
        schedules.append(daily_schedule(feature_job, [loaded.groups[name] for name in daily]))
    if hourly:
        hourly_job = dg.define_asset_job(
            f"hourly_{FEATURES}",
            selection=dg.AssetSelection.assets(*hourly) - monitor_checks(groups),
            description="Computes all hourly feature groups, for an hour or a range of hours, with their checks.",
        )
        jobs.append(hourly_job)
        feature_jobs.update(dict.fromkeys(hourly, hourly_job))
    monitors = monitor_jobs(groups) if groups else []
    jobs += monitors
    schedules += monitor_schedules(*monitors) if monitors else []
    streams = streamed_groups(groups, loaded.streams.values())
    streamed = [loaded.groups[name] for name in streams]
    stream_sensors = []
    fixed_jobs = [refill_online]
    if streamed:
        drain_job = dg.define_asset_job(
            DRAIN_JOB,
            selection=dg.AssetSelection.groups(STREAMS),
            description="Drains the rows that streams have computed into the offline store.",
        )
        compact_job = compaction_job(streamed)
        jobs.append(drain_job)
        fixed_jobs.append(compact_job)
        schedules.append(compaction_schedule(compact_job))
        interval = sensor_interval_seconds or INTERVAL_SECONDS
        stream_sensors.append(stream_sensor(streamed, drain_job, stream_asset_name, interval_seconds=interval))
    sources = _sources(groups)
    return dg.Definitions(
        assets=[
            *(source_spec(source, _end(source, groups)) for source in sources),
            *(feature_group_asset(group) for group in groups),
            *(snapshot_asset(group) for group in groups if group.snapshot_every),
            *(stream_asset(group, streams[group.name].topic) for group in streamed),
            *(training_set_asset(definition, groups, domain) for definition in training_sets),
        ],
        asset_checks=[
            *up_to_date_checks(training_sets),
            *([freshness_checks(groups), online_checks(groups)] if groups else []),
        ],
        jobs=[*jobs, *fixed_jobs],
        schedules=schedules,
        sensors=[
            _automation_sensor(sensor_interval_seconds),
            *stream_sensors,
            *all_sensors(
                sources=sources,
                groups=groups,
                training_sets=training_sets,
                feature_jobs=feature_jobs,
                refill_job=refill_online,
                refill_config=refill_config,
                interval_seconds=sensor_interval_seconds,
            ),
        ],
        resources=resources,
        # A step of its own process costs two seconds; the work of these assets is in Polars, which uses all cores.
        executor=dg.in_process_executor,
        loggers={"console": brief_console},
    )


def _automation_sensor(interval_seconds: int | None) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        "late_data_sensor",
        target=dg.AssetSelection.groups(FEATURES, SNAPSHOTS),
        description=(
            "Recomputes, as one backfill, the partitions whose look-back reaches a source day that has landed late or "
            "changed, in all feature groups downstream."
        ),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


def _sources(groups: list[FeatureGroup]) -> list[Source]:
    return list({group.source.name: group.source for group in groups}.values())


def _end(source: Source, groups: list[FeatureGroup]) -> Any:
    ends = [group.end for group in groups if group.source.name == source.name]
    return None if None in ends else max(end for end in ends if end is not None)


defs = build_defs()
