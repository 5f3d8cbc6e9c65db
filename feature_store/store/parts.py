"""`Parts`: what a feature store consists of, opened at its first use and closed together.

Settings become parts here and nowhere else. What is done with them belongs to the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Catalog
from feature_store.clock import Clock, SystemClock, parse_clock
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import SettingsError
from feature_store.resolution import Resolution, resolve_with
from feature_store.setting_urls import check_kafka_servers, check_registry_url
from feature_store.settings import Settings

if TYPE_CHECKING:
    from types import ModuleType

    import duckdb

    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.definitions.on_demand import OnDemandFeatures
    from feature_store.monitoring.request_log import RequestLog
    from feature_store.offline.point_in_time.engine import PointInTimeEngine
    from feature_store.offline.store import OfflineStore
    from feature_store.online.reading.reads import OnlineReads
    from feature_store.online.store import OnlineStore
    from feature_store.registry.registry import Registry
    from feature_store.storage.s3_connection import S3Connection


@dataclass(frozen=True, slots=True)
class Connections:
    """How a store reaches what settings only name, where a program knows better than the environment.

    Attributes:
        s3: Returns how a bucket is reached; None for the usual AWS way.
        duckdb: Opens the DuckDB connections that a SQL engine works on; None for connections in memory.
    """

    s3: Callable[[str], S3Connection] | None = None
    duckdb: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None


class Parts:
    """The parts of a feature store; for the arguments see `FeatureStore`.

    Args:
        offline: The offline store, or its root.
        online: The online store, or its URL.
        registry: The registry, or its SQLAlchemy URL.
        clock: Tells the present.
        engine: Engine of point-in-time reads, or its name.
        definitions: The Python module of the definitions, or its name.
        request_log: Keeps a sample of what is served.
        settings: The settings that name the parts; None where they were given one by one.
        connections: How S3 and DuckDB are reached, where the environment does not say it.

    Raises:
        SettingsError: If a URL is malformed. Nothing connects before the first use.
    """

    def __init__(
        self,
        offline: OfflineStore | str | Path | None,
        online: OnlineStore | str | None,
        registry: Registry | str | None,
        clock: Clock | None,
        engine: PointInTimeEngine | str,
        definitions: str | ModuleType | None,
        request_log: RequestLog | None,
        settings: Settings | None = None,
        connections: Connections | None = None,
    ) -> None:
        _check_places(offline, online, registry)
        self.clock = clock or SystemClock()
        self.request_log = request_log
        self.settings = settings
        self._offline = offline
        self._online = online
        self._registry = registry
        self._engine = engine
        self._definitions = definitions
        self._connections = connections or Connections()

    @classmethod
    def named_by(cls, settings: Settings, definitions: ModuleType | None, connections: Connections | None) -> Parts:
        """Returns the parts that settings name; see `FeatureStore.open`."""
        clock = parse_clock(settings.clock)
        if settings.kafka is not None:
            check_kafka_servers(settings.kafka)
        return cls(
            settings.offline,
            settings.online,
            settings.registry,
            clock,
            settings.engine,
            definitions or settings.definitions,
            _request_log(settings, clock),
            settings,
            connections,
        )

    def close(self) -> None:
        """Closes what was opened, but the connections of event loops, and writes what waits for the request log."""
        if "online_reads" in self.__dict__:
            self.__dict__.pop("online_reads").close()
        if self.request_log is not None:
            self.request_log.close()
        for part in ("online", "registry"):
            if part in self.__dict__:
                self.__dict__.pop(part).close()

    async def aclose(self) -> None:
        """Closes what was opened, the connections of the running event loop included."""
        if "online" in self.__dict__:
            await self.online.aclose()
        self.close()

    @cached_property
    def offline(self) -> OfflineStore:
        """The offline store."""
        from feature_store.offline.store import OfflineStore

        if self._offline is None:
            raise SettingsError("This feature store was opened without an offline store: pass offline=....")
        if isinstance(self._offline, (str, Path)):
            from feature_store.storage.location import open_location

            setting = "FEATURE_STORE_OFFLINE"
            return OfflineStore(open_location(self._offline, setting=setting, connect=self._connections.s3))
        return self._offline

    @cached_property
    def online(self) -> OnlineStore:
        """The online store; the embedded server is started if none is named."""
        from feature_store.online.store import OnlineStore

        if self._online is None or isinstance(self._online, str):
            return OnlineStore.connect(self._online, self.clock)
        return self._online

    def would_start_server(self) -> bool:
        """Returns whether to use the online store now is to start the embedded server."""
        if self._online is not None:
            return False
        from feature_store.online.embedded import EmbeddedRedis

        return not EmbeddedRedis().status().running

    @cached_property
    def online_reads(self) -> OnlineReads:
        """Answers requests for online features: the catalog that they go by, and what was worked out of them."""
        from feature_store.online.reading.reads import OnlineReads

        return OnlineReads(
            online=lambda: self.online,
            registered=self._registered if self._registry is not None else None,
            resolve=self.resolve,
            compute=_computed,
            log=self.request_log,
        )

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        from feature_store.registry.registry import Registry

        if self._registry is None:
            raise SettingsError("This feature store was opened without a registry: pass registry=....")
        return Registry(self._registry, self.clock) if isinstance(self._registry, str) else self._registry

    def _registered(self) -> Catalog:
        return self.registry.catalog()

    @cached_property
    def engine(self) -> PointInTimeEngine:
        """The engine of point-in-time reads."""
        from feature_store.engines import engine_named

        if not isinstance(self._engine, str):
            return self._engine
        return engine_named(self._engine, connect=self._connections.duckdb, spark_conf=self.spark_conf)

    @property
    def spark_conf(self) -> str | None:
        """Settings of a Spark application that is started here."""
        return (self.settings or Settings.from_env()).spark_conf

    @cached_property
    def definitions(self) -> LoadedDefinitions:
        """The definitions module's content.

        Raises:
            SettingsError: If no module is named, or it cannot be imported.
        """
        from feature_store.definitions.loading import load_definitions

        return load_definitions(self._definitions)

    def on_demand(self) -> Collection[OnDemandFeatures]:
        """Returns the on-demand features; none where no definitions are named."""
        return self.definitions.on_demand.values() if self._definitions else ()

    def resolve(self, catalog: Catalog, features: Sequence[str] | FeatureService) -> Resolution:
        """Returns what a list of features, or a feature service, stands for by a catalog.

        Raises:
            InvalidRequestError: If nothing is asked for, or a reference is malformed.
            UnknownFeatureError: If a feature is neither in the catalog nor defined on demand.
        """
        names = features.features if isinstance(features, FeatureService) else features
        return resolve_with(catalog, names, self.on_demand if self._definitions else None)


def _check_places(
    offline: OfflineStore | str | Path | None, online: OnlineStore | str | None, registry: Registry | str | None
) -> None:
    """Checks what names a place, so that a malformed setting is found at opening and not at the first use."""
    if isinstance(offline, str):
        from feature_store.storage.location import check_location

        check_location(offline, setting="FEATURE_STORE_OFFLINE")
    if isinstance(online, str):
        from feature_store.online.locations import Location

        Location.parse(online)
    if isinstance(registry, str):
        check_registry_url(registry)


def _computed(
    resolution: Resolution, rows: Sequence[Mapping[str, Any]], request_data: Mapping[str, Sequence[Any]] | None
) -> list[dict[str, Any]]:
    # Polars is imported only where something is computed.
    from feature_store.transform.on_demand import compute_online

    return compute_online(resolution, rows, request_data)


def _request_log(settings: Settings, clock: Clock) -> RequestLog | None:
    if settings.request_log is None:
        return None
    from feature_store.monitoring.request_log import RequestLog

    return RequestLog(
        settings.request_log, clock, rate=settings.request_log_rate, most_bytes=settings.request_log_mb * 2**20
    )
