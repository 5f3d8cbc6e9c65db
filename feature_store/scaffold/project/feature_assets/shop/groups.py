"""Features of a customer: what was spent in the last days."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_assets.shop.entities import CUSTOMER
from feature_assets.shop.sources import PURCHASES
from feature_store import FeatureSchema, feature, feature_group


class CustomerSpending(FeatureSchema):
    """A customer's purchases of the last days, the latest included."""

    purchases_7d: int = feature("Purchases in the last 7 days, this one included (count).", nullable=False, ge=1)
    spent_1d: int = feature("Spent in the last 24 hours (cents).", nullable=False, ge=0)
    spent_7d: int = feature("Spent in the last 7 days (cents).", nullable=False, ge=0)


@feature_group(
    entity=CUSTOMER,
    source=PURCHASES,
    schema=CustomerSpending,
    owner="you@example.com",
    lookback=timedelta(days=7),  # how far before its day the function reads
    ttl=timedelta(days=7),  # how long a row is served after its event
)
def customer_spending(purchases: pl.LazyFrame) -> pl.LazyFrame:
    """What a customer has spent over the last day and week, one row per purchase."""
    is_of_last_day = pl.col("event_timestamp") > pl.col("event_timestamp").last() - timedelta(days=1)
    return (
        purchases.sort("customer", "event_timestamp")
        .rolling("event_timestamp", period="7d", group_by="customer")
        .agg(
            purchases_7d=pl.len().cast(pl.Int64),
            spent_1d=pl.col("amount").filter(is_of_last_day).sum(),
            spent_7d=pl.col("amount").sum(),
        )
        # Purchases of one instant have the same window: one row stands for them.
        .unique(["customer", "event_timestamp"], keep="first", maintain_order=True)
    )
