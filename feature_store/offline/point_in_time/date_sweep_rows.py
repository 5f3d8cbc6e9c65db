"""What a sweep reads: which files at a time, which rows of them, and how they come out as arrays.

Reading follows a plan. Files are read in chunks, large enough that opening a file costs nothing and small enough that
a few of them fit in memory; a chunk consists of spans of whole dates, and a span is what labels are matched with at
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import groupby

import numpy as np
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.date_sweep_match import Integers
from feature_store.offline.point_in_time.engine import GroupHistory
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.parquet import scan_files

CHUNK_ROWS = 262_144
SPAN_ROWS = 16_384

_ROW_BITS = 40


@dataclass(frozen=True, slots=True)
class Span:
    """Whole dates of a chunk.

    Attributes:
        first: First date.
        start: Row of the chunk at which it begins.
        end: Row after its last one.
    """

    first: date
    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """Files that are read in one go: all files of some consecutive dates.

    Attributes:
        number: Its place in the plan.
        files: The files, by date and name.
        counts: Rows of each file.
        spans: What it consists of, in order.
    """

    number: int
    files: tuple[PartitionFile, ...]
    counts: tuple[int, ...]
    spans: tuple[Span, ...]

    @cached_property
    def offsets(self) -> Integers:
        """First row of each file, and the number of all rows."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @property
    def first_reference(self) -> int:
        """Reference of the first row: its place in the whole plan. References ascend with dates, files and rows."""
        return self.number << _ROW_BITS


@dataclass(frozen=True, slots=True)
class Observations:
    """Rows of a chunk, in the order of files, without their features.

    Attributes:
        keys: Join keys.
        times: Event times, UTC microseconds.
        ingested: Ingestion times, UTC microseconds.
    """

    keys: pl.DataFrame
    times: Integers
    ingested: Integers


def plan(
    files: Sequence[PartitionFile], counts: Sequence[int], *, chunk_rows: int = CHUNK_ROWS, span_rows: int = SPAN_ROWS
) -> list[Chunk]:
    """Returns the chunks in which files are read, in the order of dates.

    Args:
        files: By date and name.
        counts: Rows of each file.
        chunk_rows: A chunk ends with the span with which it reaches this many rows.
        span_rows: A span ends with the date with which it reaches this many rows.
    """
    chunks: list[Chunk] = []
    members: list[tuple[PartitionFile, int]] = []
    spans: list[Span] = []
    # By folder, which is by date, but for a snapshot: it lies apart from the files of its date, and comes before them.
    by_folder = groupby(zip(files, counts, strict=True), key=lambda member: member[0].path.parent)
    dates = [list(of_date) for _, of_date in by_folder]
    end = 0
    is_open = False
    for place, of_date in enumerate(dates):
        members += of_date
        start, end = end, end + sum(count for _, count in of_date)
        if is_open:
            spans[-1] = Span(spans[-1].first, spans[-1].start, end)
        else:
            spans.append(Span(of_date[0][0].date, start, end))
        is_last = place == len(dates) - 1
        is_open = not is_last and end - spans[-1].start < span_rows
        if is_last or (not is_open and end >= chunk_rows):
            chunk_files, chunk_counts = zip(*members, strict=True)
            chunks.append(Chunk(len(chunks), chunk_files, chunk_counts, tuple(spans)))
            members, spans, end = [], [], 0
    return chunks


def read_observations(history: GroupHistory, chunk: Chunk) -> Observations:
    """Reads keys and times of a chunk.

    A sweep relies on dates: `group_history` has refused files with a row without a time, or in the wrong partition.
    """
    group = history.group
    keys = list(group.entity.join_keys)
    rows = _scan(group, chunk.files, [*keys, EVENT_TIMESTAMP, INGESTED_AT]).collect(engine="streaming")
    return Observations(rows.select(keys), _micros(rows[EVENT_TIMESTAMP]), _micros(rows[INGESTED_AT]))


def read_features(group: RegisteredGroup, chunk: Chunk, rows: Integers, columns: Sequence[str]) -> pl.DataFrame:
    """Reads features of some rows of a chunk; files without one of these rows are passed over.

    Args:
        group: The group.
        chunk: The chunk.
        rows: Ascending places in the chunk, at least one; repeated ones are welcome.
        columns: Feature columns.

    Returns:
        One row per place, in order.
    """
    bounds = np.searchsorted(rows, chunk.offsets)
    per_file = np.diff(bounds)
    needed = np.flatnonzero(per_file)
    counts = np.array(chunk.counts)[needed]
    moved = chunk.offsets[needed] - (np.cumsum(counts) - counts)
    places = rows - np.repeat(moved, per_file[needed])
    first, last = int(places[0]), int(places[-1])
    frame = _scan(group, [chunk.files[place] for place in needed], columns)
    # Row groups before the first and after the last place are not read.
    read = frame.slice(first, last - first + 1).collect(engine="streaming")
    found: pl.DataFrame = read[places - first]
    return found


def _scan(group: RegisteredGroup, files: Sequence[PartitionFile], columns: Sequence[str]) -> pl.LazyFrame:
    schema = row_schema(group)
    return scan_files(
        [file.path for file in files],
        schema={column: schema[column] for column in columns},
        missing_columns="insert",
        extra_columns="ignore",
    )


def _micros(times: pl.Series) -> Integers:
    return times.to_physical().rechunk().to_numpy()
