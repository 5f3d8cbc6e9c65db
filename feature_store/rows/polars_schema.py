"""Dtypes and the columns of a group's rows as Polars has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.rows.forms import forms_of
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
