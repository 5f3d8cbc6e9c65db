"""The columns of a group's rows as schemas of Polars frames."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.frames import polars_type
from feature_store.rows.schema import RowGroup, RowSchema


def polars_schema(columns: Mapping[str, Dtype]) -> pl.Schema:
    """Returns columns and dtypes as a schema of Polars."""
    return pl.Schema({column: polars_type(dtype) for column, dtype in columns.items()})


def row_schema(group: RowGroup) -> pl.Schema:
    """Returns columns and dtypes of a group's stored rows: join keys, event_timestamp, features, ingested_at."""
    return polars_schema(RowSchema.of(group).stored)


def computed_schema(group: RowGroup) -> pl.Schema:
    """Returns columns and dtypes of a group's rows before they are written: `row_schema` without `ingested_at`."""
    return polars_schema(RowSchema.of(group).computed)
