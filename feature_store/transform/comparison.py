"""Compares feature rows bit for bit, and says in words where they differ, and whether by more than rounding.

Rows are compared as a set: neither their order nor exact repetitions are a difference, as in the stores themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from feature_store.equality import rows_missing_from

_EXAMPLES = 3
_RELATIVE = 1e-9
_OF_THE_COLUMN = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two frames of feature rows differ.

    Attributes:
        text: A sentence with the number of differing rows and the first of them.
        rounding: Whether only floats differ, and those by no more than sums that were rounded in another order: by a
            billionth of the value, or by a million millionth of the greatest value of its column.
    """

    text: str
    rounding: bool = False

    def __str__(self) -> str:
        """Returns the sentence."""
        return self.text


def difference(expected: pl.DataFrame, actual: pl.DataFrame, keys: Sequence[str]) -> Difference | None:
    """Returns where two frames of feature rows differ, or None where they hold the same rows.

    Floats are compared by their bits: null is not NaN, 0.0 is not -0.0, and a sum that was rounded in another order
    is another value.

    Args:
        expected: The rows as they should be.
        actual: The rows to judge.
        keys: Columns that identify a row, to pair the rows that differ.

    """
    if dict(expected.schema) != dict(actual.schema):
        return Difference(f"The columns differ: expected {_shown_schema(expected)}, got {_shown_schema(actual)}.")
    actual = actual.select(expected.columns)
    lost = rows_missing_from(expected, actual)
    extra = rows_missing_from(actual, expected)
    if lost.is_empty() and extra.is_empty():
        return None
    identity = [key for key in keys if key in expected.columns]
    places = pl.concat([lost, extra]).select(identity).unique().sort(identity)
    examples = [_example(lost, extra, place) for place in places.head(_EXAMPLES).to_dicts()]
    text = f"{places.height:,} of {expected.height:,} rows differ: {'; '.join(examples)}."
    return Difference(text, rounding=_is_rounding(expected, lost, extra, identity))


def _is_rounding(expected: pl.DataFrame, lost: pl.DataFrame, extra: pl.DataFrame, identity: list[str]) -> bool:
    if lost.height != extra.height or lost.select(identity).is_duplicated().any():
        return False
    paired = lost.join(extra, on=identity, nulls_equal=True, suffix="#", maintain_order="left")
    if paired.height != lost.height:
        return False
    values = [column for column in lost.columns if column not in identity]
    return all(_all_close(expected[column], paired[column], paired[f"{column}#"]) for column in values)


def _all_close(column: pl.Series, left: pl.Series, right: pl.Series) -> bool:
    if column.dtype.is_nested():
        return all(_close(one, other) for one, other in zip(left.to_list(), right.to_list(), strict=True))
    if not column.dtype.is_float():
        return left.equals(right)
    greatest = column.filter(column.is_finite()).abs().max()
    floor = _OF_THE_COLUMN * (greatest if isinstance(greatest, float) else 0.0)
    return all(_close(one, other, floor) for one, other in zip(left.to_list(), right.to_list(), strict=True))


def _close(left: Any, right: Any, floor: float = 0.0) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or math.isclose(left, right, rel_tol=_RELATIVE, abs_tol=floor)
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(_close(one, other, floor) for one, other in pairs)
    return bool(left == right)


def _example(lost: pl.DataFrame, extra: pl.DataFrame, place: dict[str, Any]) -> str:
    here = pl.all_horizontal(pl.col(key).eq_missing(value) for key, value in place.items())
    expected, actual = lost.filter(here).to_dicts(), extra.filter(here).to_dicts()
    where = " ".join(f"{key}={_shown(value)}" for key, value in place.items())
    if not actual:
        return f"{where} is missing"
    if not expected:
        return f"{where} should not exist"
    differing = [
        f"{column} is {_shown(actual[0][column])} instead of {_shown(value)}"
        for column, value in expected[0].items()
        if repr(value) != repr(actual[0][column])
    ]
    return f"{where}: {', '.join(differing)}"


def _shown(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def _shown_schema(rows: pl.DataFrame) -> str:
    return ", ".join(f"{column} {dtype}" for column, dtype in rows.schema.items())
