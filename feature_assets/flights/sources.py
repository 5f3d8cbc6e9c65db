"""Where the example's events lie: date-partitioned Parquet below one landing folder.

What is in them is the business of `events`, writing them that of `landing`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from feature_assets.flights.timeline import START
from feature_store.settings import embedded_folder
from feature_store.sources import ParquetSource


def landing_folder() -> Path:
    """Returns the folder below which each source has its own: `FLIGHTS_LANDING`, or one beside the embedded store."""
    configured = os.environ.get("FLIGHTS_LANDING")
    return Path(configured).resolve() if configured else embedded_folder().resolve() / "landing"


def _source(name: str, owner: str, description: str) -> ParquetSource:
    return ParquetSource(name, root=landing_folder() / name, start=START, description=description, owner=owner)


FLIGHT_ARRIVALS = _source(
    "flight_arrivals",
    "flight-operations@example.com",
    "Flights from New York that reached their destination, one event per arrival, known when it arrived.",
)
FLIGHT_DEPARTURES = _source(
    "flight_departures",
    "flight-operations@example.com",
    "Flights that left New York, one event per departure from the gate, known when it left.",
)
WEATHER_OBSERVATIONS = _source(
    "weather_observations",
    "meteorology@example.com",
    "Hourly weather at EWR, JFK and LGA, one event per airport and hour, known when the hour is over.",
)
AIRCRAFT_REGISTRY = _source(
    "aircraft_registry",
    "fleet-registry@example.com",
    "The registry's extract of the aircraft that fly from New York, taken as published on 2013-01-01.",
)

SOURCES: Mapping[str, ParquetSource] = {
    source.name: source for source in (FLIGHT_ARRIVALS, FLIGHT_DEPARTURES, WEATHER_OBSERVATIONS, AIRCRAFT_REGISTRY)
}
