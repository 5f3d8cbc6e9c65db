"""The example's training sets: what is to be predicted, and when the prediction is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from feature_assets.flights.groups.airports import departure_profile, origin_weather
from feature_assets.flights.groups.planes import plane_profile, plane_punctuality
from feature_assets.flights.groups.routes import route_punctuality
from feature_assets.flights.sources import FLIGHT_ARRIVALS
from feature_store.day_windows import day_window
from feature_store.definitions.splits import split_by_time
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import MissingSourceError
from feature_store.partitions import Window
from feature_store.sources import ParquetSource

LATE_MINUTES = 15
"""From this arrival delay on, a flight counts as late."""

PREDICTED_AHEAD = timedelta(hours=2)
"""How long before its scheduled departure a flight's delay is predicted."""


def flight_delay_labels(arrivals: ParquetSource = FLIGHT_ARRIVALS) -> pl.LazyFrame:
    """Returns one label per flight that has arrived, of all days that have landed, sorted.

    Columns: `as_of` (UTC, two hours before the scheduled departure), the keys `tailnum`, `carrier`, `dest`, `origin`,
    the flight number `flight`, and the labels `late` (15 or more minutes, bool) and `arr_delay` (minutes, negative is
    early).

    Args:
        arrivals: The source of arrivals.

    Raises:
        MissingSourceError: If no day has landed, or one between the first and the last.
    """
    last_day = max(arrivals.landed_days(), default=None)
    if last_day is None:
        raise MissingSourceError(
            f"Source {arrivals.name!r} has not landed: there is no file below {arrivals.root}. Land its days first."
        )
    end = day_window(last_day).end
    return (
        arrivals.scan(Window(arrivals.start, end))
        .select(
            (pl.col("scheduled_departure") - PREDICTED_AHEAD).alias("as_of"),
            *("tailnum", "carrier", "dest", "origin", "flight"),
            (pl.col("arr_delay") >= LATE_MINUTES).alias("late"),
            "arr_delay",
        )
        .sort("as_of", "carrier", "flight", "origin", "dest", "tailnum")
    )


flight_delay = TrainingSet(
    name="flight_delay",
    labels=flight_delay_labels,
    features=[
        group.name for group in (plane_punctuality, route_punctuality, origin_weather, plane_profile, departure_profile)
    ],
    owner="flight-operations@example.com",
    as_of="as_of",
    # The gap is longer than a label takes to become known: no flight of one split is under way in the next.
    splits=split_by_time(
        {"train": datetime(2013, 9, 1, tzinfo=UTC), "validation": datetime(2013, 11, 1, tzinfo=UTC), "test": None},
        gap=timedelta(days=2),
    ),
    description="Will a flight arrive 15 or more minutes late? Predicted two hours before its scheduled departure.",
)
