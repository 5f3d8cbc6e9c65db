"""Dtypes and the columns of a group's rows as Polars has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.rows.forms import MAP_KEY, MAP_VALUE, forms_of
from feature_store.rows.schema import RowGroup, RowSchema


@cache
def polars_type(dtype: Dtype) -> pl.DataType:
    """Returns the Polars type that holds values of a feature dtype."""
    return forms_of(dtype).polars(pl)  # type: ignore[no-any-return]


def polars_schema(columns: Mapping[str, Dtype]) -> pl.Schema:
    """Returns columns and dtypes as a schema of Polars."""
    return pl.Schema({column: polars_type(dtype) for column, dtype in columns.items()})


def row_schema(group: RowGroup) -> pl.Schema:
    """Returns columns and dtypes of a group's stored rows: join keys, event_timestamp, features, ingested_at."""
    return polars_schema(RowSchema.of(group).stored)


def computed_schema(group: RowGroup) -> pl.Schema:
    """Returns columns and dtypes of a group's rows before they are written: `row_schema` without `ingested_at`."""
    return polars_schema(RowSchema.of(group).computed)


def series_of_values(name: str, values: Sequence[Any], dtype: Dtype) -> pl.Series:
    """Returns values, as answers have them, as a column: maps are dicts, whose entries are put in no other order."""
    if dtype.name == "map":
        values = [
            None if value is None else [{MAP_KEY: key, MAP_VALUE: item} for key, item in value.items()]
            for value in values
        ]
    return pl.Series(name, values, dtype=polars_type(dtype), strict=True)


def values_of_series(column: pl.Series, dtype: Dtype) -> list[Any]:
    """Returns the values of a column as answers have them: maps are dicts."""
    values = column.to_list()
    return [python_value(value, dtype) for value in values] if dtype.name == "map" else values


def with_default(column: pl.Series, dtype: Dtype, default: Any) -> pl.Series:
    """Returns a column with a default in place of nulls; None for none."""
    if default is None or not column.null_count():
        return column
    return column.zip_with(column.is_not_null(), series_of_values("", [default], dtype)).alias(column.name)


def python_rows(frame: pl.DataFrame, dtypes: Mapping[str, Dtype]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a frame as dicts, their values as answers have them.

    Args:
        frame: Any frame.
        dtypes: Dtypes of its feature columns, and of others.
    """
    maps = [column for column in frame.columns if column in dtypes and dtypes[column].name == "map"]
    for row in frame.iter_rows(named=True):
        for column in maps:
            row[column] = python_value(row[column], dtypes[column])
        yield row


def python_value(value: Any, dtype: Dtype) -> Any:
    """Returns one value, as Polars gives it, as answers have it: a map is a dict."""
    if dtype.name != "map" or value is None:
        return value
    return {entry[MAP_KEY]: entry[MAP_VALUE] for entry in value}
