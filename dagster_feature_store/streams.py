"""Grows the asset that drains a streamed group, and the job that folds the files it leaves."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.one_asset import one_asset
from dagster_feature_store.sensors.looks import Looks
from dagster_feature_store.sensors.streams import ENDS, compaction_schedule, stream_sensor
from feature_store.definitions.event_stream import streamed_groups
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.loading import LoadedDefinitions
from feature_store.streaming.settings import StreamSettings

STREAMS = "streams"
DRAIN_JOB = "drain_streams"
COMPACT_JOB = "compact_streams"
_NO_BROKER = "No Kafka broker is named: set FEATURE_STORE_KAFKA, for instance localhost:9092."


def stream_asset_name(group: str) -> str:
    """Returns the name of the asset that drains a group."""
    return f"{group}_stream"


def stream_asset(group: FeatureGroup, topic: str, *, names: Names = DEFAULT_NAMES) -> dg.AssetsDefinition:
    """Returns the asset that carries a group's streamed rows into the offline store.

    Its metadata are numbers that the UI plots: rows, files and rows taken back by each run, the lag that was left, and
    the age of the oldest row when it was in its file.

    Args:
        group: A feature group that has a stream.
        topic: The topic that its events come from.
        names: What the objects of the code location are called.
    """

    @one_asset(
        names,
        stream_asset_name(group.name),
        description=f"Rows of {group.name} that were streamed from topic {topic}, drained into the offline store.",
        group=STREAMS,
        owner=group.owner,
        resources={names.store_key},
        deps=[names.key(group.name)],
        kinds={"kafka", "parquet"},
        # Two drains at once would wait for one another.
        pool=names.of(stream_asset_name(group.name)),
    )
    def drain(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        feature_store = names.store(context)
        settings = feature_store.settings()
        if settings.kafka is None:
            raise dg.Failure(_NO_BROKER, allow_retries=False)
        with feature_store.open() as store:
            report = store.drainer(group, StreamSettings.of(settings)).drain()
        context.log.info(f"{group.name}: {report.rows:,} rows drained into {report.files} files, {report.lag:,} left")
        return dg.MaterializeResult(
            metadata={
                "rows": report.rows,
                "files": report.files,
                "taken_back": report.retracted,
                "lag": report.lag,
                "delay_seconds": round(report.delay_seconds, 3),
                ENDS: dict(report.ends),
            }
        )

    return drain


def compaction_job(groups: Sequence[FeatureGroup], *, names: Names = DEFAULT_NAMES) -> dg.JobDefinition:
    """Returns the job that folds the small files of streamed groups into one per day and partition of the topic."""

    @dg.op(
        name=names.of("compact"),
        description="Folds small files of streams; readers notice nothing.",
        required_resource_keys={names.store_key},
    )
    def compact(context: dg.OpExecutionContext) -> None:
        with names.store(context).open() as store:
            for group in groups:
                report = store.stream_files(group).compact()
                context.log.info(f"{group.name}: {report.folded} files folded into {report.files}")
                metadata = {
                    "compaction/folded": report.folded,
                    "compaction/files": report.files,
                    "compaction/rows": report.rows,
                    "compaction/superseded_rows": report.superseded,
                    "compaction/removed": report.removed,
                }
                context.log_event(
                    dg.AssetObservation(
                        names.key(stream_asset_name(group.name)), description="Small files folded.", metadata=metadata
                    )
                )

    @dg.job(
        name=names.of(COMPACT_JOB),
        description="Folds the small files that streams leave. Harmless at any time.",
        executor_def=dg.in_process_executor,
    )
    def compact_streams() -> None:
        compact()

    return compact_streams


def drain_job(*, names: Names = DEFAULT_NAMES) -> UnresolvedAssetJobDefinition:
    """Returns the job that drains all streamed groups, or those that a run selects."""
    return dg.define_asset_job(
        names.of(DRAIN_JOB),
        selection=dg.AssetSelection.groups(names.of(STREAMS)),
        description="Drains the rows that streams have computed into the offline store.",
        executor_def=dg.in_process_executor,
    )


def stream_definitions(
    loaded: LoadedDefinitions,
    *,
    names: Names = DEFAULT_NAMES,
    interval_seconds: int | None = None,
    sensor_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.Definitions | None:
    """Returns what streams are in Dagster; None where there are none.

    Args:
        loaded: The definitions of a module.
        names: What the objects of the code location are called.
        interval_seconds: Takes the place of the sensor's own interval.
        sensor_status: Whether the sensor runs from the start.
        status: Whether the schedule does.
    """
    streams = streamed_groups(list(loaded.groups.values()), loaded.streams.values())
    if not streams:
        return None
    groups = [loaded.groups[name] for name in streams]
    drain, compact = drain_job(names=names), compaction_job(groups, names=names)
    sensor = stream_sensor(groups, drain, stream_asset_name, Looks(names, interval_seconds, sensor_status))
    return dg.Definitions(
        assets=[stream_asset(group, streams[group.name].topic, names=names) for group in groups],
        jobs=[drain, compact],
        schedules=[compaction_schedule(compact, names=names, status=status)],
        sensors=[sensor],
    )
