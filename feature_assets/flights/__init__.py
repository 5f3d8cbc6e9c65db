"""The example domain: a year of flights from New York, as sources, feature groups and a training set.

Everything that a user of the library writes is here, and nothing of the orchestrator: a team swaps this package for
its own. `docs/flights.md` tells what the data is and how its oddities are treated.
"""

from __future__ import annotations

from feature_assets.flights.entities import AIRPORT, ENTITIES, PLANE, ROUTE
from feature_assets.flights.groups.airports import departure_profile, origin_weather
from feature_assets.flights.groups.planes import plane_profile, plane_punctuality
from feature_assets.flights.groups.routes import route_punctuality
from feature_assets.flights.landing import FIRST_DAY, LAST_DAY, land
from feature_assets.flights.sources import SOURCES
from feature_assets.flights.streams import (
    ARRIVALS_BY_PLANE,
    ARRIVALS_BY_ROUTE,
    DEPARTURES_BY_AIRPORT,
    REGISTRY_BY_PLANE,
    STREAMS,
    WEATHER_BY_AIRPORT,
)
from feature_assets.flights.timeline import END, REPLAY_END, START
from feature_assets.flights.training_sets import flight_delay

FEATURE_GROUPS = (plane_punctuality, route_punctuality, origin_weather, plane_profile, departure_profile)
TRAINING_SETS = (flight_delay,)

__all__ = [
    "AIRPORT",
    "ARRIVALS_BY_PLANE",
    "ARRIVALS_BY_ROUTE",
    "DEPARTURES_BY_AIRPORT",
    "END",
    "ENTITIES",
    "FEATURE_GROUPS",
    "FIRST_DAY",
    "LAST_DAY",
    "PLANE",
    "REGISTRY_BY_PLANE",
    "REPLAY_END",
    "ROUTE",
    "SOURCES",
    "START",
    "STREAMS",
    "TRAINING_SETS",
    "WEATHER_BY_AIRPORT",
    "departure_profile",
    "flight_delay",
    "land",
    "origin_weather",
    "plane_profile",
    "plane_punctuality",
    "route_punctuality",
]
