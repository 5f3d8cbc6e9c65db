"""Features of an airport of New York: its weather, and how its departures spread over the day."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_assets.flights.entities import AIRPORT
from feature_assets.flights.sources import FLIGHT_DEPARTURES, WEATHER_OBSERVATIONS
from feature_assets.flights.timeline import END
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import Embedding, FeatureSchema, feature


class OriginWeather(FeatureSchema):
    """One hour's weather."""

    temperature_f: float = feature(
        "Air temperature (degrees Fahrenheit); null where not recorded.",
        ge=-60,
        le=130,
        tags={"unit": "degF"},
        max_null_rate=0.2,
    )
    wind_speed_mph: float = feature(
        "Wind speed (miles per hour, 0 is calm); null where not recorded, and where above 200, faster than any wind "
        "on record at an airport.",
        ge=0,
        le=200,
        tags={"unit": "mph"},
        max_null_rate=0.2,
    )
    visibility_miles: float = feature(
        "Visibility (statute miles, 0 to 10: reports stop at 10).", nullable=False, ge=0, le=10, tags={"unit": "miles"}
    )
    precipitation_in: float = feature(
        "Precipitation of the hour (inches).", nullable=False, ge=0, le=12, tags={"unit": "inches"}
    )
    pressure_hpa: float = feature(
        "Air pressure at sea level (hectopascal); null where not recorded, about one hour in ten.",
        ge=870,
        le=1_085,
        tags={"unit": "hPa"},
        max_null_rate=0.7,
    )


class DepartureProfile(FeatureSchema):
    """How departures of the last 28 days spread over the hours of the day."""

    departures_28d: int = feature(
        "Departures in the last 28 days (count).", nullable=False, ge=1, tags={"unit": "count"}
    )
    dep_delay_mean_28d: float = feature(
        "Mean departure delay over the last 28 days (minutes; negative is early).",
        nullable=False,
        ge=-120,
        le=1_500,
        tags={"unit": "minutes"},
    )
    departures_by_hour_28d: Embedding = feature(
        "Share of the last 28 days' departures in each hour of the day, local time of New York, from midnight on "
        "(24 shares that sum to 1).",
        dimension=24,
        nullable=False,
        tags={"unit": "share"},
    )


@feature_group(
    entity=AIRPORT,
    source=WEATHER_OBSERVATIONS,
    schema=OriginWeather,
    owner="meteorology@example.com",
    end=END,
    ttl=timedelta(hours=3),
    freshness=timedelta(days=3),  # the file of observations ends a day before the flights do
    min_rows=0,  # the last partition has no weather: the file ends a day before the flights do
    tags={"domain": "flights", "topic": "weather"},
)
def origin_weather(events: pl.LazyFrame) -> pl.LazyFrame:
    """The weather at the airport, one row per observed hour, known when the hour is over.

    Three hours bridge a missing report or two; older weather says nothing about a departure.
    """
    wind, fastest_wind = pl.col("wind_speed"), 200
    return events.select(
        "origin",
        "event_timestamp",
        pl.col("temp").alias("temperature_f"),
        pl.when(wind <= fastest_wind).then(wind).alias("wind_speed_mph"),
        pl.col("visib").alias("visibility_miles"),
        pl.col("precip").alias("precipitation_in"),
        pl.col("pressure").alias("pressure_hpa"),
    ).sort("origin", "event_timestamp")


@feature_group(
    entity=AIRPORT,
    source=FLIGHT_DEPARTURES,
    schema=DepartureProfile,
    owner="airport-operations@example.com",
    end=END,
    lookback=timedelta(days=28),
    ttl=timedelta(days=2),
    freshness=timedelta(hours=36),
    tags={"domain": "flights", "topic": "traffic"},
)
def departure_profile(events: pl.LazyFrame) -> pl.LazyFrame:
    """How an airport's departures of the last 28 days spread over the day, one row per hour with departures.

    The row is that of the hour's first departure. The last one would be fresher, but which one is the last is known
    only later.
    """
    hours = [f"hour_{hour}" for hour in range(24)]
    local_hour = pl.col("event_timestamp").dt.convert_time_zone("America/New_York").dt.hour()
    return (
        events.sort("origin", "event_timestamp")
        .with_columns((local_hour == hour).cast(pl.Int64).alias(name) for hour, name in enumerate(hours))
        .rolling("event_timestamp", period=timedelta(days=28), group_by="origin")
        .agg(pl.len().cast(pl.Int64).alias("departures_28d"), pl.col("dep_delay", *hours).sum())
        .with_columns(pl.col("event_timestamp").dt.truncate("1h").alias("hour"))
        .unique(["origin", "hour"], keep="first", maintain_order=True)
        .select(
            "origin",
            "event_timestamp",
            "departures_28d",
            (pl.col("dep_delay") / pl.col("departures_28d")).alias("dep_delay_mean_28d"),
            pl.concat_arr((pl.col(hours) / pl.col("departures_28d")).cast(pl.Float32)).alias("departures_by_hour_28d"),
        )
        .sort("origin", "event_timestamp")
    )
