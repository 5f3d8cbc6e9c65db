"""Features of a route: how punctual a carrier has been on its way to a destination."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_assets.flights.entities import ROUTE
from feature_assets.flights.sources import FLIGHT_ARRIVALS
from feature_assets.flights.timeline import END
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature


class RoutePunctuality(FeatureSchema):
    """A route's arrivals of the last 28 days, its latest included."""

    route_arrivals_28d: int = feature(
        "Arrivals in the last 28 days, this one included (count).", nullable=False, ge=1, tags={"unit": "count"}
    )
    route_arr_delay_mean_28d: float = feature(
        "Mean arrival delay over the last 28 days (minutes; negative is early).",
        nullable=False,
        ge=-180,
        le=1_500,
        tags={"unit": "minutes"},
    )
    route_late_share_28d: float = feature(
        "Share of the last 28 days' arrivals that were 15 or more minutes late (0 to 1).",
        nullable=False,
        ge=0,
        le=1,
        tags={"unit": "share"},
    )
    route_arr_delay_p90_28d: int = feature(
        "The 90th percentile of arrival delays over the last 28 days, rounded up to an observed delay "
        "(minutes; negative is early).",
        nullable=False,
        ge=-180,
        le=1_500,
        tags={"unit": "minutes"},
    )


@feature_group(
    entity=ROUTE,
    source=FLIGHT_ARRIVALS,
    schema=RoutePunctuality,
    owner="route-planning@example.com",
    end=END,
    lookback=timedelta(days=28),
    ttl=timedelta(days=28),
    freshness=timedelta(hours=36),
    tags={"domain": "flights", "topic": "punctuality"},
)
def route_punctuality(events: pl.LazyFrame) -> pl.LazyFrame:
    """How punctual a carrier has been to a destination over the last 28 days, one row per arrival.

    Four weeks hold every day of the week four times. The carrier's flights from all three airports count.
    """
    late_minutes = 15
    return (
        events.sort("carrier", "dest", "event_timestamp")
        .rolling("event_timestamp", period=timedelta(days=28), group_by=["carrier", "dest"])
        .agg(
            pl.len().cast(pl.Int64).alias("route_arrivals_28d"),
            pl.col("arr_delay").sum().alias("delay"),
            (pl.col("arr_delay") >= late_minutes).sum().alias("late"),
            # An observed value, not one between two: integers stay integers.
            pl.col("arr_delay").quantile(0.9, interpolation="higher").cast(pl.Int64).alias("route_arr_delay_p90_28d"),
        )
        # Arrivals of one minute have the same window: one row stands for them.
        .unique(["carrier", "dest", "event_timestamp"], keep="first", maintain_order=True)
        .select(
            "carrier",
            "dest",
            "event_timestamp",
            "route_arrivals_28d",
            (pl.col("delay") / pl.col("route_arrivals_28d")).alias("route_arr_delay_mean_28d"),
            (pl.col("late") / pl.col("route_arrivals_28d")).alias("route_late_share_28d"),
            "route_arr_delay_p90_28d",
        )
        .sort("carrier", "dest", "event_timestamp")
    )
