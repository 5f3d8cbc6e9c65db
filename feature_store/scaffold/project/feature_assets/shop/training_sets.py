"""What is to be predicted, and when the prediction is made."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_assets.shop.groups import customer_spending
from feature_assets.shop.sources import PURCHASES
from feature_store import TrainingSet
from feature_store.partitions import Window

WITHIN = timedelta(days=3)


def buys_again_labels() -> pl.LazyFrame:
    """Returns one label per purchase: whether the customer buys again within three days.

    Columns: `event_timestamp` (UTC, of the purchase: then the prediction is made), `customer`, `bought_again`.
    Purchases of the last three days have no label yet.
    """
    last_day = max(PURCHASES.landed_days())
    end = PURCHASES.start + timedelta(days=(last_day - PURCHASES.start.date()).days + 1)
    return (
        PURCHASES.scan(Window(PURCHASES.start, end))
        .unique(["customer", "event_timestamp"])
        .sort("customer", "event_timestamp")
        .with_columns(next=pl.col("event_timestamp").shift(-1).over("customer"))
        .filter(pl.col("event_timestamp") <= end - WITHIN)
        .select(
            "event_timestamp",
            "customer",
            bought_again=(pl.col("next") - pl.col("event_timestamp") <= WITHIN).fill_null(value=False),
        )
        .sort("event_timestamp", "customer")
    )


buys_again = TrainingSet(
    name="buys_again",
    labels=buys_again_labels,
    features=[customer_spending.name],  # a group's name stands for all of its features
    owner="you@example.com",
    description="Will a customer buy again within three days? Predicted at each purchase.",
)
