"""Materialization on Spark: the group's own function on shards of entities, the contract's files and keys.

    source --(by day)--> events --(by entity)--> function, checks --(by partition)--> files and Redis

The same steps in the same order as `transform.materialization`, and the same rows; each arrow is a shuffle or a stage.
A task holds one day of the source, one shard of events with the look-back, or one partition of rows. Each partition is
compared with what the store holds, and brought into both stores, by the task that has it. Days and
partitions come to it one after another: a task of Spark takes longer to start than a small day to be read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from feature_store.clock import to_micros
from feature_store.day_windows import day_window
from feature_store.definitions.streamed_sources import identity_of
from feature_store.errors import FeatureStoreError, OvertakenError
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.spark.failures import reason_of
from feature_store.spark.reports import Refusal, TaskReport, written_partitions
from feature_store.spark.session import spark_session
from feature_store.spark.tasks import FAILURE, OVERTAKEN, PARCEL, REPORT, ROWS, ComputeRows, ReadEvents, WritePartitions
from feature_store.spark.workers import SharedFolder, shared_folder
from feature_store.transform.inputs import digests_of_inputs
from feature_store.transform.materialization import Materialization, MaterializedPartition, MaterializedPass
from feature_store.transform.misplaced import misplaced_in, rejections
from feature_store.transform.partition_failures import PartitionFailures

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from feature_store.definitions.group import FeatureGroup

_LOG = logging.getLogger(__name__)
_SHARDS_PER_CORE = 2
_PARCELS_PER_BATCH = 8


def materialize(job: Materialization, span: Window, *, spark_conf: str | None = None) -> Iterator[MaterializedPass]:
    """Computes and stores all partitions of a span on Spark; see `transform.materialization.materialize`.

    `spark.sql.shuffle.partitions` of the application is the number of shards, and of the tasks that read and write;
    two per core if it is not set.

    Args:
        job: What, and where to. A shard holds the events of a pass's partitions and one look-back at a time.
        span: Whole partitions.
        spark_conf: Settings of the Spark application, where one is started; see `session.spark_session`.

    Yields:
        One report per pass, when both stores have it.

    Raises:
        MissingSourceError: If events have not landed; earlier passes stay.
        InvalidRowsError: If rows of partitions are rejected; these are named, all others are written.
        OvertakenError: If another run has read the source of a partition later. Nothing of that partition was written;
            partitions of other tasks are.
        SettingsError: If workers of the cluster lack the code; nothing was computed.
        StorageError: If they do not see the offline store's folder; likewise.
        FeatureStoreError: If a task failed: the function raised, or a store did not answer. A second run completes.
    """
    session = spark_session([job.offline.root], conf=spark_conf)
    session.conf.set("spark.sql.adaptive.enabled", "false")
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(_PARCELS_PER_BATCH))
    group = job.group.declared
    inputs = digests_of_inputs(group, list(group.partitioning.windows(span)))
    failures = PartitionFailures(group, job.offline.root, inputs)
    with shared_folder(session, job.offline.root, (job.group, job.clock, tuple(job.metadata.items()))) as shared:
        for windows in job.passes(span):
            yield from _SparkJob(session, job, failures, shared).run(windows)
    failures.end()


@dataclass(frozen=True, slots=True)
class _SparkJob:
    session: SparkSession
    job: Materialization
    failures: PartitionFailures
    shared: SharedFolder | None

    @property
    def group(self) -> FeatureGroup:
        return self.job.group.declared

    def run(self, windows: Sequence[Window]) -> Iterator[MaterializedPass]:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.storagelevel import StorageLevel

        started = time.perf_counter()
        began = self.job.path.begin()
        spans = self._source_spans(windows)
        shards = self._shards()
        try:
            computed = self._computed(windows, spans, shards).persist(StorageLevel.DISK_ONLY)
            try:
                refused = self._refused(computed) | self._misplaced(windows)
                sound = [number for number in range(len(windows)) if number not in refused]
                partitions, report, withdrawn = self._write(computed, windows, sound, began, shards)
                self.failures.written([windows[number] for number in sound])
                failed = tuple(
                    self.failures.failed(windows[number], refused[number].error(self.group.name))
                    for number in sorted(refused)
                )
                yield MaterializedPass(partitions, report, withdrawn, time.perf_counter() - started, failed)
            finally:
                computed.unpersist()
        except (PySparkException, Py4JError) as error:
            raise FeatureStoreError(
                f"Feature group {self.group.name!r} was not materialized from {windows[0].start.isoformat()} to "
                f"{windows[-1].end.isoformat()}: a task on Spark failed, {reason_of(error)} What is written stays, and "
                "a second run completes it."
            ) from error

    def _computed(self, windows: Sequence[Window], spans: list[tuple[int, int, int]], shards: int) -> DataFrame:
        days = self.session.createDataFrame(spans, "number int, start bigint, end bigint")
        events = _spread(days, "number", len(spans), shards).mapInArrow(ReadEvents(self.group, shards), PARCEL)
        by_entity = events.repartitionById(shards, "target")
        # Workers have copies of the source, and know no streams.
        identity = identity_of(self.group.source, self.group.entity)
        compute = ComputeRows(self.group, tuple(windows), self.job.online.url, self.job.clock, identity)
        return by_entity.mapInArrow(compute, PARCEL)

    def _refused(self, computed: DataFrame) -> dict[int, Refusal]:
        """Returns what is wrong, by the number of the partition."""
        refused: dict[int, Refusal] = {}
        for row in computed.where(computed.kind == FAILURE).collect():
            found = msgspec.json.decode(row.payload, type=Refusal)
            known = refused.setdefault(row.target, Refusal([], found.remedy))
            known.failures += [failure for failure in found.failures if failure not in known.failures]
        return refused

    def _misplaced(self, windows: Sequence[Window]) -> dict[int, Refusal]:
        found = rejections(self.group, misplaced_in(self.group, windows))
        return {number: Refusal.of(found[window]) for number, window in enumerate(windows) if window in found}

    def _write(
        self, computed: DataFrame, windows: Sequence[Window], sound: Sequence[int], began: datetime, tasks: int
    ) -> tuple[tuple[MaterializedPartition, ...], WriteReport, int]:
        if not sound:
            return (), WriteReport(), 0
        write = WritePartitions(
            self.job.group,
            str(self.job.offline.root),
            self.job.online.url,
            self.job.clock,
            tuple(windows),
            began,
            dict(self.job.metadata),
            tuple(self.failures.inputs[window] for window in windows),
            self.shared,
        )
        # A partition without rows is written, too.
        every = [(number, -1, 0, ROWS, b"") for number in sound]
        of_sound = (computed.kind == ROWS) & computed.target.isin(list(sound))
        rows = computed.where(of_sound).unionAll(self.session.createDataFrame(every, PARCEL))
        by_partition = _spread(rows, "target", len(windows), tasks).sortWithinPartitions("target", "origin", "part")
        done = sorted(by_partition.mapInArrow(write, PARCEL).collect(), key=lambda row: int(row.target))
        for row in done:
            if row.kind == OVERTAKEN:
                raise OvertakenError(bytes(row.payload).decode())
        reports = [msgspec.json.decode(row.payload, type=TaskReport) for row in done if row.kind == REPORT]
        by_window = {windows[number]: part for report in reports for number, part in report.partitions.items()}
        online = sum((report.online for report in reports), WriteReport())
        withdrawn = sum(report.withdrawn for report in reports)
        return written_partitions(self.group, self.job.offline, by_window), online, withdrawn

    def _source_spans(self, windows: Sequence[Window]) -> list[tuple[int, int, int]]:
        """Returns the days that are read, numbered, after the source has said that all have landed."""
        source = self.group.source
        needed = Window(windows[0].start - self.group.lookback, windows[-1].end)
        events = source.scan(needed).collect_schema()
        missing = [key for key in self.group.entity.join_keys if key not in events]
        if missing:
            _LOG.warning(
                "The events of %r have no column %s: all of feature group %r is computed in one task.",
                source.name,
                ", ".join(missing),
                self.group.name,
            )
        begin = max(needed.start, source.start)
        edges = [
            begin,
            *(start for day in Window(begin, needed.end).dates() if (start := day_window(day).start) > begin),
            needed.end,
        ]
        micros = [to_micros(edge) for edge in edges]
        return [(number, *edge) for number, edge in enumerate(pairwise(micros))]

    def _shards(self) -> int:
        context = self.session.sparkContext
        given = context.getConf().get("spark.sql.shuffle.partitions")
        return int(given) if given else max(2, _SHARDS_PER_CORE * context.defaultParallelism)


def _spread(frame: DataFrame, number: str, count: int, tasks: int) -> DataFrame:
    """Returns a frame with all rows of a number (below `count`) in one task, and neighbours in different ones."""
    from pyspark.sql import functions as f

    most = min(count, tasks)
    return frame.repartitionById(most, f.col(number) % f.lit(most))
