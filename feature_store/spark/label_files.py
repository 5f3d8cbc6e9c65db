"""Labels in Parquet files, as Spark reads them: with times of nanoseconds, and of every writer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_store.errors import InvalidRequestError
from feature_store.spark.failures import reason_of
from feature_store.spark.frames import quoted, uri
from feature_store.storage.location import open_location, storage_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from feature_store.storage.location import Location

_FOOTERS_AT_ONCE = 32


def read_labels(session: SparkSession, labels: str | Path) -> DataFrame:
    """Returns labels with the columns of their files; times of nanoseconds become microseconds, rounded down.

    Args:
        session: Reads them.
        labels: Parquet file or folder.

    Raises:
        InvalidRequestError: If there are none, if a file cannot be read, or if files disagree on a column that holds
            nanoseconds.
    """
    from pyspark.errors import PySparkException

    nanos = _nanoseconds(labels)
    # Spark has no nanoseconds: it takes them for integers, on request.
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    try:
        given = session.read.parquet(uri(labels))
        if not nanos:
            return given
        return given.select(
            *(_micros(name, is_utc=nanos[name]) if name in nanos else given[quoted(name)] for name in given.columns)
        )
    except PySparkException as error:
        raise InvalidRequestError(f"The labels in {labels} cannot be read by Spark: {reason_of(error)}") from error


def _micros(name: str, *, is_utc: bool) -> Column:
    from pyspark.sql import functions as f

    # Exact, and rounded down before 1970, too: `/` would go by floats, and `div` towards zero.
    micros = f.expr(f"({quoted(name)} - pmod({quoted(name)}, 1000L)) div 1000L")
    return f.timestamp_micros(micros).cast("timestamp" if is_utc else "timestamp_ntz").alias(name)


def _nanoseconds(labels: str | Path) -> dict[str, bool]:
    """Returns the columns that hold nanoseconds: whether they are UTC, or naive."""
    place = open_location(labels, setting="labels")
    files = sorted(_files(place), key=str)
    if not files:
        raise InvalidRequestError(f"There are no Parquet files of labels in {labels}: name a file, or a folder.")
    schemas = storage_of(place).map(_nanos_of, files, at_once=_FOOTERS_AT_ONCE)
    found = {name: is_utc for _, nanos in schemas for name, is_utc in nanos.items()}
    for path, (columns, nanos) in zip(files, schemas, strict=True):
        other = sorted(found.keys() & columns - nanos.keys())
        if other:
            raise InvalidRequestError(
                f"Label column {other[0]!r} holds nanoseconds in some files, and something else in {path}: write all "
                "files alike."
            )
    return found


def _nanos_of(path: Location) -> tuple[set[str], dict[str, bool]]:
    """Returns the columns of a file, and those of nanoseconds: whether they are UTC."""
    try:
        schema = storage_of(path).footer(path).schema
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequestError(f"The file of labels {path} cannot be read as Parquet: {error}") from None
    columns = [schema.column(number) for number in range(len(schema))]
    nanos = {}
    for column in columns:
        kind = json.loads(column.logical_type.to_json())
        if kind["Type"] != "Timestamp" or kind["timeUnit"] != "nanoseconds":
            continue
        if column.path != column.name:
            raise InvalidRequestError(
                f"Label column {column.path!r} in {path} holds nanoseconds inside of another type, and Spark knows "
                "none there: write it with microseconds."
            )
        nanos[column.name] = bool(kind["isAdjustedToUTC"])
    return {column.path for column in columns}, nanos


def _files(place: Any) -> Iterator[Location]:
    """Yields the files that Spark takes for data."""
    if place.is_file():
        yield place
        return
    local = isinstance(place, Path)
    found = (path for path in place.rglob("*") if path.is_file()) if local else (path for path, _ in place.objects())
    for path in found:
        parts = path.relative_to(place).parts if local else path.relative_to(place).split("/")
        if not any(part.startswith(("_", ".")) for part in parts):
            yield path
