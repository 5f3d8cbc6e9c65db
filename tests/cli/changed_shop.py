"""The shop after the orders of March 6th were corrected."""

from __future__ import annotations

import polars as pl

from tests.cli.training_shop import activity, churn, daily_customers
from tests.orders import Orders, some_orders
from tests.orders import spending as spending_over

__all__ = ["activity", "churn", "daily_customers", "spending"]

_AMOUNT = pl.when(pl.col("event_timestamp").dt.day() == 6).then(1).otherwise("amount")

spending = spending_over(Orders(some_orders().with_columns(amount=_AMOUNT)))
