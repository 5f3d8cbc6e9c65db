"""What executors do in a materialization: read events, run a group's function, write partitions into both stores.

Each task takes and gives Arrow batches. Rows travel inside of them as Arrow IPC in a binary column: Spark moves them
and never looks at them, so that no dtype of a source or of a function is changed on the way.
"""

from __future__ import annotations

import gc
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from feature_store.catalog import BoundGroup
from feature_store.changes.admission import admit
from feature_store.changes.write_path import WritePath
from feature_store.clock import EPOCH, Clock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidRowsError, OvertakenError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema
from feature_store.spark.reports import PartitionReport, Refusal, TaskReport
from feature_store.spark.workers import SharedFolder
from feature_store.transform.compute import apply_transform, each_once
from feature_store.transform.materialization import materialize_pass

PARCEL = "target int, origin int, part int, kind string, payload binary"
"""Rows on their way: to which task, from which one, which part of its rows, what they are, and the rows."""

ROWS, FAILURE, REPORT, OVERTAKEN = "rows", "failure", "report", "overtaken"

_PARCEL_BYTES = 16 * 2**20
"""Spark holds some parcels at a time, each as one value."""

_ARROW = pa.schema(
    [
        ("target", pa.int32()),
        ("origin", pa.int32()),
        ("part", pa.int32()),
        ("kind", pa.string()),
        ("payload", pa.binary()),
    ]
)
_SHARD = "_shard"
Batches = Iterator[pa.RecordBatch]
_frozen_modules = 0


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Reads the source, one span of time after another, and sorts the events into shards by entity.

    Attributes:
        group: The feature group.
        shards: Number of shards. Events without the entity's join keys all go to the first one.
    """

    group: FeatureGroup
    shards: int

    def __call__(self, batches: Batches) -> Batches:
        """Takes `number`, `start` and `end` (UTC microseconds) of spans, gives their events."""
        for span in _records(batches):
            events = self.group.source.scan(Window(_moment(span["start"]), _moment(span["end"]))).collect()
            for shard, part in self._sharded(events):
                for number, rows in enumerate(_slices(part)):
                    yield _parcel(shard, span["number"], number, ROWS, _encoded(rows))

    def _sharded(self, events: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        keys = self.group.entity.join_keys
        if events.is_empty() or not set(keys) <= set(events.columns):
            yield 0, events
            return
        entities = events.select(pl.concat_str(pl.col(*keys).cast(pl.String), separator="|", ignore_nulls=True))
        entity = entities.to_series().alias(_SHARD)
        distinct = entity.unique()
        # By a checksum: hashes of Polars may be others on another machine, and an entity must not be torn apart.
        shards = [zlib.crc32(text.encode()) % self.shards for text in distinct]
        of_event = entity.replace_strict(distinct, pl.Series(shards, dtype=pl.Int32))
        for part in events.with_columns(of_event).partition_by(_SHARD, maintain_order=True):
            yield part[_SHARD][0], part.drop(_SHARD)


@dataclass(frozen=True, slots=True)
class ComputeRows:
    """Runs the group's function on one shard, checks its rows and sorts them into partitions.

    Attributes:
        group: The feature group.
        windows: The partitions.
        url: URL of the online store that the rows are for.
        clock: The store's present.
        identity: Of events that agree in these columns one counts; None where all do.
    """

    group: FeatureGroup
    windows: Sequence[Window]
    url: str
    clock: Clock
    identity: Sequence[str] | None = None

    def __call__(self, batches: Batches) -> Batches:
        """Takes the events of one shard, gives its rows, or what is wrong with them."""
        parcels = sorted(_records(batches), key=lambda parcel: (parcel["origin"], parcel["part"]))
        if not parcels:
            return
        shard = parcels[0]["target"]
        events = pl.concat([_decoded(parcel["payload"]) for parcel in parcels])
        del parcels
        counted = each_once(events.lazy(), self.identity)
        rows = apply_transform(self.group, counted, Window(self.windows[0].start, self.windows[-1].end))
        del events
        with OnlineStore.connect(self.url, self.clock) as online:
            try:
                valid = admit(self.group, rows, self.clock.now(), online).frame
            except InvalidRowsError:
                yield from self._one_by_one(shard, rows, online)
                return
        for number, window in enumerate(self.windows):
            yield from self._rows(shard, number, _inside(valid, window))

    def _one_by_one(self, shard: int, rows: pl.DataFrame, online: OnlineStore) -> Batches:
        unplaced = rows.filter(pl.col(EVENT_TIMESTAMP).is_null())
        for number, window in enumerate(self.windows):
            # Rows without a time belong nowhere; the first partition tells of them.
            of_window = [_inside(rows, window), *([] if number else [unplaced])]
            try:
                admitted = admit(self.group, pl.concat(of_window), self.clock.now(), online)
                yield from self._rows(shard, number, admitted.frame)
            except InvalidRowsError as error:
                yield _parcel(number, shard, 0, FAILURE, msgspec.json.encode(Refusal.of(error)))

    def _rows(self, shard: int, number: int, rows: pl.DataFrame) -> Batches:
        for part, slice_ in enumerate(_slices(rows)):
            yield _parcel(number, shard, part, ROWS, _encoded(slice_))


@dataclass(frozen=True, slots=True)
class WritePartitions:
    """Brings all rows of partitions into both stores, as one machine does.

    Attributes:
        group: The feature group.
        root: Root of the offline store.
        url: URL of the online store.
        clock: The store's present.
        windows: The partitions.
        began: When the pass began.
        metadata: Of every file, besides its profile and its inputs.
        inputs: Digest of what each partition was computed from, by its number.
        shared: What a worker must see before it writes, None where there is only this machine.
    """

    group: BoundGroup
    root: str
    url: str
    clock: Clock
    windows: Sequence[Window]
    began: datetime
    metadata: dict[str, str]
    inputs: Sequence[str]
    shared: SharedFolder | None

    def __call__(self, batches: Batches) -> Batches:
        """Takes all rows of some partitions, sorted by partition, shard and part, gives a report of each.

        Where another run has overtaken this one, it says so instead, and leaves the task's other partitions.
        """
        if self.shared is not None:
            self.shared.require()
        offline = OfflineStore(self.root)
        with OnlineStore.connect(self.url, self.clock) as online:
            path = WritePath(self.group.registered, offline, online, self.clock)
            for number, parcels in groupby(_records(batches), key=lambda parcel: int(parcel["target"])):
                rows = [_decoded(parcel["payload"]) for parcel in parcels if parcel["payload"]]
                try:
                    report = self._write(
                        path,
                        online,
                        number,
                        pl.concat([pl.DataFrame(schema=computed_schema(self.group.declared)), *rows]),
                    )
                except OvertakenError as error:
                    yield _parcel(number, 0, 0, OVERTAKEN, str(error).encode())
                    return
                yield _parcel(number, 0, 0, REPORT, msgspec.json.encode(report))

    def _write(self, path: WritePath, online: OnlineStore, number: int, rows: pl.DataFrame) -> TaskReport:
        [partition], accepted = materialize_pass(
            self.group.declared,
            [self.windows[number]],
            rows,
            began=self.began,
            path=path,
            now=self.clock.now(),
            online=online,
            metadata=self.metadata,
            inputs={self.windows[number]: self.inputs[number]},
        )
        report = PartitionReport(partition.profile, partition.changed, partition.withdrawn, partition.misplaced)
        return TaskReport({number: report}, accepted.online, accepted.withdrawn)


def _records(batches: Batches) -> Iterator[dict[str, Any]]:
    _freeze_modules()
    for batch in batches:
        yield from batch.to_pylist()


def _freeze_modules() -> None:
    """Takes what the imported modules consist of out of the collector's sight.

    Spark's worker collects garbage after each task. Over all objects of Polars, pandera and the rest that takes many
    times as long as a small task.
    """
    global _frozen_modules  # noqa: PLW0603  a process has one collector
    if len(sys.modules) != _frozen_modules:
        gc.freeze()
        _frozen_modules = len(sys.modules)


def _parcel(target: int, origin: int, part: int, kind: str, payload: bytes) -> pa.RecordBatch:
    columns = [[target], [origin], [part], [kind], [payload]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _ARROW, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_ARROW)


def _slices(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yields rows in parcels of bounded size; nothing where there are none."""
    parcels = int(rows.estimated_size()) // _PARCEL_BYTES + 1
    yield from rows.iter_slices(max(1, -(-rows.height // parcels)))


def _encoded(rows: pl.DataFrame) -> bytes:
    # Uncompressed: Spark compresses what it shuffles.
    return rows.rechunk().write_ipc(None, compression="uncompressed").getvalue()


def _decoded(payload: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(payload))


def _inside(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    start, end = (pl.lit(edge, TIMESTAMP_TYPE) for edge in (window.start, window.end))
    return rows.filter(pl.col(EVENT_TIMESTAMP).is_between(start, end, closed="left"))


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
