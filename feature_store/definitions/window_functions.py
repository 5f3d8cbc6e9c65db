"""The functions of windows: what the events inside one come to. A user names them in `window(...)`.

Nothing is computed here; `feature_store.windows` folds events by what these say. Events whose column is null are passed
over by every function that names one, and so are those whose category is null where there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    import polars as pl

FunctionName = Literal[
    "count", "total", "mean", "variance", "stddev", "minimum", "maximum", "first", "last", "top", "bottom",
    "distinct", "approx_distinct", "approx_quantile", "histogram", "age",
]  # fmt: skip
Unit = Literal["seconds", "minutes", "hours", "days"]

UNITS = {"seconds": 1_000_000, "minutes": 60_000_000, "hours": 3_600_000_000, "days": 86_400_000_000}
"""Microseconds of each unit."""

MOST_VALUES = 1000
"""How many values a list or map of a window holds at most, and up to how many `distinct` counts by default."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowFunction:
    """What the events of a window come to. Made by the functions of this module.

    Attributes:
        name: Which function.
        column: The column of the events that it reads; None where it counts or dates the events themselves.
        size: How many values it gives at most, or up to how many it counts; None where it gives one.
        quantile: Which quantile, 0 to 1.
        unit: In which unit an age is told.
        where: Events for which this expression is not true are left out.
        by: The column by whose values the events are told apart: the answer is a map.
    """

    name: FunctionName
    column: str | None = None
    size: int | None = None
    quantile: float | None = None
    unit: Unit | None = None
    where: pl.Expr | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        for column in (self.column, self.by):
            if column is None:
                continue
            check_name(column, "column of events")
            if column == EVENT_TIMESTAMP:
                raise DefinitionError(
                    f"{self.name}({column!r}) reads the time of events: use age(), or give the time another name too."
                )
        if self.size is not None and not (isinstance(self.size, int) and 1 <= self.size <= MOST_VALUES):
            raise DefinitionError(f"{self.name} takes 1 to {MOST_VALUES} values, got {self.size!r}.")

    def __str__(self) -> str:
        rest = [repr(part) for part in (self.column, self.quantile, self.size) if part is not None]
        rest += [f"unit={self.unit!r}"] if self.unit else []
        rest += [f"by={self.by!r}"] if self.by else []
        return f"{self.name}({', '.join(rest)})"


def count(column: str | None = None, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Counts events, or those whose column is not null. 0 where there is none. Annotated `int`.

    Args:
        column: Column of the events; None for all events.
        where: Only events for which this expression on their columns is true.
        by: A column whose text tells them apart: a count for each, `dict[str, int]`.
    """
    return WindowFunction("count", column, where=where, by=by)


def total(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Adds values: integers and decimals exactly, floats to the exact sum, rounded once. 0 where there is none.

    Annotated `int`, `Decimal` or `float`, which is what the column is taken as; see `count` for the arguments.
    """
    return WindowFunction("total", column, where=where, by=by)


def mean(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Returns the mean of values, from their exact sum. Annotated `float`; see `count` for the arguments."""
    return WindowFunction("mean", column, where=where, by=by)


def variance(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Returns the variance of a sample (divided by n - 1), from exact sums; null for less than two values."""
    return WindowFunction("variance", column, where=where, by=by)


def stddev(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Returns the standard deviation of a sample, the root of `variance`; null for less than two values."""
    return WindowFunction("stddev", column, where=where, by=by)


def minimum(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Returns the least value: of numbers, times, dates, or texts (by their bytes). Annotated with its type."""
    return WindowFunction("minimum", column, where=where, by=by)


def maximum(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Returns the greatest value; see `minimum`."""
    return WindowFunction("maximum", column, where=where, by=by)


def first(
    column: str, size: int | None = None, *, where: pl.Expr | None = None, by: str | None = None
) -> WindowFunction:
    """Returns the earliest value, or the earliest few as a list, in order of time and, at one instant, of value.

    Args:
        column: Column of the events.
        size: How many; the annotation is then a list. None for one.
        where: Only events for which this expression on their columns is true.
        by: A column whose text tells them apart: an answer for each, as a map.
    """
    return WindowFunction("first", column, size, where=where, by=by)


def last(
    column: str, size: int | None = None, *, where: pl.Expr | None = None, by: str | None = None
) -> WindowFunction:
    """Returns the latest value, or the latest few, the latest last; see `first`."""
    return WindowFunction("last", column, size, where=where, by=by)


def top(column: str, size: int, *, where: pl.Expr | None = None) -> WindowFunction:
    """Returns the greatest few values as a list, the greatest first, equal ones as often as they occur."""
    return WindowFunction("top", column, size, where=where)


def bottom(column: str, size: int, *, where: pl.Expr | None = None) -> WindowFunction:
    """Returns the least few values as a list, the least first, equal ones as often as they occur."""
    return WindowFunction("bottom", column, size, where=where)


def distinct(
    column: str, bound: int = MOST_VALUES, *, where: pl.Expr | None = None, by: str | None = None
) -> WindowFunction:
    """Counts different values exactly, up to a bound; or, annotated as a list, returns the least of them in order.

    Args:
        column: Column of the events.
        bound: Where there are more, it answers `bound`.
        where: Only events for which this expression on their columns is true.
        by: A column whose text tells them apart: a count for each, `dict[str, int]`.
    """
    return WindowFunction("distinct", column, bound, where=where, by=by)


def approx_distinct(column: str, *, where: pl.Expr | None = None, by: str | None = None) -> WindowFunction:
    """Counts different values by a sketch, with a standard error of 2.3 %. Annotated `int`.

    Source: P. Flajolet, E. Fusy, O. Gandouet, F. Meunier, "HyperLogLog", 2007: 2048 registers over a stable hash of
    the value's text (BLAKE2b, 64 bits), linear counting for few values.
    """
    return WindowFunction("approx_distinct", column, where=where, by=by)


def approx_quantile(
    column: str, quantile: float, *, where: pl.Expr | None = None, by: str | None = None
) -> WindowFunction:
    """Returns a quantile of numbers, at most 0.4 % off the value that holds its place. Annotated `float`.

    Values are counted in buckets, 128 for each power of two, as of G. Tene's HdrHistogram. The value that holds the
    place is the least one with at least the share `quantile` of all values at or below it.

    Args:
        column: Column of the events.
        quantile: Share of the values below it, above 0 and up to 1.
        where: Only events for which this expression on their columns is true.
        by: A column whose text tells them apart: a quantile for each, `dict[str, float]`.
    """
    if not (isinstance(quantile, int | float) and 0 < quantile <= 1 and math.isfinite(quantile)):
        raise DefinitionError(f"approx_quantile({column!r}, {quantile!r}): a quantile lies above 0 and up to 1.")
    return WindowFunction("approx_quantile", column, quantile=float(quantile), where=where, by=by)


def histogram(column: str, size: int, *, where: pl.Expr | None = None) -> WindowFunction:
    """Counts the most frequent values: a map of their texts, `dict[str, int]`; of equally frequent ones the least."""
    return WindowFunction("histogram", column, size, where=where)


def age(column: str | None = None, *, unit: Unit = "seconds", where: pl.Expr | None = None) -> WindowFunction:
    """Returns how long ago the last event was, or the last whose column is not null. Annotated `float`.

    Args:
        column: Column of the events; None for all events.
        unit: `seconds`, `minutes`, `hours` or `days`.
        where: Only events for which this expression on their columns is true.
    """
    if unit not in UNITS:
        raise DefinitionError(f"age(unit={unit!r}): the unit is one of {', '.join(UNITS)}.")
    return WindowFunction("age", column, unit=unit, where=where)
