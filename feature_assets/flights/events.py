"""The raw rows as events in UTC: one frame per source, stamped with the instant at which each row became known.

Where the files come from is the business of `raw`, where events are landed that of `landing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache

import polars as pl

from feature_assets.flights import local_time, raw
from feature_assets.flights.timeline import START
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import MissingSourceError
from feature_store.frames import TIMESTAMP_TYPE

NEW_YORK = "America/New_York"

_ZONES_BESIDE_THE_FILE = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Zones of the four destinations that the airports file omits, those in Puerto Rico and the Virgin Islands.

Both keep Atlantic Standard Time all year: an hour ahead of New York in winter, the same in summer.
"""

_OBSERVATION_HOUR = timedelta(hours=1)


@cache
def flights_in_utc() -> pl.DataFrame:
    """Returns all scheduled flights with UTC instants beside the raw columns.

    Columns added, all UTC: `scheduled_departure` (the local clock reading in New York), `departure` (scheduled plus
    `dep_delay`; null if cancelled), `scheduled_arrival` (the first time after the scheduled departure that the
    destination's clocks show `sched_arr_time`) and `arrival` (scheduled plus `arr_delay`; null if cancelled or
    diverted).

    Raises:
        MissingSourceError: If a destination's time zone is unknown.
    """
    zones = pl.concat(
        [
            raw.airports().select(dest="faa", zone="tzone"),
            pl.DataFrame(
                {"dest": list(_ZONES_BESIDE_THE_FILE), "zone": list(_ZONES_BESIDE_THE_FILE.values())},
            ),
        ]
    )
    flights = (
        raw.flights()
        .with_columns(scheduled_departure=local_time.on_day("year", "month", "day", "sched_dep_time", NEW_YORK))
        .join(zones, on="dest", how="left", validate="m:1", maintain_order="left")
    )
    unknown = flights.filter(pl.col("zone").is_null())["dest"].unique().sort().to_list()
    if unknown:
        raise MissingSourceError(
            f"The time zone of the destination(s) {unknown} is unknown: add it to `_ZONES_BESIDE_THE_FILE`."
        )
    # One zone at a time: a conversion evaluated for rows of another zone would meet hours that do not exist there.
    dated = pl.concat(
        part.with_columns(scheduled_arrival=local_time.next_after("scheduled_departure", "sched_arr_time", str(zone)))
        for (zone,), part in flights.group_by("zone")
    )
    return dated.with_columns(
        departure=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay"),
        arrival=pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay"),
    ).sort("scheduled_departure", "carrier", "flight", "origin")


@cache
def flight_arrivals() -> pl.DataFrame:
    """Returns one event per flight that reached its destination, known when it arrived.

    Columns: `event_timestamp` (arrival at the gate, UTC), `tailnum`, `carrier`, `flight`, `origin`, `dest`,
    `scheduled_departure` and `scheduled_arrival` (UTC), `dep_delay`, `arr_delay` and `air_time` (minutes; delays are
    negative when early), `distance` (miles). Cancelled and diverted flights are absent.
    """
    return _in_order_of_time(
        flights_in_utc()
        .filter(pl.col("arrival").is_not_null())
        .select(
            pl.col("arrival").alias(EVENT_TIMESTAMP),
            *("tailnum", "carrier", "flight", "origin", "dest", "scheduled_departure", "scheduled_arrival"),
            *("dep_delay", "arr_delay", "air_time", "distance"),
        )
    )


@cache
def flight_departures() -> pl.DataFrame:
    """Returns one event per flight that left, known when it left, diverted flights included.

    Columns: `event_timestamp` (departure from the gate, UTC), `tailnum`, `carrier`, `flight`, `origin`, `dest`,
    `scheduled_departure` (UTC), `dep_delay` (minutes, negative when early), `distance` (miles).
    """
    return _in_order_of_time(
        flights_in_utc()
        .filter(pl.col("departure").is_not_null())
        .select(
            pl.col("departure").alias(EVENT_TIMESTAMP),
            *("tailnum", "carrier", "flight", "origin", "dest", "scheduled_departure", "dep_delay", "distance"),
        )
    )


@cache
def weather_observations() -> pl.DataFrame:
    """Returns one event per airport and observed hour, known when that hour is over.

    An hour's row carries its regular report, usually taken at minute 51, and the precipitation summed up to it. At
    the start of the hour none of this was known, so the event is the end of the hour.

    Columns: `event_timestamp` and `observed_hour` (UTC, an hour apart), `origin`, `temp` and `dewp` (degrees
    Fahrenheit), `humid` (percent), `wind_dir` (degrees), `wind_speed` and `wind_gust` (miles per hour), `precip`
    (inches), `pressure` (hectopascal), `visib` (miles), as recorded: impossible values are kept.
    """
    return _in_order_of_time(
        raw.weather().select(
            (pl.col("time_hour") + _OBSERVATION_HOUR).alias(EVENT_TIMESTAMP),
            pl.col("time_hour").alias("observed_hour"),
            *("origin", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"),
        )
    )


@cache
def aircraft_registry() -> pl.DataFrame:
    """Returns one event per registered aircraft, all known at the start of 2013.

    Columns: `event_timestamp` (2013-01-01T00:00Z, UTC), `tailnum`, `manufacturer`, `model`, `year_built`, `type`,
    `engines`, `seats`, `engine`.
    """
    return _in_order_of_time(
        raw.planes().select(
            pl.lit(START, dtype=TIMESTAMP_TYPE).alias(EVENT_TIMESTAMP),
            *("tailnum", "manufacturer", "model"),
            pl.col("year").alias("year_built"),
            *("type", "engines", "seats", "engine"),
        )
    )


EVENTS: Mapping[str, Callable[[], pl.DataFrame]] = {
    "flight_arrivals": flight_arrivals,
    "flight_departures": flight_departures,
    "weather_observations": weather_observations,
    "aircraft_registry": aircraft_registry,
}
"""Name of each source to the function that returns its events, sorted by time."""


def _in_order_of_time(events: pl.DataFrame) -> pl.DataFrame:
    """Returns the events in the one order that makes landed files the same bytes every time."""
    keys = [
        key
        for key in (EVENT_TIMESTAMP, "origin", "carrier", "flight", "tailnum", "scheduled_departure")
        if key in events.columns
    ]
    return events.sort(keys)
