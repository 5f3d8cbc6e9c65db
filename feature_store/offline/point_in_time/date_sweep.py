"""The sweep engine: point-in-time reads in one pass over the dates of a history, in bounded memory.

History lies in date partitions, so nothing needs to be sorted as a whole. Dates are met in their order: labels of a
date find their latest row among its rows or, failing that, among the latest rows that the dates before it have left.
Ranges of dates are swept side by side, each as if there were nothing before it, and what stays open in one is filled
from what the ranges before it have left. Features are read at last, of the rows that are an answer.

It holds a few partitions per thread, one row per labelled entity without its features, and the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import numpy as np
import polars as pl

from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.footers import row_counts
from feature_store.offline.point_in_time.date_sweep_answer import answer_column
from feature_store.offline.point_in_time.date_sweep_match import (
    NEVER,
    Integers,
    LatestSweep,
    Matches,
    SpanRows,
    StrictSweep,
    Sweep,
)
from feature_store.offline.point_in_time.date_sweep_rows import (
    CHUNK_ROWS,
    SPAN_ROWS,
    Chunk,
    plan,
    read_features,
    read_observations,
)
from feature_store.offline.point_in_time.engine import GroupHistory, Progress, VisibleRows, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.offline.point_in_time.window_sweep import swept_windows
from feature_store.rows.polars_schema import row_schema

_DAY_MICROS = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class SweepEngine:
    """Finds latest rows by a sweep over dates, then reads their features.

    Args:
        threads: How many ranges of dates are swept at a time; as many as the process has processors if None.
        chunk_rows: How many rows each thread reads at a time, more or less: it reads whole dates.
        span_rows: How many rows are matched at once, more or less.
    """

    name = "sweep"

    def __init__(self, threads: int | None = None, *, chunk_rows: int = CHUNK_ROWS, span_rows: int = SPAN_ROWS) -> None:
        self._threads = threads or len(os.sched_getaffinity(0))
        self._chunk_rows = chunk_rows
        self._span_rows = span_rows

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: Progress | None = None) -> SweptRows:
        """Returns the latest row of each label's entity; see `PointInTimeEngine.latest`."""
        counts = row_counts(history.group, history.files)
        chunks = plan(history.files, counts, chunk_rows=self._chunk_rows, span_rows=self._span_rows)
        task = _Task(labels, history, chunks, self._threads, _Share(history.group.name, 2 * len(chunks), progress))
        return SweptRows(task, _sweep(task))

    def windows(
        self, labels: EntityLabels, history: WindowHistory, progress: Progress | None = None
    ) -> Sequence[pl.Series]:
        """Returns the value of each window for each label; see `PointInTimeEngine.windows`."""
        return swept_windows(labels, history, threads=self._threads, progress=progress)


@dataclass(frozen=True, slots=True)
class _Task:
    """One read: what to find, where, and how.

    Attributes:
        labels: Entities and times.
        history: Where to look.
        chunks: In which pieces to read it.
        threads: How many threads to use.
        share: Told of each piece that was read.
    """

    labels: EntityLabels
    history: GroupHistory
    chunks: list[Chunk]
    threads: int
    share: _Share


class SweptRows:
    """Latest rows that are known by reference; their features are read once it is known which are visible."""

    def __init__(self, task: _Task, matches: Matches) -> None:
        self._task = task
        self._references = matches.references
        times = pl.Series(matches.times)
        self._event_timestamp = times.set(times == NEVER, None).cast(TIMESTAMP_TYPE)

    @property
    def event_timestamp(self) -> pl.Series:
        """Event time of each label's latest row."""
        return self._event_timestamp

    def values(self, visible: Sequence[VisibleRows]) -> Mapping[str, pl.Series]:
        """Reads the features of the rows that are visible; see `LatestRows.values`."""
        task = self._task
        anywhere = visible[0].mask
        for part in visible[1:]:
            anywhere |= part.mask
        labels = anywhere.arg_true().to_numpy()
        references = self._references[labels]
        del self._references
        order = pl.Series(references).arg_sort().to_numpy()
        references, labels = references[order], labels[order]
        bounds = [*np.searchsorted(references, [chunk.first_reference for chunk in task.chunks]), len(references)]
        schema = row_schema(task.history.group)
        answers = {column: answer_column(schema[column], anywhere.len()) for column in task.history.columns}

        def read(chunk: Chunk) -> None:
            start, end = bounds[chunk.number : chunk.number + 2]
            if start < end:
                rows = references[start:end] - chunk.first_reference
                found = read_features(task.history.group, chunk, rows, task.history.columns)
                of_labels = labels[start:end].astype(np.int64)
                for column, answer in answers.items():
                    answer.put(chunk.number, found[column], of_labels)
            task.share.add()

        _map(read, task.chunks, task)
        return {column: answers.pop(column).finished(labels, part.mask) for part in visible for column in part.columns}


def _sweep(task: _Task) -> Matches:
    """Returns the latest rows of all labels."""
    codes = task.labels.codes.of_labels
    as_of = task.labels.as_of.to_physical().rechunk().to_numpy()
    schedule = _Schedule(task.chunks, as_of)
    matches = Matches.none(len(as_of))

    def sweep_range(chunks: Sequence[Chunk]) -> tuple[Sweep, Integers]:
        sweep: Sweep = StrictSweep(int(as_of.max())) if task.history.strict else LatestSweep(task.labels.codes.count)
        still_open = [np.empty(0, np.int64)]
        for chunk in chunks:
            read = read_observations(task.history, chunk)
            found = task.labels.codes.find(read.keys)
            for number, span in enumerate(chunk.spans):
                labels, end = schedule.of(chunk, number)
                rows = slice(span.start, span.end)
                span_rows = SpanRows(
                    found[rows], read.times[rows], read.ingested[rows], chunk.first_reference + span.start, end
                )
                of_span = sweep.meet(span_rows, codes[labels].astype(np.int64), as_of[labels])
                matches.put(labels, of_span)
                still_open.append(labels[of_span.times == NEVER])
            task.share.add()
        return sweep, np.concatenate(still_open)

    swept = _map(sweep_range, _ranges(task.chunks, task.threads), task)
    for place, (_, still_open) in enumerate(swept):
        missing = still_open
        for earlier, _ in reversed(swept[:place]):
            found = earlier.find(codes[missing].astype(np.int64), as_of[missing])
            matches.put(missing, found)
            missing = missing[found.times == NEVER]
    return matches


class _Schedule:
    """Which labels are met by which span: the last one that begins at or before the label's time.

    Args:
        chunks: All chunks of a read, in order.
        as_of: Times of the labels, UTC microseconds.
    """

    def __init__(self, chunks: Sequence[Chunk], as_of: Integers) -> None:
        counts = [len(chunk.spans) for chunk in chunks]
        self._first_span = np.cumsum([0, *counts])
        self._days = np.array([(span.first - _EPOCH).days for chunk in chunks for span in chunk.spans])
        first, last = int(self._days[0]), int(self._days[-1])
        span_of_day = np.searchsorted(self._days, np.arange(first - 1, last + 1), side="right") - 1
        # 0 for labels before all spans, which have no row; 16 bits are sorted in linear time.
        numbers = (span_of_day + 1).astype(np.int16 if len(self._days) < 2**15 - 1 else np.int32)
        of_label = numbers[(as_of // _DAY_MICROS).clip(first - 1, last) - (first - 1)]
        self._order = np.argsort(of_label, kind="stable").astype(np.int32)
        self._bounds = np.cumsum(np.bincount(of_label, minlength=len(self._days) + 1))

    def of(self, chunk: Chunk, number: int) -> tuple[Integers, int]:
        """Returns the labels of a span, and when the next span begins."""
        place = int(self._first_span[chunk.number]) + number
        next_day = self._days[min(place + 1, len(self._days) - 1)]
        labels = self._order[self._bounds[place] : self._bounds[place + 1]].astype(np.int64)
        return labels, int(next_day) * _DAY_MICROS


def _ranges(chunks: Sequence[Chunk], count: int) -> list[Sequence[Chunk]]:
    """Cuts chunks into up to `count` runs of about as many rows each."""
    rows = np.cumsum([chunk.offsets[-1] for chunk in chunks])
    edges = np.searchsorted(rows, rows[-1] * np.arange(1, count) / count, side="left") + 1
    return [chunks[start:end] for start, end in pairwise([0, *edges, len(chunks)]) if start < end]


def _map(function: Callable[[_Item], _Result], items: Sequence[_Item], task: _Task) -> list[_Result]:
    """Calls a function on each item, in threads. The first error, or an interruption, ends all of them."""
    if task.threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(task.threads, thread_name_prefix="sweep") as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            task.share.stop()
            pool.shutdown(cancel_futures=True)
            raise


class _Share:
    """How much of a read is done."""

    def __init__(self, group: str, total: int, progress: Progress | None) -> None:
        self._group = group
        self._total = total
        self._done = 0
        self._progress = progress
        self._lock = Lock()
        self._is_stopped = False

    def add(self) -> None:
        """Counts one piece.

        Raises:
            RuntimeError: If the read was stopped; nobody waits for its result any more.
        """
        with self._lock:
            if self._is_stopped:
                raise RuntimeError("The read was stopped.")
            self._done += 1
            if self._progress is not None:
                self._progress(self._group, self._done / self._total)

    def stop(self) -> None:
        """Ends the read at the next piece of each thread."""
        self._is_stopped = True
