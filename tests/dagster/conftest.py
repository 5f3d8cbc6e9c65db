"""A code location over the small test domain, on a temporary instance and stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from feature_store.store import FeatureStore
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


@pytest.fixture(autouse=True)
def _no_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sends a message by what the environment of its machine says."""
    for name in ("ALERT_WEBHOOK", "ALERT_SLACK", "ALERT_EMAIL", "SMTP", "UI_URL"):
        monkeypatch.delenv(f"FEATURE_STORE_{name}", raising=False)


@pytest.fixture
def resources(tmp_path: Path, redis_url: str) -> dict[str, object]:
    return {
        "feature_store": FeatureStoreResource(
            overrides={
                "offline": str(tmp_path / "offline"),
                "online": redis_url,
                "registry": f"sqlite:///{tmp_path / 'registry.db'}",
                "clock": "2024-03-10T00:00:00Z",
            },
            duckdb=DuckDBResource(database=":memory:"),
        ),
    }


def overriding(resource: object, **overrides: str) -> FeatureStoreResource:
    """The resource with further settings overridden."""
    assert isinstance(resource, FeatureStoreResource)
    return FeatureStoreResource(overrides={**resource.overrides, **overrides}, s3=resource.s3, duckdb=resource.duckdb)


@pytest.fixture
def defs(domain: Domain, resources: dict[str, object]) -> dg.Definitions:
    return feature_store_definitions(domain, resources=resources)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its records in memory: four times as fast as one on disk."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def stored_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk, for what opens it by reference."""
    (tmp_path / "stored").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "stored")) as instance:
        yield instance


@pytest.fixture
def store(resources: dict[str, object]) -> Iterator[FeatureStore]:
    """The store that the code location works on."""
    resource = resources["feature_store"]
    assert isinstance(resource, FeatureStoreResource)
    with resource.open() as opened:
        yield opened


class Ticks:
    """Evaluates sensors as the daemon does: keeps cursors, launches a run key once, stores events, runs what is asked.

    Args:
        instance: Where runs and events go.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._cursors: dict[str, str | None] = {}
        self._launched: set[tuple[str, str]] = set()

    def requests(self, defs: dg.Definitions, name: str) -> list[dg.RunRequest]:
        """Evaluates a sensor once; returns the runs that it asks for and has not asked for before."""
        repository = defs.get_repository_def()
        context = dg.build_sensor_context(
            self._instance,
            cursor=self._cursors.get(name),
            repository_def=repository,
            sensor_name=name,
            resources={key: defs.resources[key] for key in ("feature_store", "feature_store_alerts")},
        )
        with context:
            data = repository.get_sensor_def(name).evaluate_tick(context)
        self.message = data.skip_message
        if data.cursor is not None:
            self._cursors[name] = data.cursor
        for event in data.asset_events:
            self._instance.report_runless_asset_event(event)
        self.events = list(data.asset_events)
        fresh = [request for request in data.run_requests if (name, request.run_key) not in self._launched]
        self._launched |= {(name, request.run_key) for request in fresh}
        return fresh

    def run(self, defs: dg.Definitions, requests: list[dg.RunRequest]) -> list[dg.ExecuteInProcessResult]:
        """Runs what was asked for, in order."""
        results = []
        for request in requests:
            job = defs.resolve_job_def(request.job_name or "feature_store_refill_online")
            if request.asset_selection:
                checks = None if request.asset_check_keys is None else set(request.asset_check_keys)
                job = job.get_subset(asset_selection=set(request.asset_selection), asset_check_selection=checks)
            results.append(
                job.execute_in_process(
                    run_config=request.run_config, instance=self._instance, tags=request.tags, raise_on_error=False
                )
            )
        return results


@pytest.fixture
def ticks(instance: dg.DagsterInstance) -> Ticks:
    return Ticks(instance)


def spans_of(requests: list[dg.RunRequest]) -> list[tuple[str, str, str]]:
    """Group, first and last partition of each request."""
    return [
        (
            request.asset_selection[0].to_user_string(),
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in requests
        if request.asset_selection
    ]
