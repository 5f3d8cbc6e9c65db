"""The checks that the rows of a group pass before they are written.

What a feature's values may be is the business of its schema; here is only what the store itself relies on.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRowsError
from feature_store.frames import may_hold_nan, nan_as_null
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema, row_schema

_EXAMPLES = 3


def nan_to_null(schema: pl.Schema, columns: Iterable[str]) -> list[pl.Expr]:
    """Returns one expression per column that may hold NaN, which the store does not know: it is null instead."""
    return [nan_as_null(pl.col(column), schema[column]) for column in columns if may_hold_nan(schema[column])]


def checked_rows(group: RegisteredGroup, window: Window, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows as they are stored: canonical column order, sorted, NaN as null.

    Raises:
        InvalidRowsError: If columns or dtypes are not the group's, a join key or time is null, or a row's event
            lies outside the window.
    """
    schema = row_schema(group)
    _refuse(group, window, rows, schema)
    keys = list(group.entity.join_keys)
    return (
        rows.select(schema.names())
        .with_columns(nan_to_null(schema, schema.names()))
        # Rows of one entity lie together, so that a reader of few entities skips most row groups.
        .sort(*keys, EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True)
    )


def fit_rows(group: RegisteredGroup, window: Window, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows that have no `ingested_at` yet as `checked_rows` would, one per entity and event time.

    Raises:
        InvalidRowsError: As there.
    """
    refuse_unfit_rows(group, window, rows)
    columns = computed_schema(group).names()
    ordered = rows.select(columns)
    return ordered.with_columns(nan_to_null(ordered.schema, columns)).sort(*group.entity.join_keys, EVENT_TIMESTAMP)


def refuse_unfit_rows(group: RegisteredGroup, window: Window, rows: pl.DataFrame) -> None:
    """Refuses rows that `checked_rows` would refuse, before they have an `ingested_at`, and before anything is done.

    Raises:
        InvalidRowsError: As there.
    """
    _refuse(group, window, rows, computed_schema(group))


def _refuse(group: RegisteredGroup, window: Window, rows: pl.DataFrame, schema: pl.Schema) -> None:
    failures = _schema_failures(schema, rows.schema)
    if not failures:
        failures = _value_failures(group, window, rows)
    if failures:
        raise InvalidRowsError(
            group.name, failures, "Correct the rows, or apply the group's definition again if it is what changed."
        )


def _schema_failures(expected: pl.Schema, actual: pl.Schema) -> list[str]:
    missing = [column for column in expected if column not in actual]
    unknown = [column for column in actual if column not in expected]
    return [
        *([f"missing columns: {', '.join(missing)}"] if missing else []),
        *([f"columns that the group does not have: {', '.join(unknown)}"] if unknown else []),
        *(
            f"column {column!r} holds {actual[column]}, not {dtype}"
            for column, dtype in expected.items()
            if column in actual and actual[column] != dtype
        ),
    ]


def _value_failures(group: RegisteredGroup, window: Window, rows: pl.DataFrame) -> list[str]:
    failures = [
        f"column {column!r} is null in {rows[column].null_count()} row(s)"
        for column in (*group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT)
        if column in rows.columns and rows[column].null_count()
    ]
    times = rows[EVENT_TIMESTAMP].to_physical()
    first, last = times.min(), times.max()
    if first is not None and (first < to_micros(window.start) or last >= to_micros(window.end)):  # type: ignore[operator]
        outside = rows.filter(~pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))
        examples = ", ".join(moment.isoformat() for moment in outside[EVENT_TIMESTAMP].head(_EXAMPLES))
        failures.append(
            f"{outside.height} row(s) have an {EVENT_TIMESTAMP} outside "
            f"{window.start.isoformat()} <= t < {window.end.isoformat()}: {examples}"
        )
    return failures
