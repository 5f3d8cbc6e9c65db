"""A small domain for tests: customers' orders, as a source in memory and feature groups over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from feature_store.day_windows import day_window
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature, window
from feature_store.definitions.window_functions import age, count, last, mean, total
from feature_store.errors import MissingSourceError
from feature_store.frame_fingerprint import fingerprint
from feature_store.partitions import Partitioning, Window

START = datetime(2024, 3, 1, tzinfo=UTC)
EVENT_SCHEMA = {"customer": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "amount": pl.Int64}


@dataclass
class Orders:
    """A source over a frame: every day up to `landed` has landed."""

    events: pl.DataFrame
    landed: date = date(2024, 3, 9)
    name: str = "orders"
    start: datetime = START
    scans: list[Window] = field(default_factory=list)

    def scan(self, window: Window) -> pl.LazyFrame:
        self.scans.append(window)
        if window.end > day_window(self.landed).end:
            raise MissingSourceError(f"Source {self.name!r} has landed up to {self.landed} only.")
        time = pl.col("event_timestamp")
        return self.events.lazy().filter(time.is_between(window.start, window.end, closed="left"))

    def fingerprint(self, day: date) -> str | None:
        if day > self.landed:
            return None
        window = day_window(day)
        rows = self.events.filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))
        return fingerprint(rows)

    def landed_days(self) -> Iterator[date]:
        day = self.start.date()
        while day <= self.landed:
            yield day
            day += timedelta(days=1)


def orders(*rows: tuple[str, datetime, int | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")


def some_orders(days: int = 9, customers: int = 5) -> pl.DataFrame:
    rows = [
        (f"c{customer}", START + timedelta(days=day, hours=3 * customer, minutes=day), 10 * customer + day)
        for day in range(days)
        for customer in range(customers)
        if (day + customer) % 4
    ]
    return orders(*rows)


CUSTOMER = Entity("customer", {"customer": str}, "A customer.")


class Spending(FeatureSchema):
    orders_3d: int = feature("Orders in the last 3 days", ge=1, nullable=False)
    amount_3d: int = feature("Amount of the orders in the last 3 days, in cents", ttl=timedelta(days=5))
    last_amount: int = feature("Amount of the order, in cents", le=1000, ttl=timedelta(days=30), max_null_rate=0.5)


def spending(source: Orders, **arguments: object) -> FeatureGroup:
    """Returns the group `spending` over a source."""

    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Spending,
        owner="team@example.com",
        lookback=timedelta(days=3),
        ttl=timedelta(days=2),
        **arguments,  # type: ignore[arg-type]
    )
    def spending(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        return (
            events.sort("event_timestamp")
            .rolling("event_timestamp", period="3d", group_by="customer")
            .agg(
                pl.len().cast(pl.Int64).alias("orders_3d"),
                pl.col("amount").sum().alias("amount_3d"),
                pl.col("amount").last().alias("last_amount"),
            )
        )

    return spending


class Activity(FeatureSchema):
    orders_1h: int = feature("Orders in the last hour", ge=1)


def hourly_activity(source: Orders) -> FeatureGroup:
    """Returns a group that is partitioned by hour."""

    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Activity,
        owner="team@example.com",
        lookback=timedelta(hours=1),
        partitioning=Partitioning.HOURLY,
        min_rows=0,
    )
    def activity(events: pl.LazyFrame) -> pl.LazyFrame:
        """How busy a customer is."""
        return (
            events.sort("event_timestamp")
            .rolling("event_timestamp", period="1h", group_by="customer")
            .agg(pl.len().cast(pl.Int64).alias("orders_1h"))
        )

    return activity


class Habits(FeatureSchema):
    orders_12h: int = window("Orders of 12 hours (count).", count(), "12h")
    amount_7d: int = window("Amount of 7 days (cents).", total("amount"), "7d")
    mean_amount_7d: float = window("Mean amount of 7 days (cents).", mean("amount"), "7d")
    last_amounts: list[int] = window("Amounts of the last two orders (cents).", last("amount", 2), "28d")
    large_orders_ever: int = window("Orders above 20 cents (count).", count(), None, where=pl.col("amount") > 20)
    hours_since_order: float = window("Time since the last order (hours).", age(unit="hours"), "28d")


def habits(source: Orders, **arguments: object) -> FeatureGroup:
    """Returns a group of windows over a source."""

    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Habits,
        owner="team@example.com",
        **arguments,  # type: ignore[arg-type]
    )
    def habits(events: pl.LazyFrame) -> pl.LazyFrame:
        """How a customer orders."""
        return events.select("customer", "event_timestamp", "amount")

    return habits
