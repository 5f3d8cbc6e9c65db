"""What the footer of a Parquet file says, wherever it lies: its columns, and the times in it.

Whose file it is, and whether that is as it should be, is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

from feature_store.storage.location import storage_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from feature_store.storage.location import Location

_SCHEMAS_KEPT = 1_024
_UNITS = {"milliseconds": (1000, 1), "microseconds": (1, 1), "nanoseconds": (1, 1000)}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The times of a column.

    Attributes:
        first: Least time, UTC microseconds; None where all are null.
        last: Greatest time.
        nulls: Number of rows without a time.
    """

    first: int | None
    last: int | None
    nulls: int


def parquet_footer(path: Location, identity: Hashable = None) -> pq.FileMetaData:
    """Returns the footer of a file; see `Storage.footer`.

    Raises:
        FileNotFoundError: If there is none, or not the expected one any more.
        polars.exceptions.ComputeError: If it is no Parquet file.
    """
    # A code location declares sources, and reads no file: it loads without Arrow.
    import pyarrow as pa

    try:
        return storage_of(path).footer(path, identity)
    except pa.ArrowInvalid as error:
        raise pl.exceptions.ComputeError(first_line(error)) from error


def polars_schema(footer: pq.FileMetaData) -> Mapping[str, pl.DataType]:
    """Returns the columns of a file. Those of files that are alike are one object."""
    return _converted(footer.schema.to_arrow_schema().remove_metadata())


def times_in(footer: pq.FileMetaData, columns: Iterable[str]) -> Mapping[str, TimeRange]:
    """Returns what the statistics say of columns of times; those that they are silent of are left out."""
    found = {}
    # By its path: a field within a struct may be called as a column is.
    places = {footer.schema.column(place).path: place for place in range(len(footer.schema))}
    for column in columns:
        place = places.get(column)
        if place is None:
            continue
        kind = footer.schema.column(place).logical_type
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        parts = [_times_of_group(group.column(place), group.num_rows) for group in groups if group.num_rows]
        known = [part for part in parts if part is not None]
        unit = _unit(kind)
        if len(known) == len(parts) and unit is not None:
            times, per_unit = unit
            found[column] = TimeRange(
                min((part.first * times // per_unit for part in known if part.first is not None), default=None),
                max((part.last * times // per_unit for part in known if part.last is not None), default=None),
                sum(part.nulls for part in known),
            )
    return found


def first_line(error: Exception) -> str:
    """Returns what an error of a library says, in one line."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _unit(kind: pq.ParquetLogicalType) -> tuple[int, int] | None:
    """Returns by what a column's numbers are multiplied and divided to be microseconds, None if they are no times."""
    text = str(kind)
    if "Timestamp" not in text:
        return None
    return next((factors for name, factors in _UNITS.items() if name in text), None)


def _times_of_group(column: pq.ColumnChunkMetaData, rows: int) -> TimeRange | None:
    statistics = column.statistics
    if statistics is None or not statistics.has_null_count or column.physical_type != "INT64":
        return None
    if statistics.null_count == rows:
        return TimeRange(None, None, rows)
    if not statistics.has_min_max:
        return None
    return TimeRange(statistics.min_raw, statistics.max_raw, statistics.null_count)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _converted(schema: pa.Schema) -> Mapping[str, pl.DataType]:
    return pl.Schema(schema)
