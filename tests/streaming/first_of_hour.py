"""A group whose rows a late event can undo: one row per customer and hour, at the hour's first order."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from tests.orders import CUSTOMER, Orders


class FirstOrders(FeatureSchema):
    first_amount: int = feature("Amount of the orders that came first in the hour, in cents")


def first_orders(source: Orders, name: str) -> FeatureGroup:
    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=FirstOrders,
        owner="team@example.com",
        lookback=timedelta(hours=6),
        ttl=timedelta(days=3),
        name=name,
    )
    def first(events: pl.LazyFrame) -> pl.LazyFrame:
        """The first order of every six hours."""
        span = pl.col("event_timestamp").dt.truncate("6h")
        first = pl.col("event_timestamp").min().over("customer", span)
        return (
            events.filter(pl.col("event_timestamp") == first)
            .group_by("customer", "event_timestamp")
            .agg(pl.col("amount").sum().alias("first_amount"))
        )

    return first
