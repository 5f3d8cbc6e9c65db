"""A code location over the small test domain, on a temporary instance and stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

from feature_assets.definitions import build_defs
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from resources.feature_store import FeatureStoreResource
from resources.offline import OfflineStoreResource
from resources.online import OnlineStoreResource
from resources.registry import RegistryResource
from tests.orders import Orders, hourly_activity, some_orders, spending


class Domain(ModuleType):
    """A domain module that a test puts together."""

    def __init__(self, source: Orders) -> None:
        super().__init__("domain")
        self.source = source
        self.spending: FeatureGroup = spending(source)
        self.activity: FeatureGroup = hourly_activity(source)
        self.purchase = TrainingSet(
            "purchase",
            labels=lambda: self.source.events.lazy().select("customer", "event_timestamp", bought=pl.col("amount") > 0),
            features=["spending"],
            owner="team@example.com",
            description="Whether a customer buys.",
        )


@pytest.fixture
def domain() -> Domain:
    return Domain(Orders(some_orders()))


@pytest.fixture
def resources(tmp_path: Path, redis_url: str) -> dict[str, object]:
    return {
        "feature_store": FeatureStoreResource(
            offline=OfflineStoreResource(root=str(tmp_path / "offline")),
            online=OnlineStoreResource(url=redis_url),
            registry=RegistryResource(url=f"sqlite:///{tmp_path / 'registry.db'}"),
            duckdb=DuckDBResource(database=":memory:"),
            clock="2024-03-10T00:00:00Z",
        )
    }


@pytest.fixture
def defs(domain: Domain, resources: dict[str, object]) -> dg.Definitions:
    return build_defs(domain=domain, resources=resources)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance
