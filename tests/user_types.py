"""The types that users see: `make types` reads this file, and nobody runs it.

`assert_type` fails where a public name gives something else, or nothing known; an ignored error fails where a wrong use
is no longer one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, assert_type

import dagster as dg
import polars as pl

from dagster_feature_store import (
    FeatureStoreResource,
    feature_group_asset,
    feature_store_definitions,
    training_set_asset,
)
from feature_store import (
    Entity,
    FeatureGroup,
    FeatureSchema,
    FeatureStore,
    OnDemandFeatures,
    ParquetSource,
    TrainingSet,
    feature,
    feature_group,
    on_demand,
)
from feature_store.catalog import Catalog
from feature_store.definitions.schema import FeatureSpec
from feature_store.online.reading.prepared import FeatureState
from feature_store.partitions import Window
from feature_store.registry.records import ApplyReport
from feature_store.settings import Settings
from feature_store.training_sets.comparison import TrainingSetDiff
from feature_store.training_sets.leak_guard import LeakReport
from feature_store.training_sets.versions import TrainingSetVersion, WrittenTrainingSet
from feature_store.transform.ingestion import IngestReport
from feature_store.transform.materialization import MaterializedPartition
from feature_store.transform.reports import MaterializationReport

START = datetime(2024, 1, 1, tzinfo=UTC)
CUSTOMER = Entity("customer", {"customer": str})
PURCHASES = ParquetSource("purchases", "data/purchases", start=START)


class Spending(FeatureSchema):
    """What a customer has spent."""

    spent_7d: int = feature("Spent in the last 7 days (cents).", ge=0, nullable=False)
    share: float | None = feature("Share of all.", ttl=timedelta(days=7))


@feature_group(entity=CUSTOMER, source=PURCHASES, schema=Spending, owner="shop@example.com")
def spending(purchases: pl.LazyFrame) -> pl.LazyFrame:
    """What a customer has spent."""
    return purchases


assert_type(spending, FeatureGroup)
assert_type(spending.schema, type[FeatureSchema])
assert_type(Spending.specs(), tuple[FeatureSpec, ...])
assert_type(spending.features, tuple[FeatureSpec, ...])


@feature_group(entity=CUSTOMER, source=PURCHASES, schema=Spending, owner="shop@example.com")  # type: ignore[arg-type]
def of_frames(purchases: pl.DataFrame) -> pl.DataFrame:
    """Takes what no group is given."""
    return purchases


feature_group(entity="customer", source=PURCHASES, schema=Spending, owner="a@b.c")  # type: ignore[arg-type]
feature_group(entity=CUSTOMER, source=PURCHASES, schema=Spending)  # type: ignore[call-arg]
feature("A feature.", nullable="no")  # type: ignore[arg-type]


@on_demand(inputs=["spent_7d"], request={"basket": float}, schema=Spending, owner="shop@example.com")
def with_basket(spent_7d: pl.Expr, basket: pl.Expr) -> dict[str, pl.Expr]:
    """What is in the basket, against what was spent."""
    return {"share": basket / spent_7d}


assert_type(with_basket, OnDemandFeatures)


def reads(store: FeatureStore) -> None:
    """What is read."""
    assert_type(store.get_online_features("c1", ["spending"]), dict[str, Any])
    assert_type(store.get_online_features_batch(["c1"], ["spending"]), list[dict[str, Any]])
    assert_type(store.get_online_features_frame(["c1"], ["spending"]), pl.DataFrame)
    assert_type(store.get_online_statuses(["c1"], ["spending"]), list[dict[str, FeatureState]])
    assert_type(store.get_offline_features(["c1"], ["spent_7d"], [START]), pl.DataFrame)
    assert_type(store.training_set(pl.DataFrame(), features=["spending"]), pl.DataFrame)
    assert_type(store.catalog(), Catalog)
    store.get_online_features(7, ["spending"])  # type: ignore[arg-type]


async def asynchronous_reads(store: FeatureStore) -> None:
    """What is read from async code."""
    assert_type(await store.aget_online_features("c1", ["spending"]), dict[str, Any])
    assert_type(await store.aget_online_features_batch(["c1"], ["spending"]), list[dict[str, Any]])
    assert_type(await store.aget_online_features_frame(["c1"], ["spending"]), pl.DataFrame)


def writes(store: FeatureStore) -> None:
    """What is written."""
    assert_type(store.apply([spending]), ApplyReport)
    assert_type(store.ingest(spending, pl.DataFrame()), IngestReport)
    report = store.materialize(spending, "2024-01-01", "2024-01-07", progress=print)
    assert_type(report, MaterializationReport)
    assert_type(report.rows, int)
    assert_type(report.partitions, tuple[MaterializedPartition, ...])
    assert_type(report.partitions[0].window, Window)
    store.apply(spending)  # type: ignore[arg-type]


def training_sets(store: FeatureStore, definition: TrainingSet) -> None:
    """What models are trained on."""
    assert_type(store.write_training_set(definition), WrittenTrainingSet)
    assert_type(store.open_training_set("buys_again"), TrainingSetVersion)
    assert_type(store.verify_training_set("buys_again"), LeakReport)
    assert_type(store.compare_training_sets("buys_again/v1", "buys_again/v2"), TrainingSetDiff)


def opened() -> None:
    """How a store is opened."""
    assert_type(FeatureStore.from_env(), FeatureStore)
    assert_type(FeatureStore.open(Settings.from_env()), FeatureStore)
    with FeatureStore.from_env() as store:
        assert_type(store, FeatureStore)


def in_dagster(module: ModuleType, definition: TrainingSet) -> None:
    """What Dagster is given."""
    assert_type(feature_store_definitions(module), dg.Definitions)
    assert_type(feature_group_asset(spending), dg.AssetsDefinition)
    assert_type(training_set_asset(definition, [spending], module), dg.AssetsDefinition)
    with FeatureStoreResource(overrides={"offline": "data"}).open() as store:
        assert_type(store, FeatureStore)
