"""The code location of a small shop, in files. How many features it has, and where all lies, the environment says."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import polars as pl

from dagster_feature_store import feature_store_definitions
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.training_set import TrainingSet
from feature_store.sources import ParquetSource

if TYPE_CHECKING:
    from collections.abc import Mapping

START = datetime(2024, 3, 1, tzinfo=UTC)
MOST_CENTS = 1000
CUSTOMER = Entity("customer", {"customer": str}, "A customer.")


def groups(landing: Path, features: int) -> list[FeatureGroup]:
    """Returns the shop's feature groups.

    Args:
        landing: Where its two sources land, below a folder each.
        features: How many features `spending` has.
    """
    orders, visits = (ParquetSource(name, root=landing / name, start=START) for name in ("orders", "visits"))
    columns: dict[str, object] = {
        f"amount_{days}d": feature(f"Cents of {days} days") for days in range(1, features + 1)
    }
    columns["last_amount"] = feature("Cents of the order", le=MOST_CENTS)
    spending = type(
        "Spending",
        (FeatureSchema,),
        {"__annotations__": dict.fromkeys(columns, int), "__module__": __name__, **columns},
    )

    @feature_group(
        name="spending",
        entity=CUSTOMER,
        source=orders,
        schema=spending,
        owner="shop@example.com",
        lookback=timedelta(days=3),
        ttl=timedelta(days=500),
    )
    def spends(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        rows = events.sort("event_timestamp", "customer")
        # At most three days: the look-back has no more.
        sums = [
            pl.col("amount")
            .rolling_sum_by("event_timestamp", f"{min(days, 3)}d")
            .over("customer")
            .alias(f"amount_{days}d")
            for days in range(1, features + 1)
        ]
        return rows.select("customer", "event_timestamp", *sums, last_amount="amount")

    class Visits(FeatureSchema):
        pages: int = feature("Pages of the visit")

    @feature_group(entity=CUSTOMER, source=visits, schema=Visits, owner="shop@example.com", ttl=timedelta(days=500))
    def visit(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer looks at."""
        return events.select("customer", "event_timestamp", pages="amount")

    return [spends, visit]


def _labels() -> pl.LazyFrame:
    labels = pl.LazyFrame({"customer": ["c0", "c1", "c2"], "bought": [True, False, True]})
    return labels.with_columns(event_timestamp=pl.lit(datetime(2024, 3, 5, tzinfo=UTC)))


PURCHASE = TrainingSet(
    "purchase", labels=_labels, features=["spending", "visit"], owner="shop@example.com", description="Who buys."
)


def domain(environment: Mapping[str, str]) -> ModuleType:
    """Returns the shop as a module of definitions."""
    module = ModuleType("shop")
    features = int(Path(environment["SHOP_FEATURES"]).read_text())
    for group in groups(Path(environment["SHOP_LANDING"]), features):
        setattr(module, group.name, group)
    module.purchase = PURCHASE  # type: ignore[attr-defined]
    return module


if "SHOP_LANDING" in os.environ:
    defs = feature_store_definitions(domain(os.environ), sensor_interval_seconds=2)
