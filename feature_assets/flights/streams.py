"""The example's events as streams: the same sources, message by message, keyed by what the features describe.

Arrivals come twice, keyed by plane and by route: a topic's key decides which events lie together, and a group needs all
events of an entity in one partition.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from feature_assets.flights.entities import AIRPORT, PLANE, ROUTE
from feature_assets.flights.sources import (
    AIRCRAFT_REGISTRY,
    FLIGHT_ARRIVALS,
    FLIGHT_DEPARTURES,
    WEATHER_OBSERVATIONS,
)
from feature_store.definitions.event_stream import EventStream


class Departure(msgspec.Struct):
    """A flight has left the gate; times in UTC, delays in minutes, distance in miles."""

    event_timestamp: datetime
    tailnum: str
    carrier: str
    flight: int
    origin: str
    dest: str
    scheduled_departure: datetime
    dep_delay: int
    distance: int


class Arrival(msgspec.Struct):
    """A flight has reached its destination; times in UTC, delays and time in the air in minutes, distance in miles."""

    event_timestamp: datetime
    tailnum: str
    carrier: str
    flight: int
    origin: str
    dest: str
    scheduled_departure: datetime
    scheduled_arrival: datetime
    dep_delay: int
    arr_delay: int
    air_time: int
    distance: int


class Observation(msgspec.Struct):
    """An hour's weather at an airport, known when the hour is over; units as in the source."""

    event_timestamp: datetime
    observed_hour: datetime
    origin: str
    temp: float | None
    dewp: float | None
    humid: float | None
    wind_dir: int | None
    wind_speed: float | None
    wind_gust: float | None
    precip: float
    pressure: float | None
    visib: float


class RegisteredAircraft(msgspec.Struct):
    """An aircraft as the registry has it."""

    event_timestamp: datetime
    tailnum: str
    manufacturer: str
    model: str
    year_built: int | None
    type: str
    engines: int
    seats: int
    engine: str


ARRIVALS_BY_PLANE = EventStream(FLIGHT_ARRIVALS, Arrival, PLANE, topic="flight-arrivals.by-plane")
ARRIVALS_BY_ROUTE = EventStream(FLIGHT_ARRIVALS, Arrival, ROUTE, topic="flight-arrivals.by-route")
DEPARTURES_BY_AIRPORT = EventStream(FLIGHT_DEPARTURES, Departure, AIRPORT, topic="flight-departures.by-airport")
WEATHER_BY_AIRPORT = EventStream(WEATHER_OBSERVATIONS, Observation, AIRPORT, topic="weather-observations.by-airport")
REGISTRY_BY_PLANE = EventStream(AIRCRAFT_REGISTRY, RegisteredAircraft, PLANE, topic="aircraft-registry.by-plane")

STREAMS = (ARRIVALS_BY_PLANE, ARRIVALS_BY_ROUTE, DEPARTURES_BY_AIRPORT, WEATHER_BY_AIRPORT, REGISTRY_BY_PLANE)
