"""FeatureStore: the facade over definitions, registry, offline and online store.

It wires the parts together and holds no logic of its own. Parts are opened at their first use, so that a model server
that only reads online never imports Polars.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from feature_store.catalog import CATALOG_SECONDS, Catalog, Group
from feature_store.clock import Clock, SystemClock, parse_clock
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.names import AS_OF_TIMESTAMP, ENTITY_ID
from feature_store.errors import (
    InvalidRequestError,
    OnlineStoreError,
    RegistryConflictError,
    RegistryError,
    SettingsError,
    UnknownFeatureError,
)
from feature_store.resolution import Resolution, resolve_with
from feature_store.setting_urls import check_kafka_servers, check_registry_url
from feature_store.settings import Settings

if TYPE_CHECKING:
    from types import ModuleType

    import duckdb
    import polars as pl

    from feature_store.changes.settling import SettlingReport
    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.definitions.names import FeatureRef
    from feature_store.definitions.on_demand import OnDemandFeatures
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.explain import Explanation
    from feature_store.monitoring.checks import PartitionMonitor
    from feature_store.monitoring.consistency import ConsistencyReport
    from feature_store.monitoring.findings import CheckResult
    from feature_store.monitoring.online_monitor import OnlineMonitorReport
    from feature_store.monitoring.replay import ReplayReport
    from feature_store.monitoring.request_log import RequestLog
    from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress
    from feature_store.offline.snapshots import WrittenSnapshot
    from feature_store.offline.store import OfflineStore
    from feature_store.offline.stream_files import CompactionReport, StreamFiles
    from feature_store.online.reading.coalescing import ReadObserver
    from feature_store.online.reading.prepared import FeatureState
    from feature_store.online.reading.reads import OnlineReads
    from feature_store.online.store import OnlineStore
    from feature_store.online.writer import WriteReport
    from feature_store.partitions import Window
    from feature_store.reconcile.online_sample import OnlineSample
    from feature_store.registry.records import ApplyReport
    from feature_store.registry.registry import Registry
    from feature_store.spark.training_sets import JoinedFiles
    from feature_store.storage.s3_connection import S3Connection
    from feature_store.streaming.drainer import Drainer
    from feature_store.streaming.metrics import StreamMetrics
    from feature_store.streaming.settings import StreamSettings
    from feature_store.streaming.streamer import Streamer
    from feature_store.training_sets.comparison import TrainingSetDiff
    from feature_store.training_sets.leak_guard import LeakReport
    from feature_store.training_sets.rebuilding import RebuiltTrainingSet
    from feature_store.training_sets.versions import TrainingSetVersion, WrittenTrainingSet
    from feature_store.transform.ingestion import IngestReport
    from feature_store.transform.materialization import MaterializedPass
    from feature_store.transform.reports import MaterializationReport
    from feature_store.transform.reports import Progress as MaterializationProgress

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connections:
    """How a store reaches what settings only name, where a program knows better than the environment.

    Attributes:
        s3: Returns how a bucket is reached; None for the usual AWS way.
        duckdb: Opens the DuckDB connections that a SQL engine works on; None for connections in memory.
    """

    s3: Callable[[str], S3Connection] | None = None
    duckdb: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None


class FeatureStore:
    """A feature store: registers groups, writes their rows, reads them as of any time.

    Args:
        offline: The offline store, or its root: a folder or `s3://` prefix. None for a store that only reads online.
        online: The online store, or its URL; None for the embedded server.
        registry: The registry, or its SQLAlchemy URL. None for a store that only reads online, by the catalog that
            is published there.
        clock: Tells the present; the wall clock by default.
        engine: Engine of point-in-time reads, or its name: `sweep`, `duckdb`, `auto` for the cheaper of the two, or
            `spark`, on which groups are then materialized, too.
        definitions: The Python module, or its name, that holds on-demand features and feature services; imported when
            one of them is first asked for.
        request_log: Keeps a sample of what is served, see `monitoring.request_log`; None for no log.

    Attributes:
        settings: The settings that it was opened by; None where its parts were given one by one.

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
        _check_places(offline, online, registry)
        self.clock = clock or SystemClock()
        self.request_log = request_log
        self._offline = offline
        self._online = online
        self._registry = registry
        self._engine = engine
        self._definitions = definitions
        self.settings: Settings | None = None
        self._connections = Connections()
        self._catalog: Catalog | None = None
        self._catalog_read_at = float("-inf")
        self._is_published = False
        self._followed: Callable[[], Catalog] | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        definitions: ModuleType | None = None,
        connections: Connections | None = None,
    ) -> FeatureStore:
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
        clock = parse_clock(settings.clock)
        if settings.kafka is not None:
            check_kafka_servers(settings.kafka)
        store = cls(
            offline=settings.offline,
            online=settings.online,
            registry=settings.registry,
            clock=clock,
            engine=settings.engine,
            definitions=definitions or settings.definitions,
            request_log=_request_log(settings, clock),
        )
        store.settings = settings
        store._connections = connections or Connections()
        return store

    @classmethod
    def from_env(cls) -> FeatureStore:
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
        if "online_reads" in self.__dict__:
            self.__dict__.pop("online_reads").close()
        if self.request_log is not None:
            self.request_log.close()
        for part in ("online", "registry"):
            if part in self.__dict__:
                self.__dict__.pop(part).close()

    async def aclose(self) -> None:
        """Closes the connections that this store has opened, those of the running event loop among them."""
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

    @cached_property
    def online_reads(self) -> OnlineReads:
        """Which catalog online reads go by, and what has been worked out of their requests."""
        return self.open_online_reads(self._resolved)

    def open_online_reads(
        self, resolve: Callable[[Catalog, Sequence[str]], Resolution], observer: ReadObserver | None = None
    ) -> OnlineReads:
        """Returns the read path of this store, for a transport that has definitions or metrics of its own.

        Args:
            resolve: Resolves references against a catalog.
            observer: Is told of every read that an event loop makes; None for nobody.
        """
        from feature_store.online.reading.reads import OnlineReads

        return OnlineReads(
            online=lambda: self.online,
            registered=self._registered_catalog if self._registry is not None else None,
            resolve=resolve,
            compute=_computed,
            log=self.request_log,
            observer=observer,
        )

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        from feature_store.registry.registry import Registry

        if self._registry is None:
            raise SettingsError("This feature store was opened without a registry: pass registry=....")
        return Registry(self._registry, self.clock) if isinstance(self._registry, str) else self._registry

    @cached_property
    def engine(self) -> PointInTimeEngine:
        """The engine of point-in-time reads."""
        from feature_store.engines import engine_named

        if not isinstance(self._engine, str):
            return self._engine
        return engine_named(self._engine, connect=self._connections.duckdb, spark_conf=self._spark_conf)

    @property
    def _spark_conf(self) -> str | None:
        return (self.settings or Settings.from_env()).spark_conf

    @cached_property
    def definitions(self) -> LoadedDefinitions:
        """The definitions module's content.

        Raises:
            SettingsError: If no module is named, or it cannot be imported.
        """
        from feature_store.definitions.loading import load_definitions

        return load_definitions(self._definitions)

    def catalog(self) -> Catalog:
        """Returns what is registered, read again from the registry every few seconds."""
        if self._followed is not None:
            return self._followed()
        now = time.monotonic()
        if self._catalog is None or now - self._catalog_read_at > CATALOG_SECONDS:
            self._catalog = self.registry.catalog()
            self._catalog_read_at = now
        return self._catalog

    def follow(self, catalog: Callable[[], Catalog]) -> None:
        """Goes by a catalog that another keeps up to date: from now on reads and writes never wait for the registry.

        Args:
            catalog: Returns it at once.
        """
        self._followed = catalog

    def refresh(self) -> Catalog:
        """Reads the catalog again at once, where it is read here and not followed."""
        self._catalog = None
        return self.catalog()

    def resolve(self, features: Sequence[str] | FeatureService) -> Resolution:
        """Returns what a list of features, or a feature service, stands for now.

        Raises:
            InvalidRequestError: If nothing is asked for, or a reference is malformed.
            UnknownFeatureError: If a feature is neither registered nor defined on demand.
        """
        return self._resolved(self.catalog(), features)

    def _resolved(self, catalog: Catalog, features: Sequence[str] | FeatureService) -> Resolution:
        names = features.features if isinstance(features, FeatureService) else features
        return resolve_with(catalog, names, self._on_demand if self._definitions else None)

    def _registered_catalog(self) -> Catalog:
        return self.registry.catalog()

    def apply(self, groups: Sequence[FeatureGroup]) -> ApplyReport:
        """Registers feature groups: all of them, or none.

        Raises:
            RegistryConflictError: If a live feature would change its dtype, entity or group, or its group's schema
                lacks it.
        """
        before = self._catalog_if_any()
        report = self.registry.apply(groups)
        self._changed()
        self._refill_later(before, [group.name for group in groups])
        return report

    def _catalog_if_any(self) -> Catalog | None:
        """Returns what is registered; None where nothing was ever applied. What else is wrong, `apply` says."""
        try:
            return self.registry.catalog()
        except RegistryError:
            return None

    def _refill_later(self, before: Catalog | None, groups: Sequence[str]) -> None:
        """Marks groups of which rows are visible from now on that the online store no longer holds.

        The next write, repair or look of a sensor brings them online, before any older row could take their place.
        """
        if before is None:
            return
        from feature_store.reconcile.refill import shows_more

        after = self.refresh()
        for name in groups:
            former, group = before.groups.get(name), after.groups.get(name)
            if former is not None and group is not None and shows_more(former, group):
                from feature_store.offline.unfinished import leave_unfinished

                leave_unfinished(self.offline.root, name, self.clock.now())

    def retire(self, ref: FeatureRef) -> None:
        """Retires a version of a feature: it leaves the catalog, for good. Retiring it again changes nothing.

        Raises:
            UnknownFeatureError: If it is not registered.
        """
        self.registry.retire(ref)
        self._changed()

    def publish_catalog(self) -> None:
        """Puts the registry's catalog into the online store, for readers without a registry.

        `apply`, `retire` and the first write of a process do it. Where several do at once, the newest catalog stays.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        published = None
        # Whoever writes last looks once more at what is registered then.
        while (catalog := self.refresh()) != published:
            self.online.publish(catalog)
            published = catalog
        self._is_published = True
        self.online_reads.followed.forget()

    def _changed(self) -> None:
        self._catalog = None
        self._is_published = False
        self.online_reads.followed.forget()
        if self._online is None:
            from feature_store.online.embedded import EmbeddedRedis

            # To register something is no reason to start a server; its first write publishes.
            if not EmbeddedRedis().status().running:
                return
        self._publish_if_needed()

    def _publish_if_needed(self) -> None:
        """Publishes the catalog if this process has not, or the online store has lost it since."""
        try:
            # What is followed may be older than what is published: it only takes the place of none.
            is_published = self._is_published or self._followed is not None
            if not is_published or not self.online.has_catalog():
                self.publish_catalog()
        except OnlineStoreError as error:
            # What is registered stays so. Readers with a registry ask it; the others wait for the next apply or write.
            _LOG.warning("The catalog was not published to the online store: %s", error)

    def registered(self, group: FeatureGroup) -> Group:
        """Returns the record of a group, as applied.

        Raises:
            UnknownFeatureError: If the group, or one of its features, has not been applied.
            RegistryConflictError: If its schema lacks a live feature: what is not computed would overwrite history.
        """
        from feature_store.registry.records import lacking_features

        declared = {spec.ref for spec in group.features}
        for attempt in range(2):
            record = (self.catalog() if attempt == 0 else self.refresh()).group(group.name)
            live = {feature.ref for feature in record.features}
            if declared == live:
                return record
        if lacking := sorted(live - declared):
            raise RegistryConflictError(lacking_features(group.name, lacking))
        raise UnknownFeatureError(
            f"Feature group {group.name!r} declares {', '.join(map(str, sorted(declared - live)))}, not registered "
            "(or retired): run `feature-store apply`."
        )

    def materialize(
        self,
        group: FeatureGroup,
        first: str | date | datetime,
        last: str | date | datetime | None = None,
        *,
        run_id: str = "",
        progress: MaterializationProgress | None = None,
    ) -> MaterializationReport:
        """Computes a group's partitions and writes them to both stores; see `transform.materialization`.

        Running it again gives the same stores; after an interruption, that completes the work.

        Args:
            group: An applied feature group.
            first: The first partition: its key (`2013-01-31`; of hours `2013-01-31-05:00`), a UTC day, or an instant
                inside of it (aware, or naive in UTC).
            last: The last partition, included; `first` by default.
            run_id: Kept in the files' metadata.
            progress: Called with the report so far after each pass of up to 92 partitions; `print` shows it.

        Raises:
            InvalidRequestError: If first or last is no partition of the group, or the range is empty.
            UnknownFeatureError: If the group, or one of its features, has not been applied.
            RegistryConflictError: If its schema lacks a live feature.
            MissingSourceError: If events have not landed; earlier passes stay.
            InvalidRowsError: If a partition's rows are refused; it is named, and the partitions before it are written.
            OnlineStoreError: If the online store fails; the files are written, a second run completes the push.
        """
        from feature_store.transform.reports import MaterializationReport, run_passes

        span = group.partitioning.covering(first, last)
        report = MaterializationReport(group.name, asked=sum(1 for _ in group.partitioning.windows(span)))
        return run_passes(self.materialize_passes(group, span, run_id=run_id), report, progress)

    def materialize_passes(self, group: FeatureGroup, span: Window, *, run_id: str = "") -> Iterator[MaterializedPass]:
        """Does what `materialize` does pass by pass, as far as the iterator is drawn: nothing is computed before.

        Args:
            group: An applied feature group.
            span: Whole partitions, for instance `group.partitioning.span("2013-01-01", "2013-01-31")`.
            run_id: Kept in the files' metadata.

        Yields:
            One report per pass of up to 92 partitions.
        """
        from feature_store.transform.materialization import Materialization, materialize

        if self.engine.name == "spark":
            from feature_store.spark.materialization import materialize as materialize_on_spark

            materialize = partial(materialize_on_spark, spark_conf=self._spark_conf)
        record = self.registered(group)
        self._publish_if_needed()
        return materialize(Materialization(group, record, self.offline, self.online, self.clock, run_id), span)

    def streamer(
        self,
        group: FeatureGroup,
        stream: EventStream,
        settings: StreamSettings,
        metrics: StreamMetrics | None = None,
    ) -> Streamer:
        """Returns what runs a group on its stream of events, see `streaming.streamer`; call its `run`."""
        from feature_store.streams import open_streamer

        record = self.registered(group)
        self._publish_if_needed()
        return open_streamer(
            group,
            stream,
            settings,
            record=record,
            offline=self.offline,
            online=self.online,
            clock=self.clock,
            metrics=metrics,
        )

    def drainer(self, group: FeatureGroup, settings: StreamSettings) -> Drainer:
        """Returns what carries a group's rows from its topic into the offline store, see `streaming.drainer`."""
        from feature_store.changes.streaming_rows import DrainedRows
        from feature_store.streaming.drainer import Drainer

        record = self.registered(group)
        notes = DrainedRows(record, self.offline, self.online, self.clock)
        return Drainer(record, settings, self.stream_files(group), notes)

    def compact(self, group: FeatureGroup, *, grace: timedelta = timedelta(hours=1)) -> CompactionReport:
        """Folds what ingest, pushes and streams have left as files, and removes what was folded a while ago.

        Args:
            group: An applied feature group.
            grace: Files of streams that were folded stay so long, for those who had listed them; a second at least.

        Raises:
            InvalidRequestError: If `grace` is less than a second.
        """
        return self.stream_files(group).compact(grace_seconds=grace.total_seconds())

    def connect_sql(self) -> duckdb.DuckDBPyConnection:
        """Returns a DuckDB connection with a view of each group, and `feature_value`; see `offline.views`."""
        import duckdb

        return self.offline.connect_views(self.catalog(), duckdb.connect())

    def stream_files(self, group: FeatureGroup) -> StreamFiles:
        """Returns the files that streams have written for a group: to fold them, see `offline.stream_files`."""
        from feature_store.offline.stream_files import StreamFiles

        return StreamFiles(self.offline, self.registered(group))

    def partition_monitor(self, group: FeatureGroup, start: datetime) -> PartitionMonitor:
        """Returns what judges a group's partitions from `start` on; see `monitoring.checks`."""
        from feature_store.monitoring.preparing import prepare_monitor

        return prepare_monitor(
            group, start, record=self.registered(group), offline=self.offline, registry=self.registry
        )

    def check_freshness(self, group: FeatureGroup) -> CheckResult:
        """Compares the newest event of a group with the freshness that it promises; see `monitoring.freshness`."""
        from feature_store.monitoring.freshness import check_freshness, freshness_of

        record = self.registered(group)
        return check_freshness(freshness_of(group, record=record, offline=self.offline, now=self.clock.now()))

    def check_consistency(
        self, group: str, *, entities: int = 1000, turn: int = 0, entity_ids: Sequence[str] | None = None
    ) -> ConsistencyReport:
        """Compares what is online now with what the offline store says of the same instant.

        Args:
            group: Name of the feature group.
            entities: Entities to sample, by a hash of their keys.
            turn: Another number draws another sample.
            entity_ids: These entities instead of a sample.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer.
        """
        from feature_store.monitoring.consistency import check_consistency

        catalog = self.catalog()
        return check_consistency(
            catalog.group(group),
            catalog=catalog,
            offline=self.offline,
            online=self.online,
            engine=self.engine,
            clock=self.clock,
            entities=entities,
            turn=turn,
            entity_ids=entity_ids,
        )

    def repair_online(self, group: str) -> SettlingReport:
        """Makes the online store answer what the offline store says now, removals included.

        It is safe beside running writers; see `reconcile.repair`.

        Args:
            group: Name of the feature group.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer; to repair again completes the work.
        """
        from feature_store.reconcile.repair import repair_online

        record = self.catalog().group(group)
        return repair_online(record, offline=self.offline, online=self.online, clock=self.clock)

    def run_monitor(self, group: FeatureGroup, *, entities: int = 1000) -> OnlineMonitorReport:
        """Measures a sample of a group's online values, records it in the registry, and judges it.

        Args:
            group: An applied feature group.
            entities: Entities to sample, by a hash of their keys.

        Raises:
            OnlineStoreError: If the online store does not answer; nothing is recorded then.
        """
        from feature_store.monitoring.online_monitor import monitor_online
        from feature_store.monitoring.preparing import baselines

        record = self.registered(group)
        return monitor_online(
            record,
            catalog=self.catalog(),
            offline=self.offline,
            online=self.online,
            registry=self.registry,
            engine=self.engine,
            clock=self.clock,
            baselines=baselines(group, self.clock.now(), record=record, offline=self.offline, registry=self.registry),
            thresholds={spec.ref.column: spec.monitor for spec in group.features},
            entities=entities,
        )

    def replay_requests(
        self, *, groups: Sequence[str] | None = None, since: datetime | None = None, folder: str | Path | None = None
    ) -> ReplayReport:
        """Compares the answers in the request log with the point-in-time rule.

        Args:
            groups: Only the features of these groups.
            since: Only what was served from then on (aware, or naive in UTC).
            folder: The log's folder; that of this store by default.

        Raises:
            SettingsError: If this store keeps no request log and no folder is given.
            OnlineStoreError: If answers differ, and the online store does not answer: it knows what was on its way.
        """
        from feature_store.clock import to_utc
        from feature_store.monitoring.replay import replay_requests

        if folder is None:
            if self.request_log is None:
                raise SettingsError(
                    "This feature store keeps no request log: set FEATURE_STORE_REQUEST_LOG to a folder, or pass one."
                )
            self.request_log.flush()
            folder = self.request_log.folder
        return replay_requests(
            folder,
            catalog=self.catalog(),
            offline=self.offline,
            online=self.online,
            engine=self.engine,
            clock=self.clock,
            groups=groups,
            since=None if since is None else to_utc(since),
        )

    def write_snapshots(self, group: FeatureGroup) -> Iterator[WrittenSnapshot]:
        """Brings a group's snapshots up to date: makes those that are missing or whose inputs have changed.

        Args:
            group: An applied feature group that declares `snapshot_every`.

        Yields:
            One report per snapshot, in order of time.

        Raises:
            DefinitionError: If the group declares no snapshots.
        """
        from feature_store.offline.snapshots import write_snapshots

        record = self.registered(group)
        return write_snapshots(self.offline, record, group.snapshot_days(self.offline.materialized(record)))

    def ingest(self, group: FeatureGroup, frame: Any) -> IngestReport:
        """Writes feature rows that were computed elsewhere: validate, then offline, then online.

        Ingesting the same rows again changes nothing.

        Args:
            group: An applied feature group.
            frame: A Polars, Arrow or pandas table with the join keys, `event_timestamp` (aware, or naive in UTC)
                and one column per feature.

        Raises:
            InvalidRowsError: If a row breaks the schema; nothing is written.
        """
        from feature_store.transform.ingestion import ingest

        record = self.registered(group)
        self._publish_if_needed()
        return ingest(
            group,
            frame,
            record=record,
            offline=self.offline,
            online=self.online,
            clock=self.clock,
        )

    def get_online_features(
        self,
        entity_id: str,
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Returns what is visible now of one entity.

        Args:
            entity_id: The entity's id; see `Entity.entity_id`.
            features: References (`seats`, `seats:v1`), names of feature groups and of on-demand features, of one
                entity; or a feature service.
            request_data: What on-demand features need to know of the request, by name.

        Returns:
            Value by label, in order: the reference as given; for a group the names of its features. None where
            the value is null, unknown, or past its time to live. Timestamps are aware UTC datetimes, embeddings
            lists of floats.

        Raises:
            UnknownFeatureError: If a feature is not registered.
            InvalidRequestError: If the features describe several entities, the id is malformed, or request data are
                missing or of another type.
            OnlineStoreError: If the online store does not answer.
        """
        return self.online_reads.values((entity_id,), features, _one_each(request_data))[0]

    def get_online_features_batch(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Returns what is visible now of several entities, one dict each, in order; see `get_online_features`.

        Request data are one value per entity.
        """
        return self.online_reads.values(entity_ids, features, request_data)

    def get_online_features_frame(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """Returns the same as a Polars frame: one row per entity id, in order, `entity_id` and a column per label.

        Columns have the types of their features, whatever is null. `.to_arrow()` gives an Arrow table without a copy,
        `.to_numpy()` an array.
        """
        return self.online_reads.frame(entity_ids, features, request_data)

    def get_online_statuses(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, FeatureState]]:
        """Returns the values with the reason for each: present, null, missing or expired, and the row's times.

        On-demand features are `present`, or `null`, and have no times: they are computed, and stand in no row.
        """
        return self.online_reads.states(entity_ids, features, request_data)

    async def aget_online_features(
        self,
        entity_id: str,
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Does what `get_online_features` does, without blocking the event loop."""
        return (await self.online_reads.avalues((entity_id,), features, _one_each(request_data)))[0]

    async def aget_online_features_batch(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Does what `get_online_features_batch` does, without blocking the event loop."""
        return await self.online_reads.avalues(entity_ids, features, request_data)

    async def aget_online_features_frame(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """Does what `get_online_features_frame` does, without blocking the event loop."""
        return await self.online_reads.aframe(entity_ids, features, request_data)

    async def aget_online_statuses(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, FeatureState]]:
        """Does what `get_online_statuses` does, without blocking the event loop."""
        return await self.online_reads.astates(entity_ids, features, request_data)

    def get_offline_features(
        self,
        entity_ids: Sequence[str],
        feature_names: Sequence[str] | FeatureService,
        as_of_timestamps: Sequence[datetime],
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """Returns what was visible of entities at given times: one row per pair, in order.

        Args:
            entity_ids: Entity ids, duplicates welcome.
            feature_names: References, names of feature groups and of on-demand features, of one entity; or a feature
                service.
            as_of_timestamps: One instant per entity id (aware, or naive in UTC), none after the store's present.
            request_data: What on-demand features needed to know of each request, by name: one value per entity id.
            strict: Leave out rows that were ingested after the instant: what the store could have known then.
            progress: Told now and then how far each group is; what it raises ends the read.

        Returns:
            Columns `entity_id`, `as_of_timestamp` and one per feature; null where nothing was visible.

        Raises:
            InvalidRequestError: If the lists differ in length, an id is malformed, an element is null, an instant lies
                in the future, or request data are missing or of another type.
            UnknownFeatureError: If a feature is not registered.
        """
        import polars as pl

        from feature_store.frames import key_frame, timestamp_series
        from feature_store.transform.on_demand import answer_offline

        catalog = self.catalog()
        resolution = self.resolve(feature_names)
        entity = catalog.entity_of(resolution.selections)
        if len(entity_ids) != len(as_of_timestamps):
            raise InvalidRequestError(
                f"{len(entity_ids)} entity ids but {len(as_of_timestamps)} as-of timestamps: give one per entity id."
            )
        labels = key_frame(entity, entity_ids).with_columns(timestamp_series(AS_OF_TIMESTAMP, as_of_timestamps))
        joined = self._joined(labels, AS_OF_TIMESTAMP, catalog, resolution, strict=strict, progress=progress)
        answers = answer_offline(resolution, joined, request_data or {})
        return joined.select(pl.Series(ENTITY_ID, entity_ids, dtype=pl.String), AS_OF_TIMESTAMP, *answers)

    def training_set(
        self,
        labels: Any,
        features: Sequence[str] | FeatureService,
        *,
        as_of: str = "event_timestamp",
        strict: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """Joins to each label what was visible at its time: point-in-time correct, no value from after the label.

        Args:
            labels: A Polars, Arrow or pandas table: the join keys of all entities whose features are asked for, the
                time column, and any other columns. Columns of the names of request data are the request data of
                on-demand features.
            features: References, names of feature groups and of on-demand features, of one or several entities; or a
                feature service.
            as_of: The time column (aware, or naive in UTC), never after the store's present.
            strict: Leave out rows that were ingested after the label's time: what the store could have known then.
            progress: Told now and then how far each group is; what it raises ends the read.

        Returns:
            The label frame untouched, one row per row in order, and one column per feature.

        Raises:
            InvalidRequestError: If a key or time is null or missing, a time lies in the future, or a label column has
                a feature's name.
            UnknownFeatureError: If a feature is not registered.
        """
        from feature_store.frames import to_polars

        catalog = self.catalog()
        resolution = self.resolve(features)
        frame = to_polars(labels)
        joined = self._joined(frame, as_of, catalog, resolution, strict=strict, progress=progress)
        if not resolution.computations:
            return joined
        from feature_store.transform.on_demand import compute_offline

        return compute_offline(resolution, frame, joined)

    def _joined(
        self,
        labels: pl.DataFrame,
        as_of: str,
        catalog: Catalog,
        resolution: Resolution,
        *,
        strict: bool,
        progress: Progress | None,
    ) -> pl.DataFrame:
        from feature_store.offline.point_in_time.join import point_in_time_join

        now = self.clock.now()
        return point_in_time_join(
            self.offline,
            catalog,
            labels,
            as_of,
            resolution.selections,
            self.engine,
            strict=strict,
            now=now,
            progress=progress,
        )

    def join_files(
        self,
        labels: str | Path,
        features: Sequence[str] | FeatureService,
        output: str | Path,
        *,
        as_of: str = "event_timestamp",
        strict: bool = False,
    ) -> JoinedFiles:
        """Does what `training_set` does for labels that no one machine holds: on Spark, from Parquet into Parquet.

        Args:
            labels: Parquet file or folder of the labels, local or `s3://`.
            features: References and names of feature groups, or a feature service of them.
            output: Folder that is made for the answer; it is complete once it holds `_SUCCESS`.
            as_of: The time column (aware, or naive in UTC), never after the store's present.
            strict: Leave out rows that were ingested after the label's time.

        Raises:
            InvalidRequestError: If the labels cannot be answered, on-demand features are asked for, or the output is
                finished already.
            UnknownFeatureError: If a feature is not registered.
            SettingsError: If pyspark is not installed.
        """
        from feature_store.spark.training_sets import join_files

        resolution = self.resolve(features)
        if resolution.computations:
            names = ", ".join(item.functions.name for item in resolution.computations)
            raise InvalidRequestError(
                f"{names}: on-demand features are computed from the answer, ask for their inputs."
            )
        return join_files(
            self.offline,
            self.catalog(),
            labels,
            as_of,
            resolution.selections,
            output,
            strict=strict,
            now=self.clock.now(),
            spark_conf=self._spark_conf,
        )

    def write_training_set(
        self,
        definition: TrainingSet,
        span: Window | None = None,
        *,
        new_version: bool = False,
        progress: Progress | None = None,
    ) -> WrittenTrainingSet:
        """Builds a training set and keeps it as an immutable version; equal inputs give the version that exists.

        A set in partitions is built partition by partition: those that its open version lacks are added to it. Once
        built, a partition stays as it is, whatever becomes of its inputs; the result tells which ones have changed.

        Args:
            definition: The training set.
            span: Whole partitions; by default all whose labels are complete. Only for a set in partitions.
            new_version: Open a new version that has all partitions of the open one as its inputs are now. Partitions
                whose inputs are the same are taken over, not computed. Only for a set in partitions.
            progress: Told now and then how far the build is. What it raises ends the build, and leaves nothing.

        Raises:
            UnknownFeatureError: If a feature is neither registered nor defined on demand.
            InvalidRequestError: If the labels cannot be joined (none, nulls, in the future, wrong dtypes, clashing
                names), or the span is not one of the set's partitions with complete labels.
            CorruptFileError: If a file of the offline store that is needed is damaged.
        """
        from feature_store.training_sets.building import Builder

        builder = Builder(
            catalog=self.refresh(),
            offline=self.offline,
            registry=self.registry,
            engine=self.engine,
            clock=self.clock,
            on_demand=self._on_demand(),
            progress=progress,
        )
        return builder.build(definition, span, new_version=new_version)

    def open_training_set(self, name: str, version: int | None = None) -> TrainingSetVersion:
        """Returns a version of a training set that was written, the latest by default.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            CorruptFileError: If a manifest of it is damaged.
        """
        from feature_store.training_sets.versions import open_version

        return open_version(self.offline.root, name, version)

    def rebuild_training_set(
        self, name: str, version: int | None = None, *, definition: TrainingSet | None = None
    ) -> RebuiltTrainingSet:
        """Rebuilds a version from its manifest, and finds the same bytes or the input that has changed.

        Files of the version that are missing or damaged are put back in place.

        Args:
            name: The training set.
            version: Its version; None for the latest.
            definition: Gives the labels anew, to be compared too. By default they are taken from the version's rows.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            TrainingSetChangedError: If source files, features, times to live, on-demand code or labels have changed.
        """
        from feature_store.training_sets.rebuilding import Rebuilder

        rebuilder = Rebuilder(self.refresh(), self.offline, self.engine, self.clock.now(), self._on_demand())
        return rebuilder.rebuild(self.open_training_set(name, version), definition)

    def verify_training_set(
        self,
        name: str,
        version: int | None = None,
        *,
        rows: int = 1000,
        seed: int = 0,
        partitions: Collection[str] | None = None,
    ) -> LeakReport:
        """Compares sampled rows of a version with the rule of visibility, from the raw files and in plain Python.

        Args:
            name: The training set.
            version: Its version; None for the latest.
            rows: How many rows to sample.
            seed: Chooses them.
            partitions: Only rows of these partitions.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            InvalidRequestError: If a partition is not built, or no row is asked for.
        """
        from feature_store.training_sets.verification import verify

        found = self.open_training_set(name, version)
        return verify(found, self.offline, rows=rows, seed=seed, partitions=partitions)

    def compare_training_sets(self, before: str, after: str) -> TrainingSetDiff:
        """Returns what differs between two versions, each written `name:vN`, or `name` for the latest.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            InvalidRequestError: If a reference is malformed, or the rows cannot be told apart by the same columns.
        """
        from feature_store.training_sets.comparison import compare
        from feature_store.training_sets.versions import parse_reference

        one, other = (self.open_training_set(*parse_reference(text)) for text in (before, after))
        return compare(one, other)

    def _on_demand(self) -> Collection[OnDemandFeatures]:
        return self.definitions.on_demand.values() if self._definitions else ()

    def explain(self, entity_id: str, feature: str, at: datetime | None = None) -> Explanation:
        """Tells why a feature has its value: the row, its file and run, the rows that lost, and what is online.

        Args:
            entity_id: The entity's id.
            feature: One feature, `arr_delay_mean_7d` or `arr_delay_mean_7d:v1`.
            at: The instant (aware, or naive in UTC); None for now. Only now can the online value be compared.

        Raises:
            UnknownFeatureError: If the feature is not registered.
            InvalidRequestError: If a group is named, or the entity id is malformed.
            CorruptFileError: If a file of the offline store is damaged.
        """
        from feature_store.explain import explain

        return explain(
            entity_id,
            feature,
            at,
            catalog=self.catalog(),
            offline=self.offline,
            online=self.online_reads.state,
            clock=self.clock,
        )

    def push_online(self, group: FeatureGroup | str) -> WriteReport:
        """Fills the online store from the offline store: the latest visible row of each entity, nothing computed.

        For an online store that has lost keys, or a new one. Beside running writers it is harmless: the newest row
        wins. Memory is bounded by one day of rows and the join keys of all visible entities.

        Args:
            group: A registered feature group, or its name.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer; pushing again completes what was cut off.
        """
        from feature_store.reconcile.refill import push_online

        self._publish_if_needed()
        record = self.catalog().group(group) if isinstance(group, str) else self.registered(group)
        return push_online(record, offline=self.offline, online=self.online, clock=self.clock)

    def sample_online(self, group: FeatureGroup | str, *, turn: int = 0) -> OnlineSample:
        """Looks up some entities online that must be visible now by the offline store; see `reconcile.online_sample`.

        Args:
            group: A registered feature group, or its name.
            turn: Another number looks at other entities.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer.
        """
        from feature_store.reconcile.online_sample import sample_online

        record = self.catalog().group(group) if isinstance(group, str) else self.registered(group)
        return sample_online(
            record, catalog=self.catalog(), offline=self.offline, online=self.online, clock=self.clock, turn=turn
        )


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


def _one_each(request_data: Mapping[str, Any] | None) -> dict[str, list[Any]] | None:
    return None if request_data is None else {name: [value] for name, value in request_data.items()}


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
