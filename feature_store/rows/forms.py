"""The one table of dtypes: the form of each in Polars, DuckDB, Spark, JSON, messages and the row layout.

A new dtype is a new line here. Nothing is imported but what all readers have: Polars is handed in by who has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from feature_store.definitions.dtypes import DECIMAL_DIGITS, Dtype

MAP_KEY, MAP_VALUE = "key", "value"
"""Fields of an entry of a map, which frames and files hold as a list of entries in the order of their keys."""


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms of one dtype.

    Attributes:
        polars: Returns the type in frames, which is that of Arrow and Parquet too, given the module `polars`.
        duckdb: Type in SQL, as it comes out of a Parquet file.
        spark: Type in Spark, as it comes out of a Parquet file.
        json: Python type that the JSON of an online value is read as; null is always allowed beside it.
        message: The same of a value in a message of a stream, where infinities are texts.
        struct: Format of its slot in the row layout, as `struct` spells it.
        numpy: The same as NumPy spells it: dtype, and shape if it is no scalar.
        has_text: Whether the slot holds where the value's text ends among the bytes of all texts of the row.
    """

    polars: Callable[[Any], Any]
    duckdb: str
    spark: str
    json: Any
    message: Any
    struct: str
    numpy: tuple[Any, ...]
    has_text: bool = False


_TEXT_SLOT: dict[str, Any] = {"struct": "I", "numpy": ("<u4",), "has_text": True}

_SCALARS = {
    "float": Forms(lambda pl: pl.Float64(), "DOUBLE", "double", float, float | str, "d", ("<f8",)),
    "int": Forms(lambda pl: pl.Int64(), "BIGINT", "bigint", int, int, "q", ("<i8",)),
    "string": Forms(lambda pl: pl.String(), "VARCHAR", "string", str, str, **_TEXT_SLOT),
    "bool": Forms(lambda pl: pl.Boolean(), "BOOLEAN", "boolean", bool, bool, "?", ("?",)),
    "timestamp": Forms(
        lambda pl: pl.Datetime("us", "UTC"), "TIMESTAMPTZ", "timestamp", datetime, str, "q", ("<i8",)
    ),
    "date": Forms(lambda pl: pl.Date(), "DATE", "date", date, str, "i", ("<i4",)),
}  # fmt: skip


@cache
def forms_of(dtype: Dtype) -> Forms:
    """Returns the forms of a dtype."""
    if dtype.name == "embedding":
        return _embedding(dtype.dimension)
    if dtype.name == "decimal":
        return _decimal(dtype.scale)
    if dtype.element is None:
        return _SCALARS[dtype.name]
    element = forms_of(dtype.element)
    return _list(element) if dtype.name == "list" else _map(element)


def _embedding(size: int) -> Forms:
    return Forms(
        polars=lambda pl: pl.Array(pl.Float32(), size),
        duckdb="FLOAT[]",
        spark="array<float>",
        json=list[float | None],
        message=list[float | str | None],
        struct=f"{4 * size}s",
        numpy=("<f4", (size,)),
    )


def _decimal(scale: int) -> Forms:
    return Forms(
        polars=lambda pl: pl.Decimal(DECIMAL_DIGITS, scale),
        duckdb=f"DECIMAL({DECIMAL_DIGITS},{scale})",
        spark=f"decimal({DECIMAL_DIGITS},{scale})",
        json=Decimal,
        message=str,
        **_TEXT_SLOT,
    )


def _list(element: Forms) -> Forms:
    return Forms(
        polars=lambda pl: pl.List(element.polars(pl)),
        duckdb=f"{element.duckdb}[]",
        spark=f"array<{element.spark}>",
        json=list[element.json],  # type: ignore[name-defined]
        message=list[element.message | None],  # type: ignore[name-defined]
        **_TEXT_SLOT,
    )


def _map(element: Forms) -> Forms:
    return Forms(
        polars=lambda pl: pl.List(pl.Struct({MAP_KEY: pl.String(), MAP_VALUE: element.polars(pl)})),
        duckdb=f'STRUCT("{MAP_KEY}" VARCHAR, "{MAP_VALUE}" {element.duckdb})[]',
        spark=f"array<struct<{MAP_KEY}:string,{MAP_VALUE}:{element.spark}>>",
        json=dict[str, element.json],  # type: ignore[name-defined]
        message=dict[str, element.message | None],  # type: ignore[name-defined]
        **_TEXT_SLOT,
    )
