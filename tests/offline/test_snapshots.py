"""A read that starts from a snapshot answers what a read of all history answers."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.dtypes import FLOAT, INT
from feature_store.engines import engine_named
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.snapshots import usable_snapshot, write_snapshots
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import PASS, USER, at, group, lay, metadata, rows

if TYPE_CHECKING:
    from datetime import datetime

pytestmark = pytest.mark.slow

DAY = 86_400
DAYS = 8
CLICKS = group("clicks_daily", USER, {"clicks": (FLOAT, 3 * DAY), "visits": (INT, 20 * DAY)})
SNAPSHOT_DAYS = [date(2024, 1, 3), date(2024, 1, 5), date(2024, 1, 7)]
WHOLE = Window(at(-100), at(100))
ENGINES = ["duckdb", "sweep"]

instants = st.builds(at, st.integers(0, DAYS - 1), st.sampled_from([0, 12]), st.sampled_from([0, 0, 1]))
drawn_rows = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "user_id": st.sampled_from(["u", "v"]),
                "event_timestamp": instants,
                "ingested_at": st.sampled_from([PASS, PASS + timedelta(days=1)]),
                "clicks": st.none() | st.sampled_from([0.5, 2.0]),
                "visits": st.none() | st.integers(0, 9),
            }
        ),
        st.sampled_from(["batch", "stream-0-17", "a-stream"]),
    ),
    max_size=40,
)


def write(store: OfflineStore, drawn: list[tuple[dict[str, Any], str]]) -> None:
    parts: dict[tuple[int, str], list[dict[str, Any]]] = {(day, "batch"): [] for day in range(DAYS)}
    for values, writer in drawn:
        parts.setdefault(((values["event_timestamp"] - at(0)).days, writer), []).append(values)
    for (day, writer), records in parts.items():
        frame = rows(CLICKS, records)
        if writer == "batch":
            lay(store, CLICKS, Window(at(day), at(day + 1)), frame)
        else:
            store.write_stream_file(CLICKS, at(day).date(), writer, frame, metadata=metadata())


def read(store: OfflineStore, first: int, engine: str) -> pl.DataFrame:
    times = [at(day, hours, micros) for day in range(first, DAYS + 3) for hours in (0, 12) for micros in (0, 1)]
    labels = pl.DataFrame(
        {"user_id": ["u", "v", "?"] * len(times), "t": [time for time in times for _ in range(3)]},
        schema_overrides={"t": pl.Datetime("us", "UTC")},
    )
    catalog = Catalog.of([CLICKS])
    return point_in_time_join(store, catalog, labels, "t", catalog.select(["clicks_daily"]), engine_named(engine))


def found(
    store: OfflineStore, first_label: datetime, of: RegisteredGroup = CLICKS, span: Window = WHOLE
) -> date | None:
    file = usable_snapshot(store, of, span, first_label)
    return file and file.date


@pytest.fixture
def store(tmp_path):
    store = OfflineStore(tmp_path)
    values = {"user_id": "u", "clicks": 1.0, "visits": 1}
    write(store, [({**values, "event_timestamp": at(day, 5)}, "batch") for day in range(DAYS)])
    return store


def test_snapshots_are_made_once_and_again_only_when_their_days_change(store):
    assert [(made.day, made.created) for made in write_snapshots(store, CLICKS, SNAPSHOT_DAYS)] == [
        (day, True) for day in SNAPSHOT_DAYS
    ]
    assert not any(made.created for made in write_snapshots(store, CLICKS, SNAPSHOT_DAYS))
    changed = rows(CLICKS, [{"user_id": "w", "event_timestamp": at(3, 1)}])
    store.write_stream_file(CLICKS, at(3).date(), "late", changed, metadata=metadata())
    again = list(write_snapshots(store, CLICKS, SNAPSHOT_DAYS))
    assert [(made.created, made.rows) for made in again] == [(False, 1), (True, 2), (True, 2)]


def test_a_snapshot_is_passed_over_where_it_does_not_stand_for_the_history(store):
    list(write_snapshots(store, CLICKS, SNAPSHOT_DAYS))
    assert found(store, at(6)) == date(2024, 1, 7)
    assert found(store, at(6, 0, -1)) == date(2024, 1, 5)
    assert found(store, at(1)) is None
    assert found(store, at(6), span=Window(at(6), at(9))) is None
    longer = replace(CLICKS, features=tuple(replace(one, online_ttl_seconds=99 * DAY) for one in CLICKS.features))
    assert found(store, at(6), of=longer) is None
    late = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(4, 1)}])
    store.write_stream_file(CLICKS, at(4).date(), "late", late, metadata=metadata())
    assert found(store, at(6)) == date(2024, 1, 5)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=25, deadline=None)
@given(drawn=drawn_rows, first=st.integers(2, DAYS))
def test_reads_from_a_snapshot_equal_reads_of_all_history(engine, drawn, first):
    with tempfile.TemporaryDirectory() as folder:
        store = OfflineStore(folder)
        write(store, drawn)
        before = read(store, first, engine)
        list(write_snapshots(store, CLICKS, SNAPSHOT_DAYS))
        assert found(store, at(first))
        assert_frame_equal(read(store, first, engine), before)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_read_opens_no_file_before_its_snapshot(store, engine):
    list(write_snapshots(store, CLICKS, SNAPSHOT_DAYS))
    expected = read(store, 6, engine)
    for file in store.files("clicks_daily"):
        if file.date < SNAPSHOT_DAYS[-1]:
            # Same name, size and time, so still the snapshot's inputs; but no Parquet any more.
            file.path.write_bytes(b"x" * file.size)
            os.utime(file.path, ns=(file.modified_ns, file.modified_ns))
    assert_frame_equal(read(store, 6, engine), expected)
