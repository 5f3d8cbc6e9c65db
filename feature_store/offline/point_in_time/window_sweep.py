"""Windows for labels, swept: the events of labelled entities are read date by date, then folded entity by entity.

It holds the events of labelled entities inside of the longest window, a few partitions per thread, and the answer.
Entities are dealt into shards, which are sorted and folded side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.offline.footers import row_counts
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.date_sweep_rows import CHUNK_ROWS, Chunk, plan
from feature_store.offline.point_in_time.engine import Progress, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.partitions import Partitioning
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.parquet import scan_files
from feature_store.windows.fold import Events, Readers, fold
from feature_store.windows.instants import events_of

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
        InvalidRowsError: If a total is greater than its dtype can hold.
    """
    counts = row_counts(history.group, history.files)
    chunks = plan(history.files, counts, chunk_rows=CHUNK_ROWS)
    shards = max(threads, -(-sum(counts) // EVENTS_PER_SHARD)) if sum(counts) > EVENTS_PER_SHARD // 4 else 1
    told = _Told(history.group.name, len(chunks) + shards, progress)

    def read(chunk: Chunk) -> list[pl.DataFrame]:
        found = _dealt(_events(labels, history, chunk), shards)
        told.add()
        return found

    codes = labels.codes.of_labels.astype(np.int64)
    at = labels.as_of.to_physical().rechunk().to_numpy()
    pieces: list[list[pl.DataFrame] | None] = list(_all(read, chunks, threads))

    def folded(shard: int) -> tuple[Ints, list[pl.Series]]:
        members = np.flatnonzero(codes % shards == shard)
        # Readers in order find their windows in order, which caches like.
        members = members[np.lexsort((at[members], codes[members]))]
        events = _concatenated([piece[shard] for piece in pieces if piece is not None])
        columns = {name: events[name] for name in events.columns if name not in {_CODE, _TIME}}
        of_shard = Events(events[_CODE].to_numpy() // shards, events[_TIME].to_numpy(), columns)
        del events
        readers = Readers(codes[members] // shards, at[members], history.inclusive)
        found = fold(of_shard, readers, history.windows)
        told.add()
        return members, found

    parts = _all(folded, range(shards), threads)
    places = np.empty(len(at), dtype=np.int64)
    places[np.concatenate([members for members, _ in parts])] = np.arange(len(at))
    order = pl.Series(places)
    return [
        pl.concat([found[number] for _, found in parts]).gather(order) for number in range(len(history.windows))
    ]


def _events(labels: EntityLabels, history: WindowHistory, chunk: Chunk) -> pl.DataFrame:
    """Returns the events of labelled entities in a chunk: codes, times, and the columns that windows read."""
    group = history.group
    keys = list(group.entity.join_keys)
    schema = row_schema(group)
    wanted = [*keys, EVENT_TIMESTAMP, INGESTED_AT, *history.columns]
    rows = scan_files(
        [file.path for file in chunk.files],
        schema={column: schema[column] for column in wanted},
        missing_columns="insert",
        extra_columns="ignore",
    ).collect(engine="streaming")
    codes = labels.codes.find(rows.select(keys))
    known = codes >= 0
    frame = rows.select(EVENT_TIMESTAMP, INGESTED_AT, *history.columns).with_columns(
        pl.Series(_CODE, codes.astype(np.int64)), pl.col(EVENT_TIMESTAMP).to_physical().alias(_TIME)
    )
    if not known.all():
        frame = frame.filter(pl.Series(known))
    if _have_rivals(chunk.files, Partitioning(group.partitioning)):
        identity = [_CODE, _TIME]
        frame = frame.sort(INGESTED_AT, maintain_order=True).unique(identity, keep="last", maintain_order=True)
    frame = frame.drop(EVENT_TIMESTAMP, INGESTED_AT)
    inputs = {name: dtype for window in history.windows for name, dtype in window.spec.inputs.items()}
    return events_of(frame, inputs) if OTHER_EVENTS in history.columns else frame


def _have_rivals(files: Sequence[PartitionFile], partitioning: Partitioning) -> bool:
    """Tells whether two rows of one entity and instant may be there: in files of one partition, or in one of ingest."""
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
    return [ordered.slice(start, end - start) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def _concatenated(pieces: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(pieces).rechunk()


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

