from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import InvalidRequestError
from feature_store.frame_fingerprint import fingerprint

EVERYTHING = pl.DataFrame(
    {
        "float": [1.5, None, -0.0],
        "int": pl.Series([1, None, 3], dtype=pl.Int8),
        "large": pl.Series([1, 2**100, None], dtype=pl.Int128),
        "text": ["a", None, "bc"],
        "binary": [b"a", b"", None],
        "bool": [True, None, False],
        "time": [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)],
        "date": [date(2024, 1, 1), None, None],
        "clock": [time(1), time(2), None],
        "span": [timedelta(1), None, None],
        "category": pl.Series(["a", "b", None], dtype=pl.Categorical),
        "kind": pl.Series(["a", "b", None], dtype=pl.Enum(["a", "b"])),
        "list": [[1], [], None],
        "vector": pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
        "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
        "decimal": [Decimal("1.5"), None, None],
        "null": [None, None, None],
    }
)


def test_it_depends_on_values_alone_not_on_how_they_lie_in_memory():
    one = fingerprint(EVERYTHING)
    assert fingerprint(pl.concat([EVERYTHING[:1], EVERYTHING[1:]], rechunk=False)) == one
    assert fingerprint(pl.concat([EVERYTHING, EVERYTHING])[3:]) == one
    hidden = pl.Series([1.5, 7.0, -0.0]).zip_with(
        EVERYTHING["float"].is_not_null(), pl.Series([None], dtype=pl.Float64)
    )
    assert fingerprint(EVERYTHING.with_columns(hidden.alias("float"))) == one


@pytest.mark.parametrize("column", EVERYTHING.columns)
def test_another_name_order_or_value_is_another_fingerprint(column):
    frame = EVERYTHING.select(column)
    assert fingerprint(frame) != fingerprint(frame.rename({column: "other"}))
    assert fingerprint(frame) != fingerprint(frame[:2])
    if column != "null":
        assert fingerprint(frame) != fingerprint(frame.reverse())


@given(st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=1, max_size=4), st.data())
def test_what_differs_has_another_fingerprint(rows, data):
    other = data.draw(st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=1, max_size=4))
    one, two = (pl.DataFrame({"x": pl.Series(each, dtype=pl.List(pl.String))}) for each in (rows, other))
    assert (fingerprint(one) == fingerprint(two)) == (rows == other)


def test_the_digest_is_the_documented_one():
    column = b"x\0Int8\0" + b"3\0" + bytes([0, 1, 0]) + bytes([1, 3])
    text = b"y\0String\0" + b"3\0" + bytes([0, 1, 0]) + (1).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"abc"
    frame = EVERYTHING.select(x="int", y="text")
    assert fingerprint(frame) == hashlib.sha256(column + text).hexdigest()


def test_python_objects_are_refused():
    with pytest.raises(InvalidRequestError, match="'x' holds Python objects"):
        fingerprint(pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}))
