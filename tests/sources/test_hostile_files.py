"""Files as others write them, drawn at random: what is read is right, or one error names what is wrong.

HOSTILE_FILES=5000 tries so many; the default is few of them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store import CsvSource, FeatureStoreError, JsonSource, ParquetSource
from feature_store.day_windows import day_window

FIRST = date(2024, 3, 1)
START = datetime(2024, 3, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
COLUMNS = {"user_id": pl.String, "event_timestamp": TIME, "amount": pl.Float64, "note": pl.String}
EXAMPLES = int(os.environ.get("HOSTILE_FILES", "30"))

TIMES = {
    "us": pa.timestamp("us", "UTC"),
    "ms": pa.timestamp("ms", "UTC"),
    "naive": pa.timestamp("us"),
    "naive ms": pa.timestamp("ms"),
    "zone": pa.timestamp("us", "America/New_York"),
    "text": pa.string(),
}
AMOUNTS = {
    "i8": pa.int8(),
    "i32": pa.int32(),
    "i64": pa.int64(),
    "u16": pa.uint16(),
    "f32": pa.float32(),
    "f64": pa.float64(),
    "null": pa.null(),
    "missing": None,
}
NOTES = {
    "text": pa.string(),
    "large": pa.large_string(),
    "category": pa.dictionary(pa.int32(), pa.string()),
    "null": pa.null(),
    "missing": None,
}
DAMAGES = ("none", "none", "none", "none", "cut", "noise", "empty", "at odds")
FOLDERS = (
    "_temporary",
    "date=__HIVE_DEFAULT_PARTITION__",
    "date=2024-03-02.bak",
    "date=2024-13-45",
    "date=",
    ".hidden",
    "date=2024-03-2",
    "Date=2024-03-01",
)
SENTINELS = (
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    datetime(2099, 12, 31, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
)
tried: Counter[str] = Counter()


@dataclass
class Written:
    """A file that was drawn: what lies in it, and what was done to it."""

    day: date
    rows: list[dict[str, Any]]
    damage: str
    kinds: tuple[str, str, str]
    name: str
    cut: float = 1.0


@dataclass
class Drawn:
    kind: str
    days: int
    stray_hours: int
    files: list[Written]
    folders: list[str] = field(default_factory=list)


@st.composite
def rows_of(draw: st.DrawFn, day: date) -> list[dict[str, Any]]:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    inside = st.integers(0, 86_399_999).map(lambda millis: begin + timedelta(milliseconds=millis))
    near = st.integers(-40 * 3600, 64 * 3600).map(lambda seconds: begin + timedelta(seconds=seconds))
    time = st.one_of(inside, inside, inside, near, st.none(), st.sampled_from(SENTINELS))
    row = st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u1", "u2", 'a,"b"\nc', "ü|x"]),
            "event_timestamp": time,
            "amount": st.one_of(st.none(), st.integers(0, 100)),
            "note": st.one_of(st.none(), st.sampled_from(["x", "2024-03-01", "1", "line\nbreak", "true"])),
        }
    )
    return draw(st.lists(row, max_size=5))


@st.composite
def inputs(draw: st.DrawFn) -> Drawn:
    days = draw(st.integers(1, 4))
    files = []
    for number in range(days):
        day = FIRST + timedelta(days=number)
        for place in range(draw(st.integers(1, 2))):
            kinds = (
                draw(st.sampled_from(sorted(TIMES))),
                draw(st.sampled_from(sorted(AMOUNTS))),
                draw(st.sampled_from(sorted(NOTES))),
            )
            damage = draw(st.sampled_from(DAMAGES))
            cut = draw(st.floats(0, 0.99))
            files.append(Written(day, draw(rows_of(day)), damage, kinds, f"part-{place}", cut))
    return Drawn(
        draw(st.sampled_from(["parquet", "csv", "jsonl"])),
        days,
        draw(st.sampled_from([0, 0, 5, 30])),
        files,
        draw(st.lists(st.sampled_from(FOLDERS), max_size=3, unique=True)),
    )


def arrow_table(file: Written) -> pa.Table:
    time, amount, note = file.kinds
    moments = [row["event_timestamp"] for row in file.rows]
    if time == "text":
        moments = [None if moment is None else moment.isoformat() for moment in moments]
    elif "naive" in time:
        moments = [None if moment is None else moment.replace(tzinfo=None) for moment in moments]
    columns = {
        "user_id": pa.array([row["user_id"] for row in file.rows], pa.string()),
        "event_timestamp": pa.array(moments, TIMES[time]),
    }
    if file.damage == "at odds":
        columns["amount"] = pa.array(
            [None if r["amount"] is None else str(r["amount"]) for r in file.rows], pa.string()
        )
    elif AMOUNTS[amount] is not None:
        columns["amount"] = pa.array([row["amount"] for row in file.rows], AMOUNTS[amount])
    if NOTES[note] is not None:
        texts = pa.array([row["note"] for row in file.rows], pa.null() if note == "null" else pa.string())
        columns["note"] = texts.cast(NOTES[note])
    return pa.table(columns)


def settle(file: Written) -> None:
    """Makes the rows what the drawn kinds can hold."""
    _, amount, note = file.kinds
    for row in file.rows:
        if amount in {"null", "missing"} and file.damage != "at odds":
            row["amount"] = None
        if note in {"null", "missing"}:
            row["note"] = None


def csv_text(file: Written) -> str:
    names = ["note", "event_timestamp", "user_id", "amount"] if file.kinds[1] == "f32" else list(COLUMNS)
    names = [n for n in names if not (n == "amount" and file.kinds[1] == "missing")]
    names = [n for n in names if not (n == "note" and file.kinds[2] == "missing")]

    def cell(value: Any) -> str:
        if value is None:
            return ""
        text = value.isoformat() if isinstance(value, datetime) else str(value)
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text

    end = "\r\n" if file.kinds[0] == "ms" else "\n"
    bom = "\ufeff" if file.kinds[0] == "zone" else ""
    lines = [",".join(cell(row[name]) for name in names) for row in file.rows]
    return bom + end.join([",".join(names), *lines, ""])


def json_text(file: Written) -> str:
    def line(row: dict[str, Any]) -> str:
        values = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
        return json.dumps({k: v for k, v in values.items() if v is not None or file.kinds[2] == "null"})

    return "\n".join(map(line, file.rows)) + "\n"


def write(root: Path, drawn: Drawn, file: Written) -> None:
    folder = root / f"date={file.day}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{file.name}.{drawn.kind}"
    settle(file)
    if drawn.kind == "parquet":
        pq.write_table(arrow_table(file), path)
    else:
        text = csv_text(file) if drawn.kind == "csv" else json_text(file)
        if file.damage == "at odds":
            text += "oops,oops,oops,oops,oops\n" if drawn.kind == "csv" else '{"amount": "oops"}\n'
        path.write_text(text, encoding="utf-8", newline="")
    content = path.read_bytes()
    if file.damage == "cut":
        path.write_bytes(content[: int(len(content) * file.cut)])
    elif file.damage == "noise":
        path.write_bytes(bytes((7 * n) % 251 for n in range(40)) + content[40:-2])
    elif file.damage == "empty":
        path.write_bytes(b"")


def source_of(root: Path, drawn: Drawn) -> Any:
    stray = timedelta(hours=drawn.stray_hours)
    if drawn.kind == "parquet":
        return ParquetSource("events", root, START, max_stray=stray)
    made = CsvSource if drawn.kind == "csv" else JsonSource
    return made("events", root, START, columns=COLUMNS, max_stray=stray)


def belongs(file: Written, moment: datetime | None, hours: int) -> bool:
    if moment is None:
        return False
    window = day_window(file.day)
    stray = timedelta(hours=hours)
    return window.start - stray <= moment < window.end + stray


def expected(drawn: Drawn, day: date) -> Counter[tuple[Any, ...]]:
    window = day_window(day)
    return Counter(
        (row["user_id"], row["event_timestamp"], row["amount"], row["note"])
        for file in drawn.files
        for row in file.rows
        if belongs(file, row["event_timestamp"], drawn.stray_hours)
        and window.start <= row["event_timestamp"] < window.end
    )


def names_it(error: Exception, drawn: Drawn) -> bool:
    text = str(error)
    return "'events'" in text and any(f"date={file.day}" in text for file in drawn.files)


@settings(max_examples=EXAMPLES, derandomize=EXAMPLES < 100, suppress_health_check=list(HealthCheck))
@given(inputs())
def test_files_are_read_right_or_rejected_by_one_clear_error(drawn: Drawn) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for file in drawn.files:
            write(root, drawn, file)
        for name in drawn.folders:
            (root / name).mkdir(exist_ok=True)
            (root / name / f"part-0.{drawn.kind}").write_bytes(b"stray")
        damages = {file.damage for file in drawn.files} - {"none"}
        source = source_of(root, drawn)
        days = [FIRST + timedelta(days=number) for number in range(drawn.days)]
        spans = [(days[0], days[-1]), *((day, day) for day in days)]
        dtypes = set()
        rejected: list[FeatureStoreError] = []
        assert set(source.survey()) <= set(days)
        for first, last in spans:
            tried["windows"] += 1
            window = day_window(first, last)
            try:
                found = source.scan(window).collect()
                misplaced = source.misplaced(window)
            except FeatureStoreError as error:
                rejected.append(error)
                continue
            tried["read"] += 1
            if damages:
                continue
            dtypes.add(tuple(sorted((name, str(dtype)) for name, dtype in found.schema.items())))
            amount = pl.col("amount") if "amount" in found.columns else pl.lit(None)
            note = pl.col("note") if "note" in found.columns else pl.lit(None)
            got = Counter(found.select("user_id", "event_timestamp", amount.alias("amount"), note.alias("note")).rows())
            wanted = sum((expected(drawn, day) for day in window.dates()), Counter())
            assert got == wanted
            for day in window.dates():
                lost = [
                    row
                    for file in drawn.files
                    for row in file.rows
                    if file.day == day and not belongs(file, row["event_timestamp"], drawn.stray_hours)
                ]
                assert (misplaced[day].count if day in misplaced else 0) == len(lost)
        assert damages or not rejected, rejected
        assert all(names_it(error, drawn) for error in rejected), rejected
        tried["rejected"] += len(rejected)
        # A function sees the same dtypes whatever window it is given.
        assert len(dtypes) <= 1
    tried["inputs"] += 1


def test_what_was_tried_is_shown() -> None:
    test_files_are_read_right_or_rejected_by_one_clear_error()
    print(f"hostile files: {dict(tried)}")  # noqa: T201  # what a longer run is for
    assert tried["inputs"] >= min(EXAMPLES, 20)
    assert tried["rejected"]
    assert tried["read"]
