"""The shop with a second training set: every customer, every day, in daily partitions."""

from __future__ import annotations

from feature_store.definitions.splits import split_by_entity
from feature_store.definitions.training_set import TrainingSet, every_entity
from feature_store.partitions import Partitioning
from tests.cli.shop import activity, churn, spending
from tests.orders import CUSTOMER, START

__all__ = ["activity", "churn", "daily_customers", "spending"]

daily_customers = TrainingSet(
    name="daily_customers",
    labels=every_entity(spending, start=START),
    features=["spending"],
    owner="team@example.com",
    splits=split_by_entity(CUSTOMER, {"train": 0.6, "test": 0.4}),
    partitioning=Partitioning.DAILY,
    start=START,
)
