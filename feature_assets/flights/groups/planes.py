"""Features of a plane: how punctual it has been this week, and what it is."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_assets.flights.entities import PLANE
from feature_assets.flights.sources import AIRCRAFT_REGISTRY, FLIGHT_ARRIVALS
from feature_assets.flights.timeline import END
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature


class PlanePunctuality(FeatureSchema):
    """A plane's arrivals of the last seven days, its latest included."""

    arrivals_7d: int = feature(
        "Arrivals in the last 7 days, this one included (count).", nullable=False, ge=1, tags={"unit": "count"}
    )
    arr_delay_mean_7d: float = feature(
        "Mean arrival delay over the last 7 days (minutes; negative is early).",
        nullable=False,
        ge=-180,
        le=1_500,
        tags={"unit": "minutes"},
    )
    arr_delay_max_7d: int = feature(
        "Greatest arrival delay in the last 7 days (minutes; negative if every arrival was early).",
        nullable=False,
        ge=-180,
        le=1_500,
        tags={"unit": "minutes"},
    )
    late_share_7d: float = feature(
        "Share of the last 7 days' arrivals that were 15 or more minutes late (0 to 1).",
        nullable=False,
        ge=0,
        le=1,
        tags={"unit": "share"},
    )
    hours_flown_7d: float = feature(
        "Time in the air on flights that arrived in the last 7 days (hours).",
        nullable=False,
        gt=0,
        le=7 * 24,
        tags={"unit": "hours"},
    )
    minutes_since_last_arrival: int = feature(
        "Time since the plane's arrival before this one (minutes); null if there was none in the last 7 days.",
        gt=0,
        lt=7 * 24 * 60,
        tags={"unit": "minutes"},
    )


class PlaneProfile(FeatureSchema):
    """What the registry says of an aircraft."""

    manufacturer: str = feature("Manufacturer as registered, such as BOEING or AIRBUS INDUSTRIE.", nullable=False)
    model: str = feature("Model as registered, such as 737-824.", nullable=False)
    seats: int = feature(
        "Seats of the model (count, 2 to 450).", nullable=False, ge=1, le=1_000, tags={"unit": "count"}
    )
    year_built: int = feature(
        "Year of manufacture (1956 to 2013); null where the registry does not say.",
        ge=1_900,
        le=2_014,
        tags={"unit": "year"},
    )
    engines: int = feature("Engines (count, 1 to 4).", nullable=False, ge=1, le=8, tags={"unit": "count"})


@feature_group(
    entity=PLANE,
    source=FLIGHT_ARRIVALS,
    schema=PlanePunctuality,
    owner="flight-operations@example.com",
    end=END,
    lookback=timedelta(days=7),
    ttl=timedelta(days=7),
    freshness=timedelta(hours=36),
    tags={"domain": "flights", "topic": "punctuality"},
)
def plane_punctuality(events: pl.LazyFrame) -> pl.LazyFrame:
    """How punctual a plane has been over the last seven days, one row per arrival.

    Only flights from New York are known: a plane's other legs are not in the data.
    """
    week, late_minutes = timedelta(days=7), 15
    since_last = pl.col("event_timestamp").diff().over("tailnum")
    return (
        events.sort("tailnum", "event_timestamp")
        .rolling("event_timestamp", period=week, group_by="tailnum")
        .agg(
            pl.len().cast(pl.Int64).alias("arrivals_7d"),
            pl.col("arr_delay").sum().alias("delay"),
            pl.col("arr_delay").max().alias("arr_delay_max_7d"),
            (pl.col("arr_delay") >= late_minutes).sum().alias("late"),
            pl.col("air_time").sum().alias("minutes_flown"),
        )
        # Arrivals of one minute have the same window: one row stands for them.
        .unique(["tailnum", "event_timestamp"], keep="first", maintain_order=True)
        .select(
            "tailnum",
            "event_timestamp",
            "arrivals_7d",
            (pl.col("delay") / pl.col("arrivals_7d")).alias("arr_delay_mean_7d"),
            "arr_delay_max_7d",
            (pl.col("late") / pl.col("arrivals_7d")).alias("late_share_7d"),
            # Not divided by the literal 60: see the package on bit-exact arithmetic.
            (pl.col("minutes_flown") * (1 / 60)).alias("hours_flown_7d"),
            # A pass over a year sees arrivals of months ago, a pass over a day does not: neither may tell of them.
            pl.when(since_last < week).then(since_last.dt.total_minutes()).alias("minutes_since_last_arrival"),
        )
        .sort("tailnum", "event_timestamp")
    )


@feature_group(
    entity=PLANE,
    source=AIRCRAFT_REGISTRY,
    schema=PlaneProfile,
    owner="fleet-records@example.com",
    end=END,
    ttl=timedelta(days=400),
    freshness=timedelta(days=400),
    snapshot_every=timedelta(days=28),  # its look-backs are long, its changes few
    min_rows=0,  # an extract a year
    tags={"domain": "flights", "topic": "fleet"},
)
def plane_profile(events: pl.LazyFrame) -> pl.LazyFrame:
    """What a plane is, one row per registry extract.

    A time to live of 400 days lets a yearly extract come late. About one flight in seven is flown by a plane that the
    extract does not hold.
    """
    return events.select("tailnum", "event_timestamp", "manufacturer", "model", "seats", "year_built", "engines").sort(
        "tailnum", "event_timestamp"
    )
