"""The feature store as a resource, put together from the resources of its parts."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_duckdb import DuckDBResource

from feature_store.clock import parse_clock
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.engines import engine_named
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from resources.offline import OfflineStoreResource
from resources.online import OnlineStoreResource
from resources.registry import RegistryResource


class FeatureStoreResource(dg.ConfigurableResource[FeatureStore]):
    """Opens the feature store.

    Attributes:
        offline: Opens the offline store.
        online: Connects to the online store.
        registry: Connects to the registry.
        duckdb: Connects to DuckDB, for point-in-time reads in SQL.
        clock: `system`, or an ISO timestamp at which the store's present stands; where empty, what
            `FEATURE_STORE_CLOCK` says.
    """

    offline: OfflineStoreResource
    online: OnlineStoreResource
    registry: RegistryResource
    duckdb: DuckDBResource
    clock: str = ""

    @contextmanager
    def open(self) -> Iterator[FeatureStore]:
        """Yields a feature store; its connections are closed at the end."""
        settings = Settings.from_env()
        clock = parse_clock(self.clock or settings.clock)
        with FeatureStore(
            offline=self.offline.open(),
            online=self.online.connect(clock),
            registry=self.registry.connect(clock),
            clock=clock,
            engine=self._engine(settings.engine),
        ) as store:
            yield store

    def environment(self) -> dict[str, str]:
        """Returns the settings that this configuration states, as variables for another process."""
        stated = {
            "FEATURE_STORE_OFFLINE": self.offline.root,
            "FEATURE_STORE_ONLINE": self.online.url,
            "FEATURE_STORE_REGISTRY": self.registry.url,
            "FEATURE_STORE_CLOCK": self.clock,
        }
        return {name: value for name, value in stated.items() if value}

    def _engine(self, name: str) -> PointInTimeEngine:
        return engine_named(name, connect=self.duckdb.get_connection)
