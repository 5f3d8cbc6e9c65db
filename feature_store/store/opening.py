"""`OpenedStore`: how a feature store is opened and closed, its parts, and the objects that do what its verbs ask for.

What the parts are belongs to `store.parts`; the verbs belong to `store.online_reader` and `store.facade`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from feature_store.clock import Clock
from feature_store.settings import Settings
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Connections, Parts

if TYPE_CHECKING:
    from types import ModuleType

    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.monitoring.request_log import RequestLog
    from feature_store.offline.point_in_time.engine import PointInTimeEngine
    from feature_store.offline.store import OfflineStore
    from feature_store.online.reading.reads import OnlineReads
    from feature_store.online.store import OnlineStore
    from feature_store.registry.registry import Registry
    from feature_store.store.monitor import Monitoring
    from feature_store.store.offline_reads import OfflineReads
    from feature_store.store.online_repair import OnlineRepair
    from feature_store.store.registration import Registration
    from feature_store.store.streams import Streams
    from feature_store.store.training_sets import TrainingSets
    from feature_store.store.writes import Writes


class OpenedStore:
    """An opened feature store; for the arguments see `FeatureStore`.

    Raises:
        SettingsError: If a URL is malformed. Nothing connects before the first use.
    """

    def __init__(
        self,
        offline: OfflineStore | str | Path | None = None,
        online: OnlineStore | str | None = None,
        registry: Registry | str | None = None,
        clock: Clock | None = None,
        engine: PointInTimeEngine | str = "auto",
        *,
        definitions: str | ModuleType | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self._parts = Parts(offline, online, registry, clock, engine, definitions, request_log)

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        definitions: ModuleType | None = None,
        connections: Connections | None = None,
    ) -> Self:
        """Returns the store that settings name: the one place where settings become parts.

        The library, the command line, the feature server, jobs on Spark and Dagster all open their stores here.

        Args:
            settings: What the environment says, see `Settings.from_env`, or what overrides it.
            definitions: The module of the definitions, where it is at hand: takes the place of the one that the
                settings name.
            connections: How S3 and DuckDB are reached, where the environment does not say it.

        Raises:
            SettingsError: If a setting is malformed. Parts are opened at their first use, and say then what is wrong
                with theirs.
        """
        store = cls()
        store._parts = Parts.named_by(settings, definitions, connections)
        return store

    @classmethod
    def from_env(cls) -> Self:
        """Returns the store that the environment names (`FEATURE_STORE_*`, or `.env`); see `open`."""
        return cls.open(Settings.from_env())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that this store has opened, but those of event loops: `aclose` does.

        What waits for the request log is written.
        """
        self._parts.close()

    async def aclose(self) -> None:
        """Closes the connections that this store has opened, those of the running event loop among them."""
        await self._parts.aclose()

    @property
    def offline(self) -> OfflineStore:
        """The offline store."""
        return self._parts.offline

    @property
    def online(self) -> OnlineStore:
        """The online store; the embedded server is started if none is named."""
        return self._parts.online

    @property
    def registry(self) -> Registry:
        """The registry."""
        return self._parts.registry

    @property
    def engine(self) -> PointInTimeEngine:
        """The engine of point-in-time reads."""
        return self._parts.engine

    @property
    def definitions(self) -> LoadedDefinitions:
        """The definitions module's content.

        Raises:
            SettingsError: If no module is named, or it cannot be imported.
        """
        return self._parts.definitions

    @property
    def clock(self) -> Clock:
        """Tells the present; to set it moves all of this store to another present."""
        return self._parts.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._parts.clock = clock

    @property
    def request_log(self) -> RequestLog | None:
        """Keeps a sample of what is served; None for no log."""
        return self._parts.request_log

    @property
    def settings(self) -> Settings | None:
        """The settings that it was opened by; None where its parts were given one by one."""
        return self._parts.settings

    @property
    def online_reads(self) -> OnlineReads:
        """Answers requests for online features: the catalog that they go by, and what was worked out of them."""
        return self._parts.online_reads

    @cached_property
    def current_catalog(self) -> CurrentCatalog:
        """What is registered now: read or followed, published, and bound to definitions."""
        return CurrentCatalog(self._parts)

    # What follows needs more than a model server has installed, or wants to import: it is opened when it is asked for.

    @cached_property
    def registration(self) -> Registration:
        """Changes what is registered."""
        from feature_store.store.registration import Registration

        return Registration(self._parts, self.current_catalog)

    @cached_property
    def writes(self) -> Writes:
        """Brings rows into both stores: materialization, ingestion, snapshots."""
        from feature_store.store.writes import Writes

        return Writes(self._parts, self.current_catalog)

    @cached_property
    def streams(self) -> Streams:
        """Streamers, drainers, and the files that they leave."""
        from feature_store.store.streams import Streams

        return Streams(self._parts, self.current_catalog)

    @cached_property
    def offline_reads(self) -> OfflineReads:
        """Reads as of any time."""
        from feature_store.store.offline_reads import OfflineReads

        return OfflineReads(self._parts, self.current_catalog)

    @cached_property
    def training_sets(self) -> TrainingSets:
        """Versions of training sets."""
        from feature_store.store.training_sets import TrainingSets

        return TrainingSets(self._parts, self.current_catalog)

    @cached_property
    def monitor(self) -> Monitoring:
        """Judges what is stored and what is served."""
        from feature_store.store.monitor import Monitoring

        return Monitoring(self._parts, self.current_catalog)

    @cached_property
    def online_repair(self) -> OnlineRepair:
        """Brings the online store to what the offline store says."""
        from feature_store.store.online_repair import OnlineRepair

        return OnlineRepair(self._parts, self.current_catalog)
