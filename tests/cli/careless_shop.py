"""A definitions module with the mistakes that users make: `spending` knows the future, and changed its dtype."""

from __future__ import annotations

import polars as pl

from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from tests.orders import CUSTOMER, Orders, some_orders


class Spending(FeatureSchema):
    last_amount: float = feature("Amount of the next order, in cents")


@feature_group(entity=CUSTOMER, source=Orders(some_orders()), schema=Spending, owner="team@example.com")
def spending(events: pl.LazyFrame) -> pl.LazyFrame:
    """What a customer will spend."""
    upcoming = pl.col("amount").shift(-1).over("customer", order_by="event_timestamp")
    return events.select("customer", "event_timestamp", last_amount=upcoming.cast(pl.Float64))
