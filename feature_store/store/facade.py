"""`FeatureStore`: the verbs of a feature store.

Each says what it does, and asks the object that does it. Online reads stand in `store.online_reader`, opening and
closing in `store.opening`; what is asked for seldom stands in those objects alone (`store.training_sets.rebuild`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.feature_service import FeatureService
from feature_store.store.online_reader import OnlineReader

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from feature_store.changes.settling import SettlingReport
    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.names import FeatureRef
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.explain import Explanation
    from feature_store.monitoring.consistency import ConsistencyReport
    from feature_store.monitoring.online_monitor import OnlineMonitorReport
    from feature_store.monitoring.replay import ReplayReport
    from feature_store.offline.point_in_time.engine import Progress
    from feature_store.offline.stream_files import CompactionReport, StreamFiles
    from feature_store.online.writer import WriteReport
    from feature_store.partitions import Window
    from feature_store.reconcile.online_sample import OnlineSample
    from feature_store.registry.records import ApplyReport
    from feature_store.spark.training_sets import JoinedFiles
    from feature_store.streaming.drainer import Drainer
    from feature_store.streaming.metrics import StreamMetrics
    from feature_store.streaming.settings import StreamSettings
    from feature_store.streaming.streamer import Streamer
    from feature_store.training_sets.comparison import TrainingSetDiff
    from feature_store.training_sets.leak_guard import LeakReport
    from feature_store.training_sets.versions import TrainingSetVersion, WrittenTrainingSet
    from feature_store.transform.ingestion import IngestReport
    from feature_store.transform.reports import MaterializationReport
    from feature_store.transform.reports import Progress as MaterializationProgress


class FeatureStore(OnlineReader):
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

    def catalog(self) -> Catalog:
        """Returns what is registered, read again from the registry every few seconds."""
        return self.current_catalog.read()

    def registered(self, group: FeatureGroup) -> RegisteredGroup:
        """Returns what is registered of a group.

        Raises:
            UnknownFeatureError: If the group, or one of its features, has not been applied.
            RegistryConflictError: If its schema lacks a live feature: what is not computed would overwrite history.
        """
        return self.current_catalog.bind(group).registered

    def apply(self, groups: Sequence[FeatureGroup]) -> ApplyReport:
        """Registers feature groups: all of them, or none.

        Raises:
            RegistryConflictError: If a live feature would change its dtype, entity or group, or its group's schema
                lacks it.
        """
        return self.registration.apply(groups)

    def retire(self, ref: FeatureRef) -> None:
        """Retires a version of a feature: it leaves the catalog, for good. Retiring it again changes nothing.

        Raises:
            UnknownFeatureError: If it is not registered.
        """
        self.registration.retire(ref)

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
            InvalidRowsError: If rows of partitions are rejected; these are named, all others are written.
            TransformError: If the function raises on partitions; these are named, all others are written.
            OnlineStoreError: If the online store fails; the files are written, a second run completes the push.
        """
        return self.writes.materialize(group, first, last, run_id=run_id, progress=progress)

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
        return self.writes.ingest(group, frame)

    def compact(self, group: FeatureGroup, *, grace: timedelta = timedelta(hours=1)) -> CompactionReport:
        """Folds what ingest, pushes and streams have left as files, and removes what was folded a while ago.

        Args:
            group: An applied feature group.
            grace: Files of streams that were folded stay so long, for those who had listed them; a second at least.

        Raises:
            InvalidRequestError: If `grace` is less than a second.
        """
        return self.streams.compact(group, grace=grace)

    def streamer(
        self, group: FeatureGroup, stream: EventStream, settings: StreamSettings, metrics: StreamMetrics | None = None
    ) -> Streamer:
        """Returns what runs a group on its stream of events, see `streaming.streamer`; call its `run`."""
        return self.streams.streamer(group, stream, settings, metrics)

    def drainer(self, group: FeatureGroup, settings: StreamSettings) -> Drainer:
        """Returns what carries a group's rows from its topic into the offline store, see `streaming.drainer`."""
        return self.streams.drainer(group, settings)

    def stream_files(self, group: FeatureGroup) -> StreamFiles:
        """Returns the files that streams have written for a group: to fold them, see `offline.stream_files`."""
        return self.streams.files(group)

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
        return self.offline_reads.features(
            entity_ids, feature_names, as_of_timestamps, request_data=request_data, strict=strict, progress=progress
        )

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
        return self.offline_reads.join(labels, features, as_of=as_of, strict=strict, progress=progress)

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
        return self.offline_reads.join_files(labels, features, output, as_of=as_of, strict=strict)

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
        return self.offline_reads.explain(entity_id, feature, at)

    def connect_sql(self) -> duckdb.DuckDBPyConnection:
        """Returns a DuckDB connection with a view of each group, and `feature_value`; see `offline.views`."""
        return self.offline_reads.connect_sql()

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
        return self.training_sets.write(definition, span, new_version=new_version, progress=progress)

    def open_training_set(self, name: str, version: int | None = None) -> TrainingSetVersion:
        """Returns a version of a training set that was written, the latest by default.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            CorruptFileError: If a manifest of it is damaged.
        """
        return self.training_sets.open(name, version)

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
        return self.training_sets.verify(name, version, rows=rows, seed=seed, partitions=partitions)

    def compare_training_sets(self, before: str, after: str) -> TrainingSetDiff:
        """Returns what differs between two versions, each written `name:vN`, or `name` for the latest.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            InvalidRequestError: If a reference is malformed, or the rows cannot be told apart by the same columns.
        """
        return self.training_sets.compare(before, after)

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
        return self.monitor.check_consistency(group, entities=entities, turn=turn, entity_ids=entity_ids)

    def run_monitor(self, group: FeatureGroup, *, entities: int = 1000) -> OnlineMonitorReport:
        """Measures a sample of a group's online values, records it in the registry, and judges it.

        Args:
            group: An applied feature group.
            entities: Entities to sample, by a hash of their keys.

        Raises:
            OnlineStoreError: If the online store does not answer; nothing is recorded then.
        """
        return self.monitor.run(group, entities=entities)

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
        return self.monitor.replay_requests(groups=groups, since=since, folder=folder)

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
        return self.online_repair.push(group)

    def sample_online(self, group: FeatureGroup | str, *, turn: int = 0) -> OnlineSample:
        """Looks up some entities online that must be visible now by the offline store; see `reconcile.online_sample`.

        Args:
            group: A registered feature group, or its name.
            turn: Another number looks at other entities.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer.
        """
        return self.online_repair.sample(group, turn=turn)

    def repair_online(self, group: str) -> SettlingReport:
        """Makes the online store answer what the offline store says now, removals included.

        It is safe beside running writers; see `reconcile.repair`.

        Args:
            group: Name of the feature group.

        Raises:
            UnknownFeatureError: If the group is not registered.
            OnlineStoreError: If the online store does not answer; to repair again completes the work.
        """
        return self.online_repair.repair(group)
