"""Windows folded for many readers at once are what plain Python says of each."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import WindowSpec
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.fold import fold
from feature_store.windows.plain_fold import Event, value_of
from feature_store.windows.views import Events, Readers, Window

HOUR = 3_600_000_000
MINUTE = HOUR // 60
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float": st.one_of(
        st.sampled_from([0.1, 0.2, 1.1, 1e16, -1e16, 1.0, 1e150, -1e150, 5e-324, 0.0]),
        st.floats(-1e6, 1e6).map(lambda x: x + 0.0),
    ),
    "int": st.integers(-(2**40), 2**40),
    "decimal[2]": st.integers(-(10**12), 10**12).map(lambda whole: Decimal(whole).scaleb(-2)),
    "string": st.sampled_from(["", "a", "b", "ä", "z", "a|b"]),
    "date": st.dates(date(1960, 1, 1), date(2030, 1, 1)),
    "timestamp": st.datetimes(datetime(1960, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    "bool": st.booleans(),
}
EXTENTS = [(HOUR, 5 * MINUTE), (6 * HOUR, HOUR), (48 * HOUR, 24 * HOUR), (None, None), (15 * MINUTE, 15 * MINUTE)]


def windows_of(column: str) -> list[tuple[str, dict[str, Any], str]]:
    """Returns functions that a column of this dtype takes, with their arguments and the dtype of the answer."""
    found = [
        ("count", {}, "int"), ("minimum", {}, column), ("maximum", {}, column), ("first", {}, column),
        ("last", {}, column), ("first", {"size": 2}, f"list[{column}]"), ("last", {"size": 3}, f"list[{column}]"),
        ("top", {"size": 2}, f"list[{column}]"), ("bottom", {"size": 2}, f"list[{column}]"),
        ("distinct", {"size": 3}, "int"), ("distinct", {"size": 3}, f"list[{column}]"),
        ("approx_distinct", {}, "int"), ("age", {"unit": "hours"}, "float"),
    ]  # fmt: skip
    if column == "string":
        found.append(("histogram", {"size": 2}, "map[int]"))
    if column in {"float", "int", "decimal[2]"}:
        found += [
            ("total", {}, column), ("mean", {}, "float"), ("variance", {}, "float"), ("stddev", {}, "float"),
            ("approx_quantile", {"quantile": 0.5}, "float"), ("approx_quantile", {"quantile": 0.99}, "float"),
        ]  # fmt: skip
    return found


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[tuple[int, Event]], list[tuple[int, int]]]:
    column = draw(st.sampled_from(sorted(VALUES)))
    # Times near hops, at them, a microsecond beside them, and equal ones.
    moment = st.builds(
        lambda hop, beside: hop * 5 * MINUTE + beside, st.integers(-30, 700), st.sampled_from([-1, 0, 0, 1, 77])
    )
    event = st.builds(
        lambda time, value, true, category: Event(time, {"value": value, "true": true, "category": category}),
        moment,
        st.none() | VALUES[column],
        st.sampled_from([True, True, False, None]),
        st.sampled_from(["x", "y", None]),
    )
    events = draw(st.lists(st.tuples(st.integers(0, 2), event), max_size=25))
    readers = draw(st.lists(st.tuples(st.integers(0, 3), moment), min_size=1, max_size=12))
    return column, events, readers


@settings(max_examples=int(os.environ.get("WINDOW_EXAMPLES", "80")))
@given(histories(), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_folded_together_is_what_each_is(
    history: tuple[str, list[tuple[int, Event]], list[tuple[int, int]]],
    inclusive: bool,
    filtered: bool,
    split: bool,
    data: st.DataObject,
) -> None:
    column, given_events, asked = history
    functions = data.draw(st.lists(st.sampled_from(windows_of(column)), min_size=1, max_size=4))
    codes = np.array([code for code, _ in given_events], dtype=np.int64)
    times = np.array([event.time for _, event in given_events], dtype=np.int64)
    dtypes = {"value": Dtype.parse(column), "true": Dtype("bool"), "category": Dtype("string")}
    columns = {
        name: pl.Series(name, [event.values[name] for _, event in given_events], dtype=polars_type(dtype))
        for name, dtype in dtypes.items()
    }
    readers = Readers(*(np.array(part, dtype=np.int64) for part in zip(*asked, strict=True)), inclusive)
    windows = []
    for name, arguments, dtype in functions:
        if split and (dtype.startswith(("list", "map")) or name in {"top", "bottom"}):
            continue
        for length, hop in EXTENTS:
            spec = WindowSpec(
                name, "value", column, "true" if filtered else None, "category" if split else None, length, hop,
                **arguments,
            )  # fmt: skip
            windows.append(Window(spec, Dtype.parse(f"map[{dtype}]" if split else dtype)))
    found = fold(Events(codes, times, columns), readers, windows)
    for window, series in zip(windows, found, strict=True):
        answers = [as_python(value, window.dtype) for value in series.to_list()]
        expected = [
            value_of(
                window.spec, window.dtype, [event for c, event in given_events if c == code], at, inclusive=inclusive
            )
            for code, at in asked
        ]
        assert [spelled(answer) for answer in answers] == [spelled(value) for value in expected], window


def as_python(value: Any, dtype: Dtype) -> Any:
    return {pair["key"]: pair["value"] for pair in value} if dtype.name == "map" else value


def spelled(value: Any) -> str:
    if isinstance(value, list):
        return repr([spelled(each) for each in value])
    if isinstance(value, dict):
        return repr({key: spelled(each) for key, each in value.items()})
    # One instant in two classes of time zones is one value.
    return value.isoformat() if isinstance(value, datetime) else repr(value)
