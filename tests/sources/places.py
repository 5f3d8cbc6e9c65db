"""The same events in every place that a source reads from."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from feature_store.sources import CsvSource, ParquetSource
from feature_store.sources.delta import DeltaSource
from feature_store.sources.iceberg import IcebergSource
from feature_store.sources.query import DuckDBSource, SqlSource
from feature_store.storage.location import open_location
from feature_store.storage.s3_path import S3Path

START = datetime(2024, 3, 1, tzinfo=UTC)
SCHEMA = {"customer": pl.String, "made_at": pl.Datetime("us", "UTC"), "amount": pl.Int64}


@dataclass
class Place:
    """A source, and how events get to where it reads.

    Attributes:
        source: The source.
        add: Adds events of one day.
        spoil: Removes or makes what holds a day's events unreadable; None where that cannot be done.
    """

    source: Any
    add: Callable[[pl.DataFrame], None]
    spoil: Callable[[int], None] | None = None


def _day(events: pl.DataFrame) -> str:
    return f"date={events['made_at'][0].date()}"


def folder(root: str | Path, *, kind: str) -> Place:
    place = open_location(root, setting="root")
    numbers = iter(range(1000))

    def put(path: Any, content: bytes) -> None:
        if isinstance(path, S3Path):
            path.put(content)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def add(events: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        named = events.rename({"made_at": "event_timestamp"})
        if kind == "csv":
            named.write_csv(buffer, datetime_format="%Y-%m-%dT%H:%M:%S%.f")
        else:
            named.write_parquet(buffer)
        put(place / _day(events) / f"{next(numbers):03}.{kind}", buffer.getvalue())

    def spoil(day: int) -> None:
        put(place / f"date=2024-03-{day:02}" / f"000.{kind}", b"spoiled")

    if kind == "csv":
        columns = {name if name != "made_at" else "event_timestamp": dtype for name, dtype in _instances().items()}
        return Place(CsvSource("orders", root, START, columns=columns), add, spoil)
    return Place(ParquetSource("orders", root, START), add, spoil)


def delta(root: str | Path) -> Place:
    source = DeltaSource(name="orders", table=str(root), start=START, time_column="made_at")
    place = open_location(root, setting="root")

    def add(events: pl.DataFrame) -> None:
        options = place.connection.object_store_options() if isinstance(place, S3Path) else None
        events.write_delta(str(place), mode="append", storage_options=options)

    def spoil(day: int) -> None:
        at = datetime(2024, 3, day, tzinfo=UTC).date()
        for file in source._files():
            if file.first.date() == at:
                (Path(root) / file.content).unlink()

    return Place(source, add, None if isinstance(place, S3Path) else spoil)


def iceberg(folder: Path) -> Place:
    from pyiceberg.catalog import load_catalog

    folder.mkdir()
    properties = {"type": "sql", "uri": f"sqlite:///{folder / 'catalog.db'}", "warehouse": f"file://{folder}"}
    catalog = load_catalog("default", **properties)
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.orders", schema=pl.DataFrame(schema=SCHEMA).to_arrow().schema)
    source = IcebergSource(
        name="orders", table="shop.orders", properties=properties, start=START, time_column="made_at"
    )

    def add(events: pl.DataFrame) -> None:
        table.append(events.to_arrow())

    def spoil(day: int) -> None:
        at = datetime(2024, 3, day, tzinfo=UTC).date()
        for file in source._files():
            if file.first.date() == at:
                Path(file.content.removeprefix("file://")).unlink()

    return Place(source, add, spoil)


def sql(url: str) -> Place:
    import psycopg

    os.environ["ORDERS_WAREHOUSE"] = url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (customer text, made_at timestamptz, amount bigint)")
        connection.execute("CREATE INDEX ON orders (made_at)")

    def add(events: pl.DataFrame) -> None:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s)", events.rows())

    source = SqlSource(
        name="orders",
        url_variable="ORDERS_WAREHOUSE",
        query="SELECT customer, made_at, amount FROM orders",
        start=START,
        time_column="made_at",
    )
    return Place(source, add)


def duckdb_file(path: Path) -> Place:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE orders (customer VARCHAR, made_at TIMESTAMPTZ, amount BIGINT)")

    def add(events: pl.DataFrame) -> None:
        with duckdb.connect(str(path)) as connection:
            connection.register("added", events.to_arrow())
            connection.execute("INSERT INTO orders SELECT customer, made_at, amount FROM added")

    query = "SELECT customer, made_at, amount FROM orders"
    return Place(DuckDBSource(name="orders", path=str(path), query=query, start=START, time_column="made_at"), add)


def _instances() -> dict[str, pl.DataType]:
    return dict(pl.DataFrame(schema=SCHEMA).schema)
