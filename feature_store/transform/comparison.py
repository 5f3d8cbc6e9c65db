"""Compares feature rows bit for bit, and says in words where they differ.

Rows are compared as a set: neither their order nor exact repetitions are a difference, as in the stores themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from feature_store.equality import rows_missing_from

_EXAMPLES = 3


def difference(expected: pl.DataFrame, actual: pl.DataFrame, keys: Sequence[str]) -> str | None:
    """Returns where two frames of feature rows differ, or None where they hold the same rows.

    Floats are compared by their bits: null is not NaN, 0.0 is not -0.0, and a sum that was rounded in another order
    is another value.

    Args:
        expected: The rows as they should be.
        actual: The rows to judge.
        keys: Columns that identify a row, to pair the rows that differ.

    Returns:
        A sentence with the number of differing rows and the first of them.
    """
    if dict(expected.schema) != dict(actual.schema):
        return f"The columns differ: expected {_shown_schema(expected)}, got {_shown_schema(actual)}."
    actual = actual.select(expected.columns)
    lost = rows_missing_from(expected, actual)
    extra = rows_missing_from(actual, expected)
    if lost.is_empty() and extra.is_empty():
        return None
    identity = [key for key in keys if key in expected.columns]
    places = pl.concat([lost, extra]).select(identity).unique().sort(identity)
    examples = [_example(lost, extra, place) for place in places.head(_EXAMPLES).to_dicts()]
    return f"{places.height:,} of {expected.height:,} rows differ: {'; '.join(examples)}."


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
