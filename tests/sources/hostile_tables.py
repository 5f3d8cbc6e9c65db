"""Tables as nobody would make them on purpose, with what each of their cells should become.

A column's kind says how a cell is written in SQL and what Python value it should be read as.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 6

Cell = tuple[str | None, Any]
"""How a value is written in SQL, and what it is read as."""


def _plain(value: Any) -> Cell:
    return str(value), value


def _time(value: datetime) -> Cell:
    return value.isoformat(" "), value.replace(fold=0)


INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, DAYS, 23, 59, 59)).map(_time)
ODD_INSTANTS = st.sampled_from(
    [
        ("infinity", LAST),
        ("-infinity", FIRST),
        ("9999-12-31 00:00:00", datetime(9999, 12, 31)),
        ("2099-01-01 00:00:00", datetime(2099, 1, 1)),
        ("1970-01-01 00:00:00", datetime(1970, 1, 1)),
        ("0001-01-01 00:00:00", FIRST),
    ]
)
DATES = st.dates(date(1970, 1, 1), date(2100, 1, 1)).map(_plain) | st.sampled_from(
    [("infinity", date(9999, 12, 31)), ("-infinity", date(1, 1, 1))]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)
FLOATS = st.floats(allow_nan=False).map(lambda value: (repr(value).replace("inf", "infinity"), value))
DECIMALS = st.decimals(-(10**9), 10**9, places=2).map(_plain)


@dataclass(frozen=True)
class Kind:
    """A kind of column.

    Attributes:
        sql: Its type.
        cells: Values that are not null.
        read: What it is read as, given the value of a frame; None if only that there is one matters.
    """

    sql: str
    cells: st.SearchStrategy[Cell]
    read: Callable[[Any], Any] | None = lambda value: value


def _naive(value: datetime) -> datetime:
    return value.replace(tzinfo=None)


COMMON = (
    Kind("VARCHAR(20)", TEXTS.map(lambda text: (text, text))),
    Kind("BIGINT", st.integers(-(2**63), 2**63 - 1).map(_plain)),
    Kind("SMALLINT", st.integers(-(2**15), 2**15 - 1).map(_plain)),
    Kind("DOUBLE PRECISION", FLOATS),
    Kind("DECIMAL(12, 2)", DECIMALS, Decimal),
    Kind("BOOLEAN", st.booleans().map(_plain)),
    Kind("DATE", DATES),
    Kind(
        "TIME",
        st.times().map(lambda value: (value.isoformat(), value.replace(fold=0))),
        lambda value: time.fromisoformat(str(value)),
    ),
    Kind("TIMESTAMP", INSTANTS | ODD_INSTANTS),
    Kind("TIMESTAMP WITH TIME ZONE", (INSTANTS | ODD_INSTANTS).map(lambda cell: (f"{cell[0]}", cell[1])), _naive),
    Kind("UUID", st.uuids().map(lambda value: (str(value), str(value)))),
    Kind("INTERVAL", st.integers(0, 99).map(lambda value: (f"{value} days", value)), None),
    Kind("INTEGER[]", st.lists(st.integers(0, 9), max_size=3).map(lambda items: (f"{items}", items)), list),
)
POSTGRESQL = (
    *(kind for kind in COMMON if kind.sql != "INTEGER[]"),
    Kind("numeric", st.decimals(-(10**15), 10**15, places=6).map(_plain) | st.just(("NaN", None)), lambda v: v),
    Kind("numeric(6, 0)", st.integers(-999_999, 999_999).map(lambda value: (str(value), Decimal(value)))),
    Kind("money", st.decimals(0, 9999, places=2).map(_plain), Decimal),
    Kind("jsonb", st.integers().map(lambda value: (f'{{"a": {value}}}', f'{{"a": {value}}}'))),
    Kind("inet", st.just(("10.1.2.3", "10.1.2.3/32")), None),
    Kind("bytea", st.binary(max_size=4).map(lambda value: (f"\\x{value.hex()}", value))),
    Kind("int4range", st.just(("[1,4)", "[1,4)"))),
)

WORDS = st.sampled_from(
    ["user", "select", "order", "Mixed", "a b", 'q"uote', "per%cent", "%s", "semi;colon", "--c", "é"]
)
NAMES = (WORDS | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=8)).map(
    lambda name: name.strip() or "x"
)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        time_column: Name of its time column.
        time_type: Type of that.
        columns: Names and kinds of the others.
        rows: The cells, those of the time column first.
    """

    time_column: str
    time_type: str
    columns: tuple[tuple[str, Kind], ...]
    rows: tuple[tuple[Cell, ...], ...]

    def inside(self, first: int, last: int, now: datetime) -> list[tuple[Any, ...]]:
        """Returns the rows of some days, from 0, as they should be read."""
        low, high = (START.replace(tzinfo=None) + timedelta(days=n) for n in (first, last + 1))
        return [
            tuple(value for _, value in row)
            for row in self.rows
            if row[0][1] is not None and low <= row[0][1] < high and row[0][1] < _naive(now)
        ]

    def landed(self, now: datetime) -> int:
        """Returns how many days have landed."""
        times = [row[0][1] for row in self.rows if row[0][1] is not None]
        known = [moment for moment in times if _naive(START) <= moment < _naive(now)]
        return (max(known).date() - START.date()).days + 1 if known else 0


NULL: st.SearchStrategy[Cell] = st.just((None, None))
TIME_TYPES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@st.composite
def tables(draw: st.DrawFn, kinds: tuple[Kind, ...]) -> Table:
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique_by=str.casefold))
    columns = tuple((name, draw(st.sampled_from(kinds))) for name in names[1:])
    times = INSTANTS | INSTANTS | ODD_INSTANTS | NULL
    cells = [times, *(kind.cells | NULL for _, kind in columns)]
    rows = draw(st.lists(st.tuples(*cells), max_size=8))
    return Table(names[0], draw(st.sampled_from(TIME_TYPES)), columns, tuple(rows))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
