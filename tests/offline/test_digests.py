"""Digests of contents: of values, not of the memory that holds them."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from feature_store.offline.digests import content_digest

LONG = "a text that is longer than twelve bytes "
NOW = datetime(2024, 3, 1, tzinfo=UTC)

VALUES = [
    pl.Series("x", [1, 2, 3]),
    pl.Series("x", [1.0, -0.0, 3.0]),
    pl.Series("x", [True, False, True]),
    pl.Series("x", [LONG + "1", LONG + "2", "3"]),
    pl.Series("x", [NOW, NOW.replace(day=2), NOW.replace(day=3)], dtype=pl.Datetime("us", "UTC")),
    pl.Series("x", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=pl.Array(pl.Float32, 2)),
]


def digest(column: pl.Series) -> str:
    return content_digest(column.to_frame().with_columns(ingested_at=pl.lit(NOW)))


@pytest.mark.parametrize("values", VALUES, ids=lambda values: str(values.dtype))
def test_what_lies_behind_a_null_does_not_count(values):
    known = pl.Series([True, False, True])
    hidden = values.to_frame().select(pl.when(known).then("x"))["x"]
    plain = pl.Series("x", [values[0], None, values[2]], dtype=values.dtype)
    assert digest(hidden) == digest(plain)
    assert digest(plain) != digest(values)


def test_where_a_long_text_lies_does_not_count():
    texts = [LONG + str(number) for number in range(5)]
    rearranged = pl.Series("x", [*reversed(texts), "z"]).sort().head(5)
    assert digest(rearranged) == digest(pl.Series("x", texts))


@pytest.mark.parametrize(
    ("one", "other"),
    [([None, 0], [0, None]), ([0, 0], [0, None]), ([0.0], [-0.0]), (["0"], [None]), ([1], [1.0]), ([True], [1])],
)
def test_what_differs_counts(one, other):
    kind = pl.String if isinstance(one[0], str) else None
    assert digest(pl.Series("x", one)) != digest(pl.Series("x", other, dtype=kind))
