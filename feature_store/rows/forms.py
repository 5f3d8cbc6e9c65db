"""The one table of dtypes: the form of each in Polars, DuckDB, Spark, JSON, messages and the row layout.

A new dtype is a new line here. Nothing is imported but what all readers have: Polars is handed in by who has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from feature_store.definitions.dtypes import Dtype


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
    """

    polars: Callable[[Any], Any]
    duckdb: str
    spark: str
    json: Any
    message: Any
    struct: str
    numpy: tuple[Any, ...]


_SCALARS = {
    "float": Forms(lambda pl: pl.Float64(), "DOUBLE", "double", float, float | str, "d", ("<f8",)),
    "int": Forms(lambda pl: pl.Int64(), "BIGINT", "bigint", int, int, "q", ("<i8",)),
    # Its slot holds where the text ends among the bytes of all texts of the row.
    "string": Forms(lambda pl: pl.String(), "VARCHAR", "string", str, str, "I", ("<u4",)),
    "bool": Forms(lambda pl: pl.Boolean(), "BOOLEAN", "boolean", bool, bool, "?", ("?",)),
    "timestamp": Forms(
        lambda pl: pl.Datetime("us", "UTC"), "TIMESTAMPTZ", "timestamp", datetime, str, "q", ("<i8",)
    ),
}  # fmt: skip


@cache
def forms_of(dtype: Dtype) -> Forms:
    """Returns the forms of a dtype."""
    if dtype.name != "embedding":
        return _SCALARS[dtype.name]
    size = dtype.dimension
    return Forms(
        polars=lambda pl: pl.Array(pl.Float32(), size),
        duckdb="FLOAT[]",
        spark="array<float>",
        json=list[float | None],
        message=list[float | str | None],
        struct=f"{4 * size}s",
        numpy=("<f4", (size,)),
    )
