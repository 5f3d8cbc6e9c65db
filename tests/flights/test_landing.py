"""Landing: a file for each day, the same bytes every time, and none touched that need not be."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from feature_assets.flights import FIRST_DAY, LAST_DAY, SOURCES, land
from feature_assets.flights.events import EVENTS
from feature_store.errors import InvalidRequestError
from feature_store.partitions import Window

FIRST, LAST = date(2013, 3, 9), date(2013, 3, 12)


def tree(folder):
    return {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_reads_back_what_was_landed(name, tmp_path):
    days = land(name, FIRST, LAST, folder=tmp_path)
    assert days == [FIRST + timedelta(days=offset) for offset in range(4)]
    source = dataclasses.replace(SOURCES[name], root=tmp_path)
    assert list(source.landed_days()) == days
    window = Window(datetime(2013, 3, 9, tzinfo=UTC), datetime(2013, 3, 13, tzinfo=UTC))
    events = EVENTS[name]().filter(
        pl.col("event_timestamp").is_between(window.start, window.end, closed="left"),
    )
    assert source.scan(window).collect().equals(events)


def test_landing_again_writes_nothing_and_fingerprints_stay(tmp_path):
    source = dataclasses.replace(SOURCES["flight_arrivals"], root=tmp_path)
    land("flight_arrivals", FIRST, LAST, folder=tmp_path)
    before = source.fingerprint(FIRST)
    assert land("flight_arrivals", FIRST, LAST, folder=tmp_path) == []
    assert source.fingerprint(FIRST) == before


def test_only_what_differs_is_written(tmp_path):
    land("flight_arrivals", FIRST, LAST, folder=tmp_path)
    whole = {name: path.read_bytes() for name, path in tree(tmp_path).items()}
    damaged = tmp_path / "date=2013-03-10" / "events.parquet"
    damaged.write_bytes(damaged.read_bytes()[:100])
    (tmp_path / "date=2013-03-11" / "events.parquet").unlink()
    assert land("flight_arrivals", FIRST, LAST, folder=tmp_path) == [date(2013, 3, 10), date(2013, 3, 11)]
    assert {name: path.read_bytes() for name, path in tree(tmp_path).items()} == whole


def test_bytes_depend_on_the_events_alone(tmp_path):
    land("flight_departures", FIRST, LAST, folder=tmp_path / "range")
    for offset in range(4):
        day = FIRST + timedelta(days=offset)
        land("flight_departures", day, day, folder=tmp_path / "days")
    by_range, by_days = tree(tmp_path / "range"), tree(tmp_path / "days")
    assert by_range.keys() == by_days.keys()
    assert all(by_range[name].read_bytes() == by_days[name].read_bytes() for name in by_range)


def test_a_day_without_events_lands_as_an_empty_file(tmp_path):
    land("aircraft_registry", FIRST_DAY, FIRST_DAY + timedelta(days=1), folder=tmp_path)
    full, empty = (pl.read_parquet(path) for path in sorted(tmp_path.rglob("*.parquet")))
    assert full.height == 3_322
    assert empty.height == 0
    assert empty.schema == full.schema


def test_the_last_day_holds_the_flights_of_new_years_eve(tmp_path):
    assert date(2014, 1, 1) == LAST_DAY
    land("flight_arrivals", LAST_DAY, LAST_DAY, folder=tmp_path)
    assert pl.read_parquet(tmp_path / "date=2014-01-01" / "events.parquet").height == 251


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    in_the_way = tmp_path / "date=2013-03-09" / "events.parquet"
    in_the_way.mkdir(parents=True)
    with pytest.raises(OSError, match=r"events\.parquet"):
        land("flight_arrivals", FIRST, FIRST, folder=tmp_path)
    assert list(in_the_way.parent.iterdir()) == [in_the_way]


@pytest.mark.parametrize(
    ("source", "first", "last", "message"),
    [
        ("flight_arival", FIRST, LAST, "There is no source 'flight_arival'.*flight_arrivals"),
        ("flight_arrivals", LAST, FIRST, "cannot land 2013-03-12..2013-03-09"),
        ("flight_arrivals", date(2012, 12, 31), LAST, "from 2013-01-01 to 2014-01-01"),
        ("flight_arrivals", FIRST, date(2014, 1, 2), "from 2013-01-01 to 2014-01-01"),
    ],
)
def test_what_cannot_be_landed_is_refused(source, first, last, message, tmp_path):
    with pytest.raises(InvalidRequestError, match=message):
        land(source, first, last, folder=tmp_path)
    assert not tree(tmp_path)
