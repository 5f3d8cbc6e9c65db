"""The dtypes of feature values, and of join keys.

Their forms in Polars, SQL, JSON and the row layout are `feature_store.rows.forms`'s; which values they have is
`feature_store.definitions.values`'s. This module stays importable without Polars.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from feature_store.errors import DefinitionError

DtypeName = Literal["float", "int", "string", "bool", "timestamp", "date", "decimal", "embedding", "list", "map"]

DEFAULT_SCALE = 2
"""Digits after the point of a decimal that is declared without `scale=`."""

DECIMAL_DIGITS = 38
"""Digits that a decimal has in all, before and after the point."""

_EMBEDDING = re.compile(r"embedding\[([1-9][0-9]{0,5})\]")
_DECIMAL = re.compile(r"decimal\[(0|[1-9][0-9]?)\]")
_COLLECTION = re.compile(r"(list|map)\[(.+)\]")


@dataclass(frozen=True, slots=True)
class Dtype:
    """The dtype of a feature.

    Attributes:
        name: One of `float` (float64), `int` (int64), `string` (UTF-8), `bool`, `timestamp`
            (UTC, microseconds), `date`, `decimal` (38 digits, exact), `embedding` (float32 vector), `list` (of one
            scalar dtype, any length) and `map` (texts to values of one scalar dtype).
        dimension: Length of an embedding; 0 for all other dtypes.
        scale: Digits after the point of a decimal; 0 for all other dtypes.
        element: Dtype of the elements of a list or the values of a map; None for all other dtypes.
    """

    name: DtypeName
    dimension: int = 0
    scale: int = 0
    element: Dtype | None = None

    def __str__(self) -> str:
        """Returns the registry's spelling: the name, `embedding[24]`, `decimal[2]`, `list[string]`, `map[float]`."""
        if self.name == "embedding":
            return f"embedding[{self.dimension}]"
        if self.name == "decimal":
            return f"decimal[{self.scale}]"
        return self.name if self.element is None else f"{self.name}[{self.element}]"

    @property
    def scalar(self) -> Dtype:
        """The dtype of its elements, of a list or map; otherwise itself."""
        return self if self.element is None else self.element

    @property
    def holds_floats(self) -> bool:
        """Whether its values are or hold floating point numbers, of which NaN is null and some are infinite."""
        return self.name == "embedding" or self.scalar.name == "float"

    @classmethod
    def parse(cls, text: str) -> Dtype:
        """Reads the registry's spelling.

        Raises:
            DefinitionError: If `text` is not the spelling of a dtype.
        """
        if text in _PLAIN:
            return _PLAIN[text]
        if match := _EMBEDDING.fullmatch(text):
            return embedding(int(match[1]))
        if (match := _DECIMAL.fullmatch(text)) and int(match[1]) <= DECIMAL_DIGITS:
            return decimal(int(match[1]))
        if match := _COLLECTION.fullmatch(text):
            element = cls.parse(match[2])
            if is_scalar(element):
                return list_of(element) if match[1] == "list" else map_of(element)
        raise DefinitionError(
            f"{text!r} is not a dtype. Use float, int, string, bool, timestamp, date, decimal[SCALE], embedding[N], or "
            "list[T] or map[T] of one of those but embeddings."
        )


FLOAT = Dtype("float")
INT = Dtype("int")
STRING = Dtype("string")
BOOL = Dtype("bool")
TIMESTAMP = Dtype("timestamp")
DATE = Dtype("date")

_PLAIN: Mapping[str, Dtype] = {dtype.name: dtype for dtype in (FLOAT, INT, STRING, BOOL, TIMESTAMP, DATE)}

PYTHON_DTYPES: Mapping[Any, Dtype] = {
    float: FLOAT,
    int: INT,
    str: STRING,
    bool: BOOL,
    datetime: TIMESTAMP,
    date: DATE,
}
"""What Python's own types mean wherever a user writes them: in schemas, request data and join keys. `Decimal`, `list`
and `dict` need more than their name: see `dtype_of_annotation`."""


def embedding(dimension: int) -> Dtype:
    """Returns the dtype of float32 vectors of one fixed length."""
    return Dtype("embedding", dimension)


@cache
def decimal(scale: int = DEFAULT_SCALE) -> Dtype:
    """Returns the dtype of exact decimal numbers with a fixed number of digits after the point.

    Raises:
        DefinitionError: If the scale is no whole number from 0 to 38.
    """
    if type(scale) is not int or not 0 <= scale <= DECIMAL_DIGITS:
        raise DefinitionError(f"The scale of a decimal is a whole number from 0 to {DECIMAL_DIGITS}, got {scale!r}.")
    return Dtype("decimal", scale=scale)


@cache
def list_of(element: Dtype) -> Dtype:
    """Returns the dtype of lists of a scalar dtype.

    Raises:
        DefinitionError: If the elements are no scalars.
    """
    return Dtype("list", element=_checked_element("list", element))


@cache
def map_of(element: Dtype) -> Dtype:
    """Returns the dtype of maps from text to a scalar dtype.

    Raises:
        DefinitionError: If the values are no scalars.
    """
    return Dtype("map", element=_checked_element("map", element))


def is_scalar(dtype: Dtype) -> bool:
    """Returns whether lists and maps may hold values of a dtype."""
    return dtype.name in _PLAIN or dtype.name == "decimal"


def dtype_of_annotation(annotation: Any, *, scale: int | None = None) -> Dtype | None:
    """Returns the dtype that a Python type means; None where it means none.

    Args:
        annotation: `float`, `int`, `str`, `bool`, `datetime`, `date`, `Decimal`, or `list[T]` or `dict[str, T]` of one
            of those; with `| None` it means the same.
        scale: Digits after the point of decimals; 2 where it is None.

    Raises:
        DefinitionError: If the scale is no whole number from 0 to 38, or is given for what holds no decimals.
    """
    dtype = _meant(without_none(annotation), DEFAULT_SCALE if scale is None else scale)
    if dtype is not None and scale is not None and dtype.scalar.name != "decimal":
        raise DefinitionError(f"A scale was given for {dtype}, which holds no decimals: leave it out, or use Decimal.")
    return dtype


def without_none(annotation: Any) -> Any:
    """Returns the type that is written `T | None` or `Optional[T]`; any other annotation as it is."""
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        if len(kinds) == 1:
            return kinds[0]
    return annotation


def _meant(annotation: Any, scale: int) -> Dtype | None:
    if annotation is Decimal:
        return decimal(scale)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list or (origin is dict and arguments[0] is str):
        element = _meant(arguments[-1], scale)
        if element is None or not is_scalar(element):
            return None
        return list_of(element) if origin is list else map_of(element)
    try:
        return PYTHON_DTYPES.get(annotation)
    except TypeError:  # what has no hash is no type
        return None


def _checked_element(kind: str, element: Dtype) -> Dtype:
    if not isinstance(element, Dtype) or not is_scalar(element):
        raise DefinitionError(
            f"A {kind} holds float, int, string, bool, timestamp, date or decimal[SCALE], not {element}."
        )
    return element
