"""The one rule by which columns of different files, or days, become one: which dtype they have in common.

What arrives is the same for every window of a source: numbers of all widths are Int64 or Float64, categories are text,
times are UTC microseconds, whatever one file alone would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.frames import TIMESTAMP_TYPE, utc_micros
from feature_store.sources.text_times import parse_times, unread

Schema = Mapping[str, pl.DataType]
Bearer = tuple[str, pl.DataType]
"""A file, and the dtype that a column has in it."""

LARGEST_EXACT = 2**53
"""Whole numbers up to this one are floats without loss; larger ones, identifiers mostly, are not rounded in silence."""

_WIDEST_PRECISION = 38
_MOST_MILLIS = 2**63 // 1000 - 1
_TRUE, _FALSE = ["true", "t", "yes", "1"], ["false", "f", "no", "0"]


def canonical(dtype: pl.DataType) -> pl.DataType:  # noqa: PLR0911 - one line per kind
    """Returns the dtype in which a column of a file arrives, as long as no other file has another one."""
    if dtype in _NARROW_INTEGERS:
        return pl.Int64()
    if dtype.is_float():
        return pl.Float64()
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return TIMESTAMP_TYPE
    if isinstance(dtype, pl.Duration):
        return pl.Duration("us")
    if isinstance(dtype, pl.List):
        return pl.List(canonical(_inner(dtype)))
    if isinstance(dtype, pl.Array):
        return pl.Array(canonical(_inner(dtype)), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: canonical(_instance(field.dtype)) for field in dtype.fields})
    return dtype


def common_dtype(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Returns the dtype that holds the values of two columns, None if there is none.

    Either may be what `canonical` gives. The order does not matter, nor which two of many come first.
    """
    if other in {one, pl.Null()}:
        return one
    if one == pl.Null:
        return other
    for left, right in ((one, other), (other, one)):
        for accepts, found in _PAIRS:
            if accepts(left, right):
                return found(left, right)
    return None


def common_schema(
    schemas: Iterable[tuple[str, Schema]], *, conflict: Callable[[str, Bearer, Bearer], Exception]
) -> dict[str, pl.DataType]:
    """Returns all columns that some files have, each in the dtype that they have in common.

    Args:
        schemas: Names of files, with their schemas.
        conflict: Returns the error to raise, given a column and two files in which it has nothing in common.
    """
    kinds: dict[str, dict[pl.DataType, Bearer]] = {}
    for name, schema in schemas:
        for column, dtype in schema.items():
            kinds.setdefault(column, {}).setdefault(canonical(dtype), (name, dtype))
    found: dict[str, pl.DataType] = {}
    for column, bearers in kinds.items():
        whole: pl.DataType = pl.Null()
        for kind, bearer in bearers.items():
            both = common_dtype(whole, kind)
            if both is None:
                at_odds = (other for known, other in bearers.items() if common_dtype(known, kind) is None)
                raise conflict(column, next(at_odds), bearer)
            whole = both
        found[column] = whole
    return found


def merged(schema: Schema, others: Iterable[Schema]) -> dict[str, pl.DataType]:
    """Returns a schema with what others add to it, in their order; what has nothing in common with it adds nothing.

    Args:
        schema: What the files of a window have in common.
        others: The schemas of all files of the source, so that windows differ in nothing.
    """
    found: dict[str, pl.DataType] = {}
    for other in others:
        for column, dtype in other.items():
            known = found.get(column) or schema.get(column, pl.Null())
            found[column] = common_dtype(known, canonical(dtype)) or known
    return {**found, **{column: dtype for column, dtype in schema.items() if column not in found}}


def arrival(declared: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """Returns the columns that a source declares, as they arrive: its event time is among them, in UTC microseconds."""
    return {**{name: _instance(dtype) for name, dtype in declared.items()}, EVENT_TIMESTAMP: TIMESTAMP_TYPE}


def fits(dtype: pl.DataType, target: pl.DataType) -> bool:
    """Tells whether values of a dtype can be those of another: by the rule, as numbers, or as text that spells them."""
    if common_dtype(canonical(dtype), canonical(target)) == canonical(target):
        return True
    if target.is_nested() or dtype.is_nested():
        return isinstance(dtype, pl.List | pl.Array) and isinstance(target, pl.List | pl.Array)
    both_numbers = dtype.is_numeric() and target.is_numeric()
    return both_numbers or dtype == pl.String or (target == pl.String and dtype != pl.Binary)


def converted(column: str, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:  # noqa: PLR0911 - one line per kind
    """Returns the expression of a column of a file in the dtype of its source.

    Evaluating it raises where a value has none in that dtype; `lost` finds out which.
    """
    value = pl.col(column)
    if dtype == target:
        return value
    if target == TIMESTAMP_TYPE:
        if dtype == pl.String:
            return _time_of_text(value)
        if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ms":
            # Milliseconds that are no microseconds any more stay far away, and do not come round.
            millis = value.to_physical().clip(-_MOST_MILLIS, _MOST_MILLIS)
            return (millis * 1000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if isinstance(dtype, pl.Datetime | pl.Date):
            return utc_micros(column, {column: dtype})
    if dtype == pl.String and target != pl.String:
        text = value.str.strip_chars()
        blank = pl.when(text != "").then(text)
        if target == pl.Boolean:
            return blank.str.to_lowercase().replace_strict(
                [*_TRUE, *_FALSE], [True] * len(_TRUE) + [False] * len(_FALSE), return_dtype=pl.Boolean()
            )
        return _from_text(blank, target)
    if target.is_temporal() and isinstance(dtype, pl.Datetime | pl.Date):
        return utc_micros(column, {column: dtype}).cast(target)
    return _number(value, dtype, target).cast(target)


def lost(values: pl.Series, target: pl.DataType) -> int | None:
    """Returns the position of the first value that has none in a dtype, None if all have."""
    low, high = 0, len(values)
    if not _fails(values, target):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _fails(values[low:middle], target):
            high = middle
        else:
            low = middle
    return low


def _fails(values: pl.Series, target: pl.DataType) -> bool:
    try:
        values.to_frame("values").select(converted("values", values.dtype, target))
    except (pl.exceptions.PolarsError, ValueError, OverflowError):
        return True
    return False


def _number(value: pl.Expr, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    if dtype.is_integer() and target == pl.Float64():
        return value.map_batches(_exact, return_dtype=dtype, is_elementwise=True)
    if dtype.is_float() and target.is_integer():
        return value.map_batches(_whole_numbers, return_dtype=dtype, is_elementwise=True)
    return value


def _time_of_text(text: pl.Expr) -> pl.Expr:
    return text.map_batches(_strict_times, return_dtype=TIMESTAMP_TYPE, is_elementwise=True)


def _whole_numbers(numbers: pl.Series) -> pl.Series:
    without_gaps = numbers.fill_nan(None)
    broken = without_gaps.filter(without_gaps != without_gaps.round())
    if len(broken):
        raise ValueError(f"{broken[0]!r} is no whole number")
    if (without_gaps.abs() > LARGEST_EXACT).any():
        raise ValueError("floats as large as these stand for several whole numbers each")
    return without_gaps


def _exact(numbers: pl.Series) -> pl.Series:
    ends = [end for end in (numbers.min(), numbers.max()) if isinstance(end, int)]
    if any(abs(end) > LARGEST_EXACT for end in ends):
        raise ValueError(f"{max(ends, key=abs)} is no float without loss")
    return numbers


def _strict_times(texts: pl.Series) -> pl.Series:
    found = parse_times(texts)
    wrong = unread(texts, found)
    if wrong.any():
        raise ValueError(f"{texts.filter(wrong)[0]!r} is no time")
    return found


def _from_text(text: pl.Expr, target: pl.DataType) -> pl.Expr:
    if isinstance(target, pl.Datetime):
        return _time_of_text(text).cast(target)
    if isinstance(target, pl.Decimal):
        return text.str.to_decimal(scale=target.scale).cast(target)
    if isinstance(target, pl.Date):
        return text.str.to_date("%Y-%m-%d")
    if isinstance(target, pl.Time):
        return text.str.to_time("%H:%M:%S%.f")
    return text.cast(target)


def _instance(dtype: Any) -> pl.DataType:
    """Returns a dtype that may be given as its class."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[no-any-return]


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    return _instance(dtype.inner)


def _decimals(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    scales = [dtype.scale for dtype in (one, other) if isinstance(dtype, pl.Decimal)]
    return pl.Decimal(_WIDEST_PRECISION, max(scales))


def _nested(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    assert isinstance(one, pl.List | pl.Array)
    assert isinstance(other, pl.List | pl.Array)
    inner = common_dtype(_inner(one), _inner(other))
    if inner is None:
        return None
    if isinstance(one, pl.Array) and isinstance(other, pl.Array) and one.size == other.size:
        return pl.Array(inner, one.size)
    return pl.List(inner)


def _structs(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    assert isinstance(one, pl.Struct)
    assert isinstance(other, pl.Struct)
    fields: dict[str, pl.DataType] = {}
    for name, dtype in ((field.name, _instance(field.dtype)) for field in [*one.fields, *other.fields]):
        both = common_dtype(fields.get(name, pl.Null()), dtype)
        if both is None:
            return None
        fields[name] = both
    return pl.Struct(dict(sorted(fields.items())))


_NARROW_INTEGERS = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32}
_Rule = tuple[Callable[[pl.DataType, pl.DataType], bool], Callable[[pl.DataType, pl.DataType], pl.DataType | None]]
_PAIRS: tuple[_Rule, ...] = (
    (lambda one, other: one == pl.Int64 and other == pl.Float64, lambda _, other: other),
    (
        lambda one, other: isinstance(one, pl.Decimal) and (other == pl.Int64 or isinstance(other, pl.Decimal)),
        _decimals,
    ),
    (lambda one, other: one == pl.Date and other == TIMESTAMP_TYPE, lambda _, other: other),
    (lambda one, other: one == pl.String and (other in (TIMESTAMP_TYPE, pl.Date)), lambda *_: TIMESTAMP_TYPE),
    (lambda one, other: isinstance(one, pl.List | pl.Array) and isinstance(other, pl.List | pl.Array), _nested),
    (lambda one, other: isinstance(one, pl.Struct) and isinstance(other, pl.Struct), _structs),
)
