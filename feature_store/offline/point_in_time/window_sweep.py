"""Windows for labels, swept: the events of labelled entities are read date by date, then folded entity by entity.

It holds the events of labelled entities inside of the longest window, a few partitions per thread, and the answer.
Entities are dealt into shards, which are sorted and folded side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.footers import row_counts
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.date_sweep_rows import CHUNK_ROWS, Chunk, plan
from feature_store.offline.point_in_time.engine import Progress, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.partitions import Partitioning
from feature_store.partitions import Window as Span
from feature_store.rows.polars_schema import polars_type, row_schema
from feature_store.storage.parquet import scan_files
from feature_store.windows.fold import fold
from feature_store.windows.instants import events_of
from feature_store.windows.views import Events, ReaderOverflowError, Readers, Window

Ints = npt.NDArray[np.int64]

EVENTS_PER_SHARD = 2_000_000
_CODE, _TIME = "_code", "_time"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def swept_windows(
    labels: EntityLabels, history: WindowHistory, *, threads: int, progress: Progress | None = None
) -> list[pl.Series]:
    """Returns the value of each window for each label.

    Args:
        labels: Entities and times, at least one.
        history: Where to look.
        threads: How many threads read and fold.
        progress: Told how far the read is.

    Raises:
        WindowOverflowError: If a total is greater than its dtype can hold.
    """
    counts = row_counts(history.group, history.files)
    chunks = plan(history.files, counts, chunk_rows=CHUNK_ROWS)
    shards = _shards(labels.codes.count, sum(counts), history.span, threads)
    told = _Told(history.group.name, len(chunks) + shards, progress)

    def read(chunk: Chunk) -> list[pl.DataFrame]:
        found = _dealt(_read(labels, history, chunk), shards)
        told.add()
        return found

    codes = labels.codes.of_labels.astype(np.int64)
    at = labels.as_of.to_physical().rechunk().to_numpy()
    pieces = _all(read, chunks, threads)

    def folded(shard: int) -> tuple[Ints, list[pl.Series]]:
        members = np.flatnonzero(codes % shards == shard)
        # Readers in order find their windows in order, which caches like.
        members = members[np.lexsort((at[members], codes[members]))]
        events = pl.concat([_taken(piece, shard) for piece in pieces]).rechunk()
        of_shard = _as_events(events, shards, history.windows)
        del events
        readers = Readers(codes[members] // shards, at[members], history.inclusive)
        found = _folded(of_shard, readers, history.windows, labels, members)
        told.add()
        return members, found

    parts = _all(folded, range(shards), threads)
    places = np.empty(len(at), dtype=np.int64)
    places[np.concatenate([members for members, _ in parts])] = np.arange(len(at))
    order = pl.Series(places)
    del places
    # Column by column, and what was used goes: the answer is held once, and a column of it twice.
    return [pl.concat([found.pop(0) for _, found in parts]).gather(order) for _ in history.windows]


def folded_rows(labels: EntityLabels, rows: pl.DataFrame, windows: Sequence[Window]) -> list[pl.Series]:
    """Returns the value of each window for each label, from rows that are all there.

    Args:
        labels: Entities and times, at least one.
        rows: Join keys, in the order of those of the labels, `event_timestamp`, `ingested_at` and what windows read.
            Of rows of one entity and event time the one with the greatest `ingested_at` counts, then the last one.
        windows: The windows.
    """
    keys = rows.columns[: labels.keys.width]
    events = _events(labels, rows.rename(dict(zip(keys, labels.keys.columns, strict=True))), windows, has_rivals=True)
    codes = labels.codes.of_labels.astype(np.int64)
    at = labels.as_of.to_physical().rechunk().to_numpy()
    order = np.lexsort((at, codes))
    found = _folded(_as_events(events, 1, windows), Readers(codes[order], at[order]), windows, labels, order)
    places = np.empty(len(at), dtype=np.int64)
    places[order] = np.arange(len(at))
    return [series.gather(pl.Series(places)) for series in found]


def _folded(
    events: Events, readers: Readers, windows: Sequence[Window], labels: EntityLabels, members: Ints
) -> list[pl.Series]:
    """Returns what the windows of some labels come to; an error names the label's entity."""
    try:
        return fold(events, readers, windows)
    except ReaderOverflowError as error:
        keys = labels.keys.row(int(members[error.reader]), named=True)
        entity = ", ".join(f"{key}={value!r}" for key, value in keys.items())
        raise error.of_entity(entity) from None


def without_events(labels: EntityLabels, windows: Sequence[Window]) -> list[pl.Series]:
    """Returns the value of each window for each label where there is no event at all."""
    times = [pl.lit(None, dtype=TIMESTAMP_TYPE).alias(column) for column in (EVENT_TIMESTAMP, INGESTED_AT)]
    return folded_rows(labels, labels.keys.head(0).with_columns(times), windows)


def _read(labels: EntityLabels, history: WindowHistory, chunk: Chunk) -> pl.DataFrame:
    """Returns the events of labelled entities in a chunk; see `_events`."""
    schema = row_schema(history.group)
    wanted = [*history.group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT, *history.columns]
    rows = scan_files(
        [file.path for file in chunk.files],
        schema={column: schema[column] for column in wanted},
        missing_columns="insert",
        extra_columns="ignore",
    ).collect(engine="streaming")
    return _events(
        labels, rows, history.windows, has_rivals=_have_rivals(chunk.files, Partitioning(history.group.partitioning))
    )


def _events(labels: EntityLabels, rows: pl.DataFrame, windows: Sequence[Window], *, has_rivals: bool) -> pl.DataFrame:
    """Returns the events of labelled entities: codes, times, and the columns that windows read."""
    keys = labels.keys.columns
    codes = labels.codes.find(rows.select(keys))
    known = codes >= 0
    frame = rows.drop(keys).with_columns(
        pl.Series(_CODE, codes.astype(np.int64)), pl.col(EVENT_TIMESTAMP).to_physical().alias(_TIME)
    )
    if not known.all():
        frame = frame.filter(pl.Series(known))
    if has_rivals:
        frame = frame.sort(INGESTED_AT, maintain_order=True).unique([_CODE, _TIME], keep="last", maintain_order=True)
    inputs = {name: dtype for window in windows for name, dtype in window.spec.inputs.items()}
    kept = [_CODE, _TIME, *(name for name in (*inputs, OTHER_EVENTS) if name in frame.columns)]
    return events_of(frame.select(kept), inputs)


def _as_events(frame: pl.DataFrame, shards: int, windows: Sequence[Window]) -> Events:
    """Returns events to be folded; a column that no file has is null throughout."""
    columns = {}
    for window in windows:
        for name, dtype in window.spec.inputs.items():
            if name not in columns:
                has = name in frame.columns
                columns[name] = (
                    frame[name] if has else pl.repeat(None, frame.height, dtype=polars_type(dtype), eager=True)
                )
    return Events(frame[_CODE].to_numpy() // shards, frame[_TIME].to_numpy(), columns)


def _shards(entities: int, events: int, span: Span, threads: int) -> int:
    """Returns how many shards entities are dealt into: none too large, one for each thread, unless there is little."""
    # Entity and time of an event are one integer of a shard.
    micros = (span.end - span.start) // timedelta(microseconds=1) + 4
    fitting = -(-entities * micros // 2**62)
    return max(fitting, 1 if events < EVENTS_PER_SHARD // 4 else threads, -(-events // EVENTS_PER_SHARD))


def _have_rivals(files: Sequence[PartitionFile], partitioning: Partitioning) -> bool:
    """Tells whether an entity and instant may have two rows: in two files of one partition, or in one of ingest."""
    several = len({file.window for file in files}) < len(files)
    return several or not all(file.belongs_to(partitioning) for file in files)


def _dealt(events: pl.DataFrame, shards: int) -> list[pl.DataFrame]:
    """Returns the events of each shard."""
    if shards == 1:
        return [events]
    numbers = (events[_CODE].to_numpy() % shards).astype(np.int16)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(shards + 1))
    ordered = events[order]
    return [ordered.slice(start, end - start) for start, end in pairwise(bounds)]


def _taken(piece: list[pl.DataFrame], shard: int) -> pl.DataFrame:
    """Takes a shard's events out of what was read: nobody else needs them."""
    taken, piece[shard] = piece[shard], piece[shard].clear()
    return taken


@dataclass(slots=True)
class _Told:
    """How much of a read is done."""

    group: str
    total: int
    progress: Progress | None
    done: int = 0
    lock: Lock = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.lock = Lock()

    def add(self) -> None:
        with self.lock:
            self.done += 1
            if self.progress is not None:
                self.progress(self.group, self.done / self.total)


def _all(work: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> list[_Result]:
    if threads == 1 or len(items) == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads, thread_name_prefix="windows") as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
