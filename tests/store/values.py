"""Values of every dtype, for tests: as a user gives them in a frame, and as every reader must answer them."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import strategies as st

from feature_store.definitions.schema import FeatureSchema, feature


@dataclass(frozen=True)
class Kind:
    """One scalar dtype.

    Attributes:
        annotation: Python type in a schema.
        polars: Its type in frames.
        values: Values that it has, those that mean null among them.
        scale: Digits after the point of a decimal.
    """

    annotation: Any
    polars: pl.DataType
    values: st.SearchStrategy[Any]
    scale: int | None = None


def _decimals(scale: int) -> st.SearchStrategy[Decimal]:
    def of_units(units: int) -> Decimal:
        # Arithmetic of decimals rounds to 28 digits.
        return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -scale))

    return st.integers(-(10**38) + 1, 10**38 - 1).map(of_units)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
FLOATS = st.floats(width=64) | st.sampled_from([0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf])
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)).map(
    lambda at: at.replace(tzinfo=UTC)
)


def scalars() -> st.SearchStrategy[Kind]:
    plain = [
        Kind(float, pl.Float64(), FLOATS),
        Kind(int, pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
        Kind(str, pl.String(), TEXTS),
        Kind(bool, pl.Boolean(), st.booleans()),
        Kind(datetime, pl.Datetime("us", "UTC"), TIMES),
        Kind(date, pl.Date(), st.dates()),
    ]
    decimals = st.sampled_from([0, 2, 9, 38]).map(
        lambda scale: Kind(Decimal, pl.Decimal(38, scale), _decimals(scale), scale)
    )
    return st.sampled_from(plain) | decimals


@dataclass(frozen=True)
class Column:
    """One feature: its annotation and `feature(...)`, its values as they are given, and as they must be answered."""

    annotation: Any
    declared: dict[str, Any]
    polars: pl.DataType
    given: list[Any]
    answers: list[Any]


@st.composite
def columns(draw: st.DrawFn, rows: int) -> Column:
    """Draws a feature with a value per row, and with a default now and then."""
    kind = draw(scalars())
    shape = draw(st.sampled_from(["scalar", "list", "map"]))
    values: st.SearchStrategy[Any]
    if shape == "scalar":
        annotation, polars, values = kind.annotation, kind.polars, kind.values
    elif shape == "list":
        annotation, polars = list[kind.annotation], pl.List(kind.polars)  # type: ignore[name-defined]
        values = st.lists(kind.values | st.none() if draw(st.booleans()) else kind.values, max_size=4)
    else:
        annotation = dict[str, kind.annotation]  # type: ignore[name-defined]
        polars = pl.List(pl.Struct({"key": pl.String, "value": kind.polars}))
        values = st.dictionaries(TEXTS, kind.values | st.none() if draw(st.booleans()) else kind.values, max_size=4)
    given = draw(st.lists(values | st.none(), min_size=rows, max_size=rows))
    declared: dict[str, Any] = {} if kind.scale is None else {"scale": kind.scale}
    default = answer(draw(values | st.none()))
    if default is not None:
        declared["default"] = default
    answers = [answer(value) for value in given]
    return Column(annotation, declared, polars, [entries(value) for value in given], answers)


def answer(value: Any) -> Any:
    """Returns what readers answer for a value: NaN is null, and so is what holds NaN or null; keys are in order."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list):
        items = [answer(item) for item in value]
        return None if None in items else items
    if isinstance(value, dict):
        held = {key: answer(value[key]) for key in sorted(value, key=str.encode)}
        return None if None in held.values() else held
    return value


def entries(value: Any) -> Any:
    """Returns a value as frames hold it: a map is the list of its entries."""
    return [{"key": key, "value": item} for key, item in value.items()] if isinstance(value, dict) else value


def schema_of(features: Mapping[str, Column]) -> type[FeatureSchema]:
    body = {name: feature("A value.", **column.declared) for name, column in features.items()}
    annotations = {name: column.annotation for name, column in features.items()}
    return type("Values", (FeatureSchema,), {"__annotations__": annotations, "__module__": __name__, **body})


def bits(value: Any) -> Any:
    """Returns what two values have in common if and only if they are the same to the bit, and in the same order."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list):
        return ["list", *map(bits, value)]
    if isinstance(value, dict):
        return ["map", *((key, bits(item)) for key, item in value.items())]
    if isinstance(value, Decimal):
        return "decimal", value.as_tuple()
    return type(value), value


def of_frame(values: Sequence[Any], column: Column) -> list[Any]:
    """Returns values of a frame as answers: maps are dicts."""
    if not isinstance(column.polars, pl.List) or not isinstance(column.polars.inner, pl.Struct):
        return list(values)
    return [None if value is None else {entry["key"]: entry["value"] for entry in value} for value in values]


def of_json(value: Any, column: Column) -> Any:
    """Returns a value of JSON, whose numbers keep their kind, as an answer."""
    return _of_json(value, column.polars)


def _of_json(value: Any, dtype: Any) -> Any:  # noqa: PLR0911 - one line per dtype
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        if isinstance(dtype.inner, pl.Struct):
            inner = dtype.inner.fields[1].dtype
            return {key: _of_json(item, inner) for key, item in value.items()}
        return [_of_json(item, dtype.inner) for item in value]
    if dtype == pl.Float64():
        assert isinstance(value, float | int)
        return float(value)
    if isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(value)
    if dtype == pl.Date():
        return date.fromisoformat(value)
    if isinstance(dtype, pl.Decimal):
        assert isinstance(value, str)
        return Decimal(value)
    return value
