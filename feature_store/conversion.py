"""Columns of other types as columns of a feature dtype: what is taken as it is, what is rejected.

One rule for rows that are ingested or computed, for label columns with request data and for what on-demand features
give. Nothing is rounded, cut off or guessed: what would lose something is a misfit, and the caller says where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from feature_store.clock import EARLIEST, LATEST
from feature_store.definitions.dtypes import DATE, TIMESTAMP, Dtype
from feature_store.frames import nan_as_null, utc_micros_of
from feature_store.rows.forms import MAP_KEY, MAP_VALUE
from feature_store.rows.polars_schema import polars_type

_MICROS_PER_DAY = 86_400_000_000
_ELEMENT = pl.element()


class UnfitTypeError(Exception):
    """A column's type is not one that values of the dtype come in. Its text is the remedy, if one is known."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """What makes single values unfit.

    Attributes:
        test: Says of each row of the given column whether it is; may be null where the value is.
        reason: Why, and what to do.
    """

    test: pl.Expr
    reason: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a column becomes one of a dtype.

    Attributes:
        expression: The column in the form of the dtype; null, or anything, where a value is unfit.
        misfits: What values may be unfit, to be looked at before the expression's result is used.
    """

    expression: pl.Expr
    misfits: tuple[Misfit, ...] = ()


def conversion(column: str, actual: pl.DataType, dtype: Dtype) -> Conversion:
    """Returns how a column becomes one of a dtype.

    Integers and floats of any width are widened, categoricals become text, times UTC microseconds (naive ones are
    taken as UTC), midnights without a zone and dates become dates, decimals and integers become decimals of the
    scale, lists and arrays become lists, or embeddings of their length, and Arrow's maps and lists of entries become
    maps in the order of their keys. NaN becomes null, and so does an embedding, list or map that holds one, and a list
    or map that holds a null.

    Args:
        column: Its name.
        actual: The type that it has.
        dtype: The dtype that it is to have.

    Raises:
        UnfitTypeError: If values of the dtype do not come in that type.
    """
    return _conversion(pl.col(column), actual, dtype)


def misfits_of(frame: pl.DataFrame, converted: Conversion) -> list[tuple[Misfit, pl.Series]]:
    """Returns which misfits there are in a frame, each with a mask of the rows."""
    if not converted.misfits:
        return []
    masks = frame.select(
        misfit.test.fill_null(value=False).alias(str(place)) for place, misfit in enumerate(converted.misfits)
    )
    return [(misfit, masks[str(place)]) for place, misfit in enumerate(converted.misfits) if masks[str(place)].any()]


def any_element(column: pl.Expr, dtype: Dtype, test: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Returns whether a value of a dtype, or any element of it, meets a test.

    Args:
        column: The column, in the form of its dtype.
        dtype: The dtype.
        test: Of a scalar.
    """
    if dtype.name == "list":
        return column.list.eval(test(_ELEMENT)).list.any()
    if dtype.name == "map":
        return column.list.eval(test(_ELEMENT.struct.field(MAP_VALUE))).list.any()
    return test(column)


def out_of_calendar(column: pl.Expr, dtype: Dtype) -> pl.Expr | None:
    """Returns whether times or dates lie outside of the years 1 to 9999; None where a dtype holds none."""
    if dtype.scalar not in {TIMESTAMP, DATE}:
        return None
    unit = 1 if dtype.scalar == TIMESTAMP else _MICROS_PER_DAY
    return any_element(column, dtype, lambda value: ~value.to_physical().is_between(EARLIEST // unit, LATEST // unit))


def _conversion(value: pl.Expr, actual: pl.DataType, dtype: Dtype) -> Conversion:
    target = polars_type(dtype)
    if isinstance(actual, pl.Null):
        return Conversion(value.cast(target))
    if dtype.name == "list":
        return _list(value, actual, dtype)
    if dtype.name == "map":
        return _map(value, actual, dtype)
    if dtype.name == "embedding":
        if isinstance(actual, pl.List | pl.Array) and (actual.inner.is_numeric() or actual.inner == pl.Null()):
            return Conversion(nan_as_null(value.cast(target), target))
        raise UnfitTypeError
    return _scalar(value, actual, dtype)


def _scalar(  # noqa: PLR0911 - one line per dtype
    value: pl.Expr, actual: pl.DataType, dtype: Dtype
) -> Conversion:
    target = polars_type(dtype)
    if isinstance(actual, pl.Null):
        return Conversion(value.cast(target))
    if dtype == TIMESTAMP and isinstance(actual, pl.Datetime | pl.Date):
        return Conversion(utc_micros_of(value, actual))
    if dtype == DATE and isinstance(actual, pl.Datetime) and actual.time_zone is None:
        day = value.dt.date()
        misfit = Misfit(day.cast(actual) != value, "a date has no time of day: cut it off, value.dt.date()")
        return Conversion(day, (misfit,))
    if dtype == DATE and isinstance(actual, pl.Datetime):
        raise UnfitTypeError("say of which time zone's day an instant is: value.dt.convert_time_zone(...).dt.date()")
    if dtype.name == "float" and actual.is_numeric():  # decimals among them: the schema asks for floats
        return Conversion(nan_as_null(value.cast(target), target))
    if dtype.name == "int" and actual.is_integer():
        return Conversion(value.cast(pl.Int64))
    if dtype.name == "string" and isinstance(actual, pl.Categorical | pl.Enum):
        return Conversion(value.cast(pl.String))
    if dtype.name == "decimal":
        return _decimal(value, actual, dtype)
    if actual == target:
        return Conversion(value)
    raise UnfitTypeError


def _decimal(value: pl.Expr, actual: pl.DataType, dtype: Dtype) -> Conversion:
    target = polars_type(dtype)
    if actual == target:
        return Conversion(value)
    if actual.is_float():
        raise UnfitTypeError(f"a float is no exact decimal: round it, value.round({dtype.scale}).cast(pl.{target})")
    if not actual.is_integer() and not isinstance(actual, pl.Decimal):
        raise UnfitTypeError
    converted = value.cast(target, strict=False)
    too_great = Misfit(
        value.is_not_null() & converted.is_null(), f"more than the 38 digits that {dtype} has in all, scale included"
    )
    if not isinstance(actual, pl.Decimal) or actual.scale <= dtype.scale:
        return Conversion(converted, (too_great,))
    digits = Misfit(
        converted.cast(actual, strict=False) != value,
        f"more digits than {dtype} keeps: declare feature(..., scale=...) with a greater scale, or round it",
    )
    return Conversion(converted, (too_great, digits))


def _list(value: pl.Expr, actual: pl.DataType, dtype: Dtype) -> Conversion:
    assert dtype.element is not None
    if isinstance(actual, pl.Array) and len(actual.shape) == 1:
        value, actual = value.arr.to_list(), pl.List(actual.inner)
    if not isinstance(actual, pl.List):
        raise UnfitTypeError
    element = _scalar(_ELEMENT, _instance(actual.inner), dtype.element)
    return _of_elements(value, dtype, element.expression, element.misfits)


def _map(value: pl.Expr, actual: pl.DataType, dtype: Dtype) -> Conversion:
    assert dtype.element is not None
    if isinstance(actual, pl.Map):
        entries = pl.Struct({MAP_KEY: actual.key, MAP_VALUE: actual.value})
        value, actual = value.cast(pl.List(entries)), pl.List(entries)
    if isinstance(actual, pl.Array) and len(actual.shape) == 1:
        value, actual = value.arr.to_list(), pl.List(actual.inner)
    inner = _instance(actual.inner) if isinstance(actual, pl.List) else None
    if isinstance(inner, pl.Null):
        return Conversion(nan_as_null(value.cast(polars_type(dtype)), polars_type(dtype)))
    fields = {field.name: _instance(field.dtype) for field in inner.fields} if isinstance(inner, pl.Struct) else {}
    if fields.keys() != {MAP_KEY, MAP_VALUE}:
        raise UnfitTypeError(
            f"a map is a list of entries, pl.List(pl.Struct({{'{MAP_KEY}': pl.String, '{MAP_VALUE}': ...}})), or "
            "Arrow's map type: a struct cannot say which keys a value has"
        )
    key = _scalar(_ELEMENT.struct.field(MAP_KEY), fields[MAP_KEY], Dtype("string"))
    item = _scalar(_ELEMENT.struct.field(MAP_VALUE), fields[MAP_VALUE], dtype.element)
    entry = pl.struct(key.expression.alias(MAP_KEY), item.expression.alias(MAP_VALUE))
    keys = value.list.eval(_ELEMENT.struct.field(MAP_KEY))
    double = Misfit(keys.list.n_unique() < keys.list.len(), "a key more than once: a map has each key once")
    converted = _of_elements(value, dtype, pl.when(_ELEMENT.is_not_null()).then(entry), item.misfits)
    return Conversion(converted.expression.list.sort(), (*converted.misfits, double))


def _of_elements(value: pl.Expr, dtype: Dtype, element: pl.Expr, misfits: tuple[Misfit, ...]) -> Conversion:
    target = polars_type(dtype)
    return Conversion(
        nan_as_null(value.list.eval(element).cast(target), target),
        tuple(Misfit(value.list.eval(misfit.test).list.any(), misfit.reason) for misfit in misfits),
    )


def _instance(dtype: Any) -> pl.DataType:
    """Returns a type as an object; Polars gives classes where they have no arguments."""
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return instance
