"""Conversions at the border of Polars: dtypes, time columns and join keys of frames.

All that needs Polars and belongs to no single store is here; what readers of the online store import is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import polars.selectors as cs

from feature_store.clock import to_utc
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import ENTITY_ID
from feature_store.errors import InvalidRequestError
from feature_store.rows.forms import MAP_KEY, MAP_VALUE
from feature_store.rows.polars_schema import polars_type

TIMESTAMP_TYPE = pl.Datetime("us", "UTC")


def may_hold_nan(dtype: pl.DataType) -> bool:
    """Returns whether values of a dtype may be NaN, or hold what makes them null; see `nan_as_null`."""
    return dtype.is_float() or isinstance(dtype, pl.List) or (isinstance(dtype, pl.Array) and dtype.inner.is_float())


def nan_as_null(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Returns the expression of a column without NaN, which the store does not know.

    A float that is NaN is null, and so is an embedding that holds one, and a list or map that holds one or a null.
    """
    if dtype.is_float():
        return column.fill_nan(None)
    if isinstance(dtype, pl.Array) and dtype.inner.is_float():
        holds_nan = column.arr.eval(pl.element().is_nan()).arr.any()
        return pl.when(~holds_nan.fill_null(value=False)).then(column)
    if isinstance(dtype, pl.List):
        # Whatever the element is, `any` of no elements is false, and a list that is null stays null.
        return pl.when(~column.list.eval(_is_nothing(pl.element(), dtype.inner)).list.any()).then(column)
    return column


def _is_nothing(element: pl.Expr, dtype: Any) -> pl.Expr:
    nothing = element.is_null()
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            nothing |= _is_nothing(element.struct.field(field.name), field.dtype)
    elif dtype.is_float():
        nothing |= element.is_nan().fill_null(value=False)
    return nothing


def without_nan(series: pl.Series) -> pl.Series:
    """Returns a series in which NaN is null; see `nan_as_null`."""
    if series.dtype.is_float():
        return series.fill_nan(None) if series.is_nan().any() else series
    if not may_hold_nan(series.dtype):
        return series
    return series.to_frame("_").select(nan_as_null(pl.col("_"), series.dtype).alias(series.name)).to_series()


def to_polars(frame: Any, maps: Collection[str] = ()) -> pl.DataFrame:
    """Returns a Polars frame of a Polars, Arrow or pandas one (anything with the Arrow PyCapsule interface).

    Args:
        frame: The table.
        maps: Columns that hold maps. Where pandas holds them as dicts, each becomes the list of its entries: as a
            struct, it would get the keys of all others.

    Raises:
        InvalidRequestError: If the object is no table.
    """
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if type(frame).__module__.partition(".")[0] == "pandas":
        held = [column for column in maps if column in frame and frame[column].dtype == object]
        frame = frame.assign(**{column: frame[column].map(_entries) for column in held}) if held else frame
        return pl.from_pandas(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise InvalidRequestError(f"A table is needed, got {type(frame).__name__}: pass a Polars, Arrow or pandas table.")


def _entries(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return [{MAP_KEY: key, MAP_VALUE: item} for key, item in value.items()]


def utc_micros(column: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Returns the expression that turns a time column into UTC microseconds; see `utc_micros_of`.

    Raises:
        InvalidRequestError: If the column is no date or datetime.
    """
    dtype = schema[column]
    if not isinstance(dtype, pl.Datetime | pl.Date):
        raise InvalidRequestError(
            f"Column {column!r} holds {dtype}, not timestamps: pass datetimes (aware, or naive in UTC)."
        )
    return utc_micros_of(cs.by_name(column), dtype)


def utc_micros_of(times: pl.Expr, dtype: pl.Datetime | pl.Date) -> pl.Expr:
    """Returns the expression that turns times into UTC microseconds.

    Aware times are converted; naive ones are taken as UTC: the one place where that is decided for frames.
    """
    if isinstance(dtype, pl.Date):
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if dtype.time_zone is None:
        return times.dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    return times.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name for a column that is added to others: the given one, with underscores before it if need be."""
    while name in taken:
        name = f"_{name}"
    return name


def entity_id_expression(entity: Entity) -> pl.Expr:
    """Returns the expression of the column `entity_id`, built from the join keys as `Entity.entity_id` does."""
    columns = [pl.col(column).cast(pl.String) for column in entity.join_keys]
    if len(columns) == 1:
        return columns[0].alias(ENTITY_ID)
    escaped = [
        column.str.replace_all("\\", "\\\\", literal=True).str.replace_all("|", "\\|", literal=True)
        for column in columns
    ]
    return pl.concat_str(escaped, separator="|").alias(ENTITY_ID)


def key_frame(entity: Entity, entity_ids: Sequence[str]) -> pl.DataFrame:
    """Returns the join keys that entity ids stand for, one row each: the inverse of `entity_id_expression`.

    Raises:
        InvalidRequestError: If an id is malformed.
    """
    schema = {column: polars_type(dtype) for column, dtype in entity.key_dtypes.items()}
    return pl.DataFrame([entity.keys_of(entity_id) for entity_id in entity_ids], schema=schema)


def timestamp_series(name: str, moments: Sequence[datetime]) -> pl.Series:
    """Returns datetimes (aware, or naive in UTC; each with its own zone) as a series of UTC microseconds.

    Raises:
        InvalidRequestError: If an element is null or no datetime.
    """
    wrong = [position for position, moment in enumerate(moments) if not isinstance(moment, datetime)]
    if wrong:
        raise InvalidRequestError(
            f"{len(wrong):,} of {len(moments):,} {name}s are no datetimes, the first at position {wrong[0]}: "
            f"{moments[wrong[0]]!r}."
        )
    return pl.Series(name, [to_utc(moment) for moment in moments], dtype=TIMESTAMP_TYPE)
