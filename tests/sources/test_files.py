"""Files in date folders: which days have landed, which columns arrive, and what is said of what cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import (
    CsvSource,
    DefinitionError,
    FeatureStore,
    FixedClock,
    InvalidRowsError,
    InvalidSourceError,
    JsonSource,
    MissingSourceError,
    ParquetSource,
)
from feature_store.definitions.source import fingerprints
from feature_store.partitions import Partitioning
from tests.orders import EVENT_SCHEMA, spending

START = datetime(2024, 3, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
COLUMNS = {"customer": pl.String, "event_timestamp": TIME, "amount": pl.Int64}


def hour(number: int, of_day: int = 1) -> datetime:
    return datetime(2024, 3, of_day, tzinfo=UTC) + timedelta(hours=number)


def put(root: Path, day: int, content: str | bytes | pl.DataFrame | pa.Table, name: str = "a.parquet") -> Path:
    path = root / f"date=2024-03-{day:02}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def orders(*rows: tuple[str, datetime | None, int | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")


def read(source, first: int, last: int | None = None) -> pl.DataFrame:
    span = Partitioning.DAILY.span(f"2024-03-{first:02}", f"2024-03-{last or first:02}")
    return source.scan(span).sort("event_timestamp").collect()


def test_a_function_sees_the_same_columns_whatever_window_it_is_given(tmp_path):
    source = ParquetSource("orders", tmp_path, START)
    time = pa.array([hour(1)], pa.timestamp("us", "UTC"))
    put(tmp_path, 1, pa.table({"event_timestamp": time, "n": pa.array([1], pa.int8()), "note": pa.nulls(1)}))
    time = pa.array([hour(1, 2).replace(tzinfo=None)], pa.timestamp("ns"))
    put(tmp_path, 2, pa.table({"event_timestamp": time, "n": pa.array([0.5], pa.float32()), "new": pa.array(["x"])}))
    put(tmp_path, 3, pl.DataFrame({"event_timestamp": ["2024-03-03T02:00:00+01:00"], "note": ["text"]}))
    schema = {"event_timestamp": TIME, "n": pl.Float64(), "note": pl.String(), "new": pl.String()}
    for day in (1, 2, 3):
        found = read(source, day)
        assert dict(found.schema) == schema
        assert found["event_timestamp"].to_list() == [hour(1, day)]
    assert read(source, 1, 3).rows() == [row for day in (1, 2, 3) for row in read(source, day).rows()]


def test_what_does_not_fit_together_is_rejected_by_name_and_stops_no_other_day(tmp_path):
    source = ParquetSource("orders", tmp_path, START)
    put(tmp_path, 1, pl.DataFrame({"event_timestamp": [hour(1)], "amount": [1]}))
    put(tmp_path, 2, pl.DataFrame({"event_timestamp": [hour(1, 2)], "amount": ["much"]}))
    assert read(source, 1)["amount"].to_list() == [1]
    assert read(source, 2)["amount"].to_list() == ["much"]
    with pytest.raises(InvalidSourceError, match=r"'amount' holds Int64 in .*03-01.* and String in .*03-02.*columns"):
        read(source, 1, 2)
    pinned = ParquetSource("orders", tmp_path, START, columns={"amount": pl.Int64})
    assert read(pinned, 1)["amount"].to_list() == [1]
    with pytest.raises(InvalidSourceError, match=r"03-02/a\.parquet: row 1, column 'amount': 'much'"):
        read(pinned, 1, 2)


def test_whole_numbers_that_no_float_holds_are_not_rounded(tmp_path):
    put(tmp_path, 1, pl.DataFrame({"event_timestamp": [hour(1)], "id": [2**53 + 1]}))
    put(tmp_path, 2, pl.DataFrame({"event_timestamp": [hour(1, 2)], "id": [1.5]}))
    source = ParquetSource("orders", tmp_path, START)
    with pytest.raises(InvalidSourceError, match=r"03-01/a\.parquet: row 1, column 'id': 9007199254740993"):
        read(source, 1, 2)


def test_half_written_files_have_not_landed(tmp_path, caplog):
    source = ParquetSource("orders", tmp_path, START)
    whole = put(tmp_path, 1, orders(("c", hour(1), 1)))
    put(tmp_path, 2, whole.read_bytes()[:-7])
    put(tmp_path, 3, b"")
    put(tmp_path, 4, orders(("c", hour(1, 4), 4)), "_a.parquet")
    (tmp_path / "date=2024-03-05").symlink_to(tmp_path / "nowhere")
    (tmp_path / "date=2024-03-06").write_text("a file")
    (tmp_path / "date=2024-03-01" / "dangling.parquet").symlink_to("nowhere")
    (tmp_path / "date=2024-03-01" / "folder.parquet").mkdir()
    (tmp_path / "_temporary").mkdir()
    assert list(fingerprints(source)) == [date(2024, 3, 1)]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "_temporary" in told[0]
    assert "date=2024-03-02/a.parquet (not whole" in told[0]
    fingerprints(source)
    assert len(caplog.records) == 1, "it is reported once"
    with pytest.raises(MissingSourceError, match=r"date=2024-03-02/a\.parquet \(not whole"):
        read(source, 2)


def test_a_text_file_that_was_just_written_to_is_at_rest_later(tmp_path):
    source = CsvSource("orders", tmp_path, START, columns=COLUMNS)
    path = put(tmp_path, 1, "customer,event_timestamp,amount\nc,2024-03-01T01:00:00Z,1\n", "a.csv")
    assert fingerprints(source)
    assert not fingerprints(source, at_rest=True)
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    assert fingerprints(source, at_rest=True) == fingerprints(source)


def test_a_file_of_the_same_size_and_time_changes_its_day(tmp_path):
    source = CsvSource("orders", tmp_path, START, columns=COLUMNS)
    path = put(tmp_path, 1, "customer,event_timestamp,amount\nc,2024-03-01T01:00:00Z,1\n", "a.csv")
    put(tmp_path, 2, "customer,event_timestamp,amount\n", "a.csv")
    before, stat = fingerprints(source), path.stat()
    path.write_text(path.read_text().replace(",1\n", ",2\n"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = fingerprints(source)
    assert [day for day in after if after[day] != before[day]] == [date(2024, 3, 1)]


def test_events_that_stray_are_found_and_change_the_days_that_they_can_lie_in(tmp_path):
    by_local_day = ParquetSource("orders", tmp_path, START, max_stray=timedelta(hours=14))
    strict = ParquetSource("orders", tmp_path, START)
    put(tmp_path, 1, orders(("a", hour(1), 1), ("b", hour(30), 2)))
    for day in (2, 3, 4):
        put(tmp_path, day, orders(("c", hour(5, day), day)))
    assert read(by_local_day, 2)["customer"].to_list() == ["c", "b"]
    for source in (by_local_day, strict):
        assert read(source, 1, 3).rows() == [row for day in (1, 2, 3) for row in read(source, day).rows()]
    [misplaced] = strict.misplaced(Partitioning.DAILY.span("2024-03-01", "2024-03-04")).values()
    assert (misplaced.events, misplaced.elsewhere, misplaced.without_time) == (2, 1, 0)
    assert not by_local_day.misplaced(Partitioning.DAILY.span("2024-03-01", "2024-03-04"))
    before = fingerprints(by_local_day)
    put(tmp_path, 4, orders(("d", hour(1, 4), 4)), "b.parquet")
    after = fingerprints(by_local_day)
    assert [day.day for day in after if after[day] != before[day]] == [3, 4]
    assert all(by_local_day.fingerprint(day) == text for day, text in after.items())


@pytest.fixture
def store(tmp_path, redis_url):
    clock = FixedClock(hour(0, 9))
    registry = f"sqlite:///{tmp_path}/registry.db"
    with FeatureStore(offline=str(tmp_path / "offline"), online=redis_url, registry=registry, clock=clock) as opened:
        yield opened


def test_misplaced_events_are_counted_or_their_day_is_rejected(tmp_path, store):
    root = tmp_path / "landing"
    good = [(f"c{number}", hour(1), number) for number in range(400)]
    put(root, 1, orders(*good, ("lost", None, 1), ("late", datetime(9999, 12, 31, tzinfo=UTC), 1)))
    put(root, 2, orders(("c", hour(1, 2), 1), ("zero", datetime(1970, 1, 1, tzinfo=UTC), 1)))
    put(root, 3, orders(("c", hour(1, 3), 1)))
    group = spending(ParquetSource("orders", root, START))
    store.apply([group])
    with pytest.raises(InvalidRowsError, match=r"2024-03-02.*\n.*of 2 events 0 have no time and 1.*1970-01-01"):
        store.materialize(group, "2024-03-01", "2024-03-03")
    report = store.materialize(group, "2024-03-01")
    assert report.misplaced == 2
    assert "2 misplaced events left out" in str(report)
    assert report.partitions[0].misplaced.without_time == 1


def test_json_lines(tmp_path):
    declared = JsonSource("orders", tmp_path, START, columns=COLUMNS)
    loose = JsonSource("orders", tmp_path, START)
    one = {"event_timestamp": "2024-03-01T01:00:00Z", "customer": "a", "amount": 1}
    two = {"amount": 2.0, "event_timestamp": "2024-03-02 01:00:00", "tags": ["x"], "customer": None}
    put(tmp_path, 1, json.dumps(one), "a.jsonl")
    put(tmp_path, 2, gzip.compress(b"\n" + json.dumps(two).encode() + b"\r\n\n"), "a.ndjson.gz")
    assert read(declared, 1, 2).rows() == [("a", hour(1), 1), (None, hour(1, 2), 2)]
    assert read(loose, 1).schema == read(loose, 1, 2).schema
    assert read(loose, 1, 2)["amount"].to_list() == [1.0, 2.0]
    assert read(loose, 1, 2)["tags"].to_list() == [None, ["x"]]
    for number, (line, message) in enumerate(
        [
            ('{"event_timestamp": "2024-03-03T01:00:00Z", "amount": "much"}', "column 'amount': 'much' is no Int64"),
            ('{"event_timestamp": "2024-03-03T01:00:00Z", "amount": 1.5}', "column 'amount': 1.5 is no Int64"),
            ('{"event_timestamp": "yesterday"}', "column 'event_timestamp': 'yesterday' is no Datetime"),
            ('{"event_timestamp": ', "it is no JSON"),
            ("[1, 2]", "it holds no object"),
        ]
    ):
        put(tmp_path, 3, f'\n{{"event_timestamp": "2024-03-03T00:00:00Z"}}\n{line}\n', f"{number}.json")
        with pytest.raises(InvalidSourceError, match=rf"{number}\.json: line 3: ") as failed:
            read(declared, 3)
        assert message in str(failed.value)
        (tmp_path / "date=2024-03-03" / f"{number}.json").unlink()


def test_csv_as_others_write_it(tmp_path):
    source = CsvSource("orders", tmp_path, START, columns={**COLUMNS, "note": pl.String, "gone": pl.Boolean})
    put(
        tmp_path,
        1,
        '\ufeffamount, note ,event_timestamp,customer\r\n1,"a\nb,""c""",2024-03-01T01:00:00Z,x\r\n,"",2024-03-01,y\r\n',
        "a.csv",
    )
    put(tmp_path, 2, gzip.compress(b"event_timestamp,gone\n2024-03-02 01:00:00.5+01:00,True\n"), "a.csv.gz")
    put(tmp_path, 3, "customer,event_timestamp\n", "a.csv")
    put(tmp_path, 4, "\n", "a.csv")
    assert read(source, 1, 4).select("customer", "event_timestamp", "amount", "note", "gone").rows() == [
        ("y", hour(0), None, "", None),
        ("x", hour(1), 1, 'a\nb,"c"', None),
        (None, hour(0, 2) + timedelta(milliseconds=500), None, None, True),
    ]
    header = 'customer,event_timestamp,note\n"a\nb",2024-03-05,x\n'
    for number, (line, message) in enumerate(
        [
            ("b,2024-03-05", r"line 4: 2 fields, where the header has 3"),
            ("b,2024-03-05,x,y", r"line 4: 4 fields"),
            ("b,05/03/2024,x", r"line 4: column 'event_timestamp': '05/03/2024' is no Datetime"),
            (b"b,2024-03-05,\xff\xfe", r"line 4: it holds bytes that are no UTF-8"),
        ]
    ):
        put(tmp_path, 5, header.encode() + (line if isinstance(line, bytes) else line.encode()), f"{number}.csv")
        with pytest.raises(InvalidSourceError, match=rf"{number}\.csv: {message}"):
            read(source, 5)
        (tmp_path / "date=2024-03-05" / f"{number}.csv").unlink()
    put(tmp_path, 5, "customer,when\nc,2024-03-05\n", "a.csv")
    with pytest.raises(InvalidSourceError, match=r"a\.csv: .*no column 'event_timestamp', only \['customer', 'when'\]"):
        read(source, 5)
    with pytest.raises(DefinitionError, match="declares no columns"):
        CsvSource("orders", tmp_path, START)
