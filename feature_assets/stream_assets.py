"""Grows the asset that drains a streamed group, and the job that folds the files it leaves."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from feature_assets.metadata import owners
from feature_store.definitions.group import FeatureGroup
from feature_store.streaming.settings import StreamSettings
from resources.feature_store import FeatureStoreResource

STREAMS = "streams"
DRAIN_JOB = "drain_streams"
COMPACT_JOB = "compact_streams"
_NO_BROKER = "No Kafka broker is named: set FEATURE_STORE_KAFKA, for instance localhost:9092."


def stream_asset_name(group: str) -> str:
    """Returns the name of the asset that drains a group."""
    return f"{group}_stream"


def stream_asset(group: FeatureGroup, topic: str) -> dg.AssetsDefinition:
    """Returns the asset that carries a group's streamed rows into the offline store.

    Its metadata are numbers that the UI plots: rows, files and rows taken back by each run, the lag that was left, and
    the age of the oldest row when it was in its file.

    Args:
        group: A feature group that has a stream.
        topic: The topic that its events come from.
    """

    @dg.asset(
        name=stream_asset_name(group.name),
        description=f"Rows of {group.name} that were streamed from topic {topic}, drained into the offline store.",
        group_name=STREAMS,
        owners=owners(group.owner),
        kinds={"kafka", "parquet"},
        # Two drains at once would wait for one another.
        pool=stream_asset_name(group.name),
    )
    def drain(context: dg.AssetExecutionContext, feature_store: FeatureStoreResource) -> dg.MaterializeResult[Any]:
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
            }
        )

    return drain


def compaction_job(groups: Sequence[FeatureGroup]) -> dg.JobDefinition:
    """Returns the job that folds the small files of streamed groups into one per day and partition of the topic."""

    @dg.op(name="compact", description="Folds small files of streams; readers notice nothing.")
    def compact(context: dg.OpExecutionContext, feature_store: FeatureStoreResource) -> None:
        with feature_store.open() as store:
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
                        stream_asset_name(group.name), description="Small files folded.", metadata=metadata
                    )
                )

    @dg.job(name=COMPACT_JOB, description="Folds the small files that streams leave. Harmless at any time.")
    def compact_streams() -> None:
        compact()

    return compact_streams
