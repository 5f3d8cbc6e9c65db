"""A windowed feature as the registry holds it and every reader folds it: plain values, free of Polars and NumPy.

What a user writes is `window(...)` in a schema; what its type and its function allow is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, Dtype
from feature_store.definitions.names import LONGEST_NAME
from feature_store.definitions.window_functions import WindowFunction
from feature_store.durations import duration_text
from feature_store.errors import DefinitionError
from feature_store.windows.extents import SECOND_MICROS, Extent

if TYPE_CHECKING:
    import polars as pl

_NUMBERS = frozenset({"float", "int", "decimal"})
_SCALARS = frozenset({*_NUMBERS, "string", "bool", "timestamp", "date"})
_OF_NUMBERS = frozenset({"mean", "variance", "stddev", "approx_quantile"})
_COUNTS = frozenset({"count", "distinct", "approx_distinct"})
_LISTS = frozenset({"first", "last", "top", "bottom"})

_CALENDAR = 9999 * 366 * 86_400 * SECOND_MICROS


OTHER_EVENTS = "other_events"
"""Column of a windowed group's rows: the events that share the instant with the first, as JSON; null for none."""


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """What a windowed feature is: which function of which column, over how long.

    Attributes:
        function: Name of the function; see `window_functions`.
        column: Column of the stored rows that it reads; None where it counts or dates the events themselves.
        column_dtype: Its dtype, as the registry spells it.
        condition: Column of the stored rows that says which events count; None where all do.
        category: Column of the stored rows by whose text they are told apart; None where they are not.
        length: How far it reaches back, in microseconds; None for the whole life of the entity.
        hop: The step of its tail, likewise.
        size: How many values it gives at most, or up to how many it counts.
        quantile: Which quantile, above 0 and up to 1.
        unit: The unit of an age.
    """

    function: str
    column: str | None
    column_dtype: str | None
    condition: str | None
    category: str | None
    length: int | None
    hop: int | None
    size: int | None = None
    quantile: float | None = None
    unit: str | None = None

    @property
    def extent(self) -> Extent:
        """Its length and hop."""
        return Extent(self.length, self.hop)

    @property
    def reach_text(self) -> str:
        """How far it reaches back, for people: `7d window`."""
        if self.length is None:
            return "whole life"
        return f"{duration_text(timedelta(microseconds=self.length), most_units=4)} window"

    @property
    def inputs(self) -> dict[str, Dtype]:
        """The columns of stored rows that it reads."""
        columns = {}
        if self.column is not None and self.column_dtype is not None:
            columns[self.column] = Dtype.parse(self.column_dtype)
        if self.condition is not None:
            columns[self.condition] = BOOL
        if self.category is not None:
            columns[self.category] = STRING
        return columns

    def empty(self, dtype: Dtype) -> Any:
        """Returns its value where no event is in the window, in plain Python.

        Args:
            dtype: Dtype of the feature.
        """
        if self.category is not None or dtype.name == "map":
            return {}
        if dtype.name == "list":
            return []
        if self.function in _COUNTS:
            return 0
        if self.function == "total":
            return _zero(dtype)
        return None


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredWindow:
    """What `window(...)` says beside what all features say.

    Attributes:
        function: What the events come to.
        over: How far it reaches back.
        hop: The step of its tail; None for the default.
    """

    function: WindowFunction
    over: str | timedelta | None
    hop: str | timedelta | None

    def spec(self, schema: str, name: str, dtype: Dtype) -> WindowSpec:
        """Returns what is registered of it, its column's dtype as far as the feature's own dtype tells.

        Args:
            schema: Name of the schema, for errors.
            name: Column of the feature.
            dtype: Dtype of the feature, from its annotation.

        Raises:
            DefinitionError: If the annotation does not fit the function, or the extent is impossible.
        """
        function, where = self.function, f"{schema}.{name}"
        try:
            extent = Extent.of(self.over, self.hop)
        except DefinitionError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        _check_type(where, function, dtype)
        exact = _column_dtype(function, dtype)
        return WindowSpec(
            function=function.name,
            column=function.column,
            column_dtype=None if exact is None else str(exact),
            condition=None if function.where is None else condition_column(where, name, function.where),
            category=function.by,
            length=extent.length,
            hop=extent.hop,
            size=function.size,
            quantile=function.quantile,
            unit=function.unit,
        )


def with_column_dtypes(schema: str, specs: Mapping[str, WindowSpec]) -> dict[str, WindowSpec]:
    """Returns windows by name with a dtype for each column: what one window says of it holds for all of the schema.

    A column of which none says what it holds is taken as float where numbers are needed, else as text.

    Raises:
        DefinitionError: If two of them say different things of a column.
    """
    said: dict[str, tuple[str, str]] = {}
    for name, spec in specs.items():
        if spec.column is not None and spec.column_dtype is not None:
            other, by = said.setdefault(spec.column, (spec.column_dtype, name))
            if other != spec.column_dtype:
                raise DefinitionError(
                    f"{schema}.{name} takes the column {spec.column!r} as {spec.column_dtype}, {by} takes it as "
                    f"{other}: annotate both alike, or give the column two names in the function."
                )
    texts = {spec.category for spec in specs.values() if spec.category is not None}
    numbers = {spec.column for spec in specs.values() if spec.function in _OF_NUMBERS}
    found = {}
    for name, spec in specs.items():
        if spec.column is None:
            found[name] = spec
            continue
        dtype, by = said.get(spec.column, (str(FLOAT if spec.column in numbers else STRING), name))
        if spec.column in texts and dtype != str(STRING):
            raise DefinitionError(
                f"{schema}.{by} takes the column {spec.column!r} as {dtype}, and it tells events apart as text: give "
                "the column two names in the function."
            )
        if spec.function in _OF_NUMBERS and Dtype.parse(dtype).name not in _NUMBERS:
            raise DefinitionError(
                f"{schema}.{name} computes a {spec.function} of the column {spec.column!r}, which {by} takes as "
                f"{dtype}: only numbers have one."
            )
        found[name] = replace(spec, column_dtype=dtype)
    return found


def stored_inputs(specs: Iterable[WindowSpec]) -> dict[str, Dtype]:
    """Returns the columns of the rows that a windowed group stores, beside keys and times."""
    columns: dict[str, Dtype] = {}
    for spec in specs:
        columns |= spec.inputs
    return {**columns, OTHER_EVENTS: STRING}


def longest_reach(specs: Iterable[WindowSpec]) -> int:
    """Returns how far back any of the windows reaches, its hop included, in microseconds; at most the calendar."""
    return min(max((spec.extent.reach for spec in specs), default=0), _CALENDAR)


def longest_life(specs: Iterable[WindowSpec]) -> timedelta:
    """Returns how long an event takes part in some of the windows: `longest_reach`, in whole seconds."""
    return timedelta(seconds=-(-longest_reach(specs) // SECOND_MICROS))


def condition_column(where: str, name: str, expression: pl.Expr) -> str:
    """Returns the name of the column that keeps whether the condition of a feature is true.

    It says nothing of the expression, which Polars may spell in another way one day: an edited condition is an edit of
    the group's code, as one of its function is.

    Args:
        where: Names the feature in errors.
        name: Its column.
        expression: The condition.

    Raises:
        DefinitionError: If it is no expression, or looks at other events than its own.
    """
    import polars as pl

    if not isinstance(expression, pl.Expr):
        raise DefinitionError(f"{where}: where={expression!r} is no expression: write where=pl.col(...) > 0, say.")
    if not _is_of_one_row(expression):
        raise DefinitionError(
            f"{where}: where={expression} looks at other events than its own (an aggregate, a shift, a rank), or is a "
            "Python function: the events of a window are chosen one by one. Use expressions on columns of one event."
        )
    column = f"where_{name}"
    if len(column) <= LONGEST_NAME:
        return column
    return f"where_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _is_of_one_row(expression: pl.Expr) -> bool:
    """Tells whether an expression's value for a row depends on that row alone."""
    import polars as pl

    meta = expression.meta
    try:
        if meta.is_column() or meta.is_literal():
            return True
        return meta.is_row_separable() and not meta.is_scalar() and all(map(_is_of_one_row, meta.pop()))
    except pl.exceptions.PolarsError:
        # A function in Python, of which nothing is known.
        return False


def _check_type(where: str, function: WindowFunction, dtype: Dtype) -> None:
    inner = dtype
    if function.by is not None:
        if dtype.name != "map" or dtype.element is None:
            raise _wrong_type(where, function, dtype, "a map, because of by=: dict[str, ...]")
        inner = dtype.element
    right = _right_type(function, inner)
    if right is not None:
        raise _wrong_type(where, function, dtype, right if function.by is None else f"dict[str, {right}]")


def _right_type(function: WindowFunction, inner: Dtype) -> str | None:  # noqa: PLR0911 - one line per kind
    """Returns which type a function gives, in words; None where it is the one that is annotated."""
    name = function.name
    if name == "histogram":
        return None if inner.name == "map" and inner.element == INT else "dict[str, int]"
    if name in _COUNTS:
        return None if inner == INT or (name == "distinct" and inner.name == "list") else "int"
    if name in _OF_NUMBERS or name == "age":
        return None if inner == FLOAT else "float"
    if name == "total":
        return None if inner.name in _NUMBERS else "int, float or Decimal"
    if name in _LISTS and function.size is not None:
        return None if inner.name == "list" else "a list of the column's type: list[str], say"
    if inner.name == "list":
        return f"one value, not a list; for several write {name}(..., 5)"
    return None if inner.name in _SCALARS else "the column's type: float, int, str, bool, datetime, date or Decimal"


def _wrong_type(where: str, function: WindowFunction, dtype: Dtype, right: str) -> DefinitionError:
    return DefinitionError(f"{where} is annotated {dtype}, and {function} gives another type: annotate it as {right}.")


def _column_dtype(function: WindowFunction, dtype: Dtype) -> Dtype | None:
    """Returns what the feature's dtype says of the column's, None where it says nothing."""
    inner = dtype.element if function.by is not None and dtype.element is not None else dtype
    if function.name in {"total", "minimum", "maximum", "first", "last", "top", "bottom"} or inner.name == "list":
        return inner.element if inner.name == "list" else inner
    return STRING if function.name == "histogram" else None


def _zero(dtype: Dtype) -> Any:
    if dtype.name == "decimal":
        from decimal import Decimal

        return Decimal(0).scaleb(-dtype.scale)
    return 0 if dtype.name == "int" else 0.0
