"""What the project adds: a feature group over a table that one of its own assets writes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from feature_store import Entity, FeatureSchema, ParquetSource, feature, feature_group

CUSTOMER = Entity("customer", {"customer": str})
PURCHASES = ParquetSource("purchases", Path("lake").absolute(), start=datetime(2024, 3, 1, tzinfo=UTC))


class Spending(FeatureSchema):
    amount_2d: int = feature("Spent in two days (dollars)")


@feature_group(entity=CUSTOMER, source=PURCHASES, schema=Spending, owner="team@example.com", lookback=timedelta(days=2))
def spending(purchases: pl.LazyFrame) -> pl.LazyFrame:
    """What a customer spends."""
    return (
        purchases.sort("event_timestamp")
        .rolling("event_timestamp", period="2d", group_by="customer")
        .agg(amount_2d=pl.col("amount").sum())
    )
