"""Label frames: what a point-in-time read is asked for, checked before any work is done.

Engines see labels only as `EntityLabels`: join keys in their declared dtypes and times in UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl

from feature_store.catalog import RegisteredGroup, Selection
from feature_store.clock import to_utc
from feature_store.definitions.dtypes import DATE, INT, Dtype
from feature_store.definitions.entity import Entity
from feature_store.errors import InvalidRequestError, did_you_mean
from feature_store.frames import TIMESTAMP_TYPE, to_polars, utc_micros
from feature_store.offline.point_in_time.entity_codes import EntityCodes
from feature_store.rows.polars_schema import polars_type

_EXAMPLES = 5


@dataclass(frozen=True)
class EntityLabels:
    """Labels as the engines see them: one entity and one time each. All groups of an entity share them.

    Attributes:
        keys: The entity's join keys in their declared dtypes, without nulls.
        as_of: The times, UTC microseconds, without nulls.
    """

    keys: pl.DataFrame
    as_of: pl.Series

    @cached_property
    def codes(self) -> EntityCodes:
        """The distinct entities, numbered once for all groups."""
        return EntityCodes(self.keys)


@dataclass(frozen=True, slots=True)
class PreparedLabels:
    """A label frame that has passed all checks.

    Attributes:
        frame: As it was given, as a Polars frame.
        of_entity: Per entity name, the keys and time of each row.
    """

    frame: pl.DataFrame
    of_entity: Mapping[str, EntityLabels]


def prepare_labels(
    frame: Any,
    as_of: str,
    groups: Sequence[RegisteredGroup],
    selections: Sequence[Selection],
    *,
    now: datetime | None = None,
) -> PreparedLabels:
    """Checks a label frame and codes its keys and times.

    Integer keys of any width and categorical or enum texts are cast to the declared dtype; naive times are UTC.

    Args:
        frame: Polars, Arrow or pandas table, one row per example.
        as_of: Name of its time column.
        groups: The groups whose features are asked for.
        selections: The features that are asked for.
        now: The store's present (UTC); None to let labels lie in the future.

    Raises:
        InvalidRequestError: If a key or time column is missing, null anywhere or of the wrong dtype, if a time lies
            in the future, a column has the name of a requested feature, or two columns have one name.
    """
    table = _table(frame)
    _check_names(table, as_of, selections)
    times = _times(table, as_of)
    if now is not None:
        _refuse_future(table, as_of, times, now)
    of_entity: dict[str, EntityLabels] = {}
    for entity in {group.entity.name: group.entity for group in groups}.values():
        columns = [_key(table, entity, column, dtype) for column, dtype in entity.key_dtypes.items()]
        of_entity[entity.name] = EntityLabels(pl.DataFrame(columns), times)
    return PreparedLabels(table, of_entity)


def _table(frame: Any) -> pl.DataFrame:
    try:
        return to_polars(frame)
    except (pl.exceptions.DuplicateError, ValueError) as error:
        raise InvalidRequestError(
            f"The label frame cannot be read: {error}. Give each column a name of its own."
        ) from None


def _check_names(table: pl.DataFrame, as_of: str, selections: Sequence[Selection]) -> None:
    taken = [selection.label for selection in selections if selection.label in table.columns]
    if taken:
        raise InvalidRequestError(
            f"The label frame has columns with the names of requested features: {', '.join(taken)}. "
            "Rename or drop them, labels are returned untouched."
        )
    if as_of not in table.columns:
        times = [column for column, dtype in table.schema.items() if isinstance(dtype, pl.Datetime | pl.Date)]
        known = f"Its time columns are {', '.join(times)}." if times else "It has no time column at all."
        raise InvalidRequestError(f"The label frame has no column {as_of!r} to read features as of. {known}")


def _times(table: pl.DataFrame, as_of: str) -> pl.Series:
    _refuse_nulls(table, as_of, "the time to read features as of")
    if table.schema[as_of] == pl.Null():
        return pl.Series(as_of, [], TIMESTAMP_TYPE)
    return table.select(utc_micros(as_of, table.schema)).to_series()


def _key(table: pl.DataFrame, entity: Entity, column: str, dtype: Dtype) -> pl.Series:
    what = f"a join key of entity {entity.name!r}"
    if column not in table.columns:
        raise InvalidRequestError(
            f"The label frame has no column {column!r}, {what}. {did_you_mean(column, table.columns)}"
        )
    _refuse_nulls(table, column, what)
    series = table[column]
    wanted = polars_type(dtype)
    if dtype == INT:
        fits = series.dtype.is_integer()
    elif dtype == DATE:
        fits = series.dtype == pl.Date()
    else:
        fits = series.dtype == pl.String() or isinstance(series.dtype, pl.Categorical | pl.Enum)
    if not fits and series.dtype != pl.Null():
        raise InvalidRequestError(
            f"Label column {column!r}, {what}, is declared as {entity.join_keys[column].__name__} but holds "
            f"{series.dtype}: cast it with .cast(pl.{wanted})."
        )
    coded = series.cast(wanted, strict=False)
    _refuse_overflow(column, series, coded)
    return coded


def _refuse_future(table: pl.DataFrame, as_of: str, times: pl.Series, now: datetime) -> None:
    # The greatest time decides: only a frame that is refused is looked at row by row.
    latest = times.max()
    if latest is None or latest <= to_utc(now):  # type: ignore[operator]  # a datetime: the column holds timestamps
        return
    rows = (times > to_utc(now)).arg_true()
    shown = ", ".join(f"row {row}: {table.row(row, named=True)}" for row in rows.head(_EXAMPLES))
    raise InvalidRequestError(
        f"Label column {as_of!r}, the time to read features as of, lies after the store's present, "
        f"{to_utc(now).isoformat()}, in {rows.len()} of {table.height} rows ({shown}). What will be visible then is "
        "not known yet: drop these rows, or ask as of the present (FEATURE_STORE_CLOCK, where that is set)."
    )


def _refuse_nulls(table: pl.DataFrame, column: str, what: str) -> None:
    nulls = table[column].is_null()
    if not nulls.any():
        return
    rows = nulls.arg_true()
    shown = ", ".join(f"row {row}: {table.row(row, named=True)}" for row in rows.head(_EXAMPLES))
    raise InvalidRequestError(
        f"Label column {column!r}, {what}, is null in {rows.len()} of {table.height} rows ({shown}). "
        "Drop these rows or fill them in."
    )


def _refuse_overflow(column: str, given: pl.Series, coded: pl.Series) -> None:
    rows = coded.is_null().arg_true()
    if rows.len():
        shown = ", ".join(f"row {row}: {given[row]}" for row in rows.head(_EXAMPLES))
        raise InvalidRequestError(f"Label column {column!r} exceeds int64 in {rows.len()} rows ({shown}).")
