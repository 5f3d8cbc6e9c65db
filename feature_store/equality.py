"""When two feature rows are equal: bit for bit, however they lie in memory.

Null is not NaN, 0.0 is not -0.0, and a sum that was rounded in another order is another value.
"""

from __future__ import annotations

from typing import Any

import polars as pl

_ROW = "#"  # no column of feature rows can have this name
_FLOAT_BITS: dict[type[pl.DataType], type[pl.DataType]] = {pl.Float32: pl.UInt32, pl.Float64: pl.UInt64}


def rows_missing_from(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows that the others do not hold, in order; both have the same columns."""
    return rows[positions_missing_from(rows, others)]


def positions_missing_from(rows: pl.DataFrame, others: pl.DataFrame) -> pl.Series:
    """Returns the positions of the rows that the others do not hold, in order; both have the same columns."""
    left, right = _comparable(rows), _comparable(others)
    unmatched = left.with_row_index(_ROW).join(right, on=left.columns, how="anti", nulls_equal=True)
    return unmatched[_ROW].sort()


def _comparable(rows: pl.DataFrame) -> pl.DataFrame:
    columns = []
    for series in rows:
        bits = _FLOAT_BITS.get(series.dtype.base_type())
        if bits is not None:
            columns.append(series.to_frame().select(pl.all().reinterpret(dtype=bits)).to_series())
        elif series.dtype.is_nested():
            columns.append(pl.Series(series.name, [_spelled(value) for value in series.to_list()], dtype=pl.String))
        else:
            columns.append(series)
    return pl.DataFrame(columns)


def _spelled(value: Any) -> str | None:
    # Python spells nested floats exactly, and null, nan and -0.0 each in their own way.
    return None if value is None else repr(value)
