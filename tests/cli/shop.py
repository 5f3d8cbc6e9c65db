"""A definitions module as a user writes it: two feature groups and a training set over customers' orders."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from feature_store.definitions.training_set import TrainingSet
from tests.orders import Orders, hourly_activity, some_orders
from tests.orders import spending as spending_over

ORDERS = Orders(some_orders())

spending = spending_over(ORDERS)
activity = hourly_activity(ORDERS)


def _labels() -> pl.LazyFrame:
    labels = pl.LazyFrame({"customer": ["c1", "c2", "nobody"], "churned": [True, False, True]})
    return labels.with_columns(event_timestamp=pl.lit(datetime(2024, 3, 8, tzinfo=UTC)))


churn = TrainingSet(name="churn", labels=_labels, features=["spending", "orders_1h"], owner="team@example.com")
