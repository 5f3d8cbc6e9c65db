"""What the example's features describe."""

from __future__ import annotations

from feature_store.definitions.entity import Entity

PLANE = Entity("plane", {"tailnum": str}, "An aircraft, by its tail number (registration), such as N14228.")
ROUTE = Entity("route", {"carrier": str, "dest": str}, "A carrier's service from New York to one destination.")
AIRPORT = Entity("airport", {"origin": str}, "An airport of New York: EWR, JFK or LGA.")

ENTITIES = (PLANE, ROUTE, AIRPORT)
