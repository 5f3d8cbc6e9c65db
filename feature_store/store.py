"""FeatureStore: the facade over definitions, registry, offline and online store.

It wires the parts together and holds no logic of its own. Parts are opened at their first use, so that a model server
that only reads online never imports Polars.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from feature_store.catalog import Catalog, Group
from feature_store.clock import Clock, SystemClock, parse_clock
from feature_store.definitions.names import ENTITY_ID
from feature_store.errors import InvalidRequestError, UnknownFeatureError
from feature_store.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.offline.point_in_time.engine import PointInTimeEngine
    from feature_store.offline.store import OfflineStore
    from feature_store.online.store import OnlineStore
    from feature_store.partitions import Window
    from feature_store.registry.records import ApplyReport
    from feature_store.registry.registry import Registry
    from feature_store.training_sets import WrittenTrainingSet
    from feature_store.transform.ingestion import IngestReport
    from feature_store.transform.materialization import MaterializedPass

CATALOG_SECONDS = 10.0
"""How long a process trusts the catalog that it has read, before it looks again which versions are current."""


class FeatureStore:
    """A feature store: registers groups, writes their rows, reads them as of any time.

    Args:
        offline: The offline store, or its root: a folder or `s3://` prefix.
        online: The online store, or its URL; None for the embedded server.
        registry: The registry, or its SQLAlchemy URL.
        clock: Tells the present; the wall clock by default.
        engine: Engine of point-in-time reads, or its name.
    """

    def __init__(
        self,
        offline: OfflineStore | str | Path,
        online: OnlineStore | str | None,
        registry: Registry | str,
        clock: Clock | None = None,
        engine: PointInTimeEngine | str = "duckdb",
    ) -> None:
        self.clock = clock or SystemClock()
        self._offline = offline
        self._online = online
        self._registry = registry
        self._engine = engine
        self._catalog: Catalog | None = None
        self._catalog_read_at = float("-inf")

    @classmethod
    def from_env(cls) -> FeatureStore:
        """Returns the store that the settings name (`FEATURE_STORE_*`, or `.env`); see `Settings`."""
        settings = Settings.from_env()
        return cls(
            offline=settings.offline,
            online=settings.online,
            registry=settings.registry,
            clock=parse_clock(settings.clock),
            engine=settings.engine,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that this store has opened."""
        for part in ("online", "registry"):
            if part in self.__dict__:
                self.__dict__.pop(part).close()

    @cached_property
    def offline(self) -> OfflineStore:
        """The offline store."""
        from feature_store.offline.store import OfflineStore

        return OfflineStore(self._offline) if isinstance(self._offline, (str, Path)) else self._offline

    @cached_property
    def online(self) -> OnlineStore:
        """The online store; the embedded server is started if none is named."""
        from feature_store.online.store import OnlineStore

        if self._online is None or isinstance(self._online, str):
            return OnlineStore.connect(self._online, self.clock)
        return self._online

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        from feature_store.registry.registry import Registry

        return Registry(self._registry, self.clock) if isinstance(self._registry, str) else self._registry

    @cached_property
    def engine(self) -> PointInTimeEngine:
        """The engine of point-in-time reads."""
        from feature_store.offline.point_in_time.engines import engine_named

        return engine_named(self._engine) if isinstance(self._engine, str) else self._engine

    def catalog(self) -> Catalog:
        """Returns what is registered, read again from the registry every few seconds."""
        now = time.monotonic()
        if self._catalog is None or now - self._catalog_read_at > CATALOG_SECONDS:
            self._catalog = self.registry.catalog()
            self._catalog_read_at = now
        return self._catalog

    def refresh(self) -> Catalog:
        """Reads the catalog again at once."""
        self._catalog = None
        return self.catalog()

    def apply(self, groups: Sequence[FeatureGroup]) -> ApplyReport:
        """Registers feature groups: all of them, or none.

        Raises:
            RegistryConflictError: If a live feature would change its dtype, entity or group.
        """
        report = self.registry.apply(groups)
        self._catalog = None
        return report

    def registered(self, group: FeatureGroup) -> Group:
        """Returns the record of a group, as applied.

        Raises:
            UnknownFeatureError: If the group, or one of its features, has not been applied.
        """
        declared = {spec.ref for spec in group.features}
        for attempt in range(2):
            record = (self.catalog() if attempt == 0 else self.refresh()).group(group.name)
            if declared <= {feature.ref for feature in record.features}:
                return record
        unapplied = sorted(str(ref) for ref in declared - {feature.ref for feature in record.features})
        raise UnknownFeatureError(
            f"Feature group {group.name!r} declares {', '.join(unapplied)}, not registered (or retired): "
            "run `feature-store apply`."
        )

    def materialize(self, group: FeatureGroup, span: Window, *, run_id: str = "") -> Iterator[MaterializedPass]:
        """Computes a group's partitions and writes them to both stores; see `transform.materialization`.

        Args:
            group: An applied feature group.
            span: Whole partitions, for instance `group.partitioning.span("2013-01-01", "2013-01-31")`.
            run_id: Kept in the files' metadata.

        Yields:
            One report per pass of up to 92 partitions.
        """
        from feature_store.transform.materialization import materialize

        return materialize(
            group,
            span,
            record=self.registered(group),
            offline=self.offline,
            online=self.online,
            clock=self.clock,
            run_id=run_id,
        )

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

        return ingest(
            group,
            frame,
            record=self.registered(group),
            offline=self.offline,
            online=self.online,
            clock=self.clock,
        )

    def get_online_features(self, entity_id: str, features: Sequence[str]) -> dict[str, Any]:
        """Returns what is visible now of one entity.

        Args:
            entity_id: The entity's id; see `Entity.entity_id`.
            features: References (`seats`, `seats:v1`) and names of feature groups, of one entity.

        Returns:
            Value by label, in order: the reference as given; for a group the names of its features. None where
            the value is null, unknown, or past its time to live. Timestamps are aware UTC datetimes, embeddings
            lists of floats.

        Raises:
            UnknownFeatureError: If a feature is not registered.
            InvalidRequestError: If the features describe several entities, or the id is malformed.
            OnlineStoreError: If the online store does not answer.
        """
        return self.get_online_features_batch([entity_id], features)[0]

    def get_online_features_batch(self, entity_ids: Sequence[str], features: Sequence[str]) -> list[dict[str, Any]]:
        """Returns what is visible now of several entities, one dict each, in order; see `get_online_features`."""
        catalog = self.catalog()
        selections = catalog.select(features)
        entity = catalog.entity_of(selections)
        for entity_id in entity_ids:
            entity.keys_of(entity_id)
        return self.online.read(entity_ids, selections, catalog)

    def get_offline_features(
        self, entity_ids: Sequence[str], feature_names: Sequence[str], as_of_timestamps: Sequence[datetime]
    ) -> pl.DataFrame:
        """Returns what was visible of entities at given times: one row per pair, in order.

        Args:
            entity_ids: Entity ids, duplicates welcome.
            feature_names: References and names of feature groups, of one entity.
            as_of_timestamps: One instant per entity id (aware, or naive in UTC).

        Returns:
            Columns `entity_id`, `as_of_timestamp` and one per feature; null where nothing was visible.

        Raises:
            InvalidRequestError: If the lists differ in length, an id is malformed or an element is null.
            UnknownFeatureError: If a feature is not registered.
        """
        import polars as pl

        from feature_store.offline.point_in_time.join import point_in_time_join

        catalog = self.catalog()
        selections = catalog.select(feature_names)
        entity = catalog.entity_of(selections)
        if len(entity_ids) != len(as_of_timestamps):
            raise InvalidRequestError(
                f"{len(entity_ids)} entity ids but {len(as_of_timestamps)} as-of timestamps: give one per entity id."
            )
        from feature_store.frames import key_frame, timestamp_series

        keys = key_frame(entity, entity_ids)
        labels = keys.with_columns(timestamp_series("as_of_timestamp", as_of_timestamps))
        joined = point_in_time_join(self.offline, catalog, labels, "as_of_timestamp", selections, self.engine)
        return joined.select(
            pl.Series(ENTITY_ID, entity_ids, dtype=pl.String), "as_of_timestamp", *(item.label for item in selections)
        )

    def training_set(self, labels: Any, features: Sequence[str], *, as_of: str = "event_timestamp") -> pl.DataFrame:
        """Joins to each label what was visible at its time: point-in-time correct, no value from after the label.

        Args:
            labels: A Polars, Arrow or pandas table: the join keys of all entities whose features are asked for, the
                time column, and any other columns.
            features: References and names of feature groups, of one or several entities.
            as_of: The time column (aware, or naive in UTC).

        Returns:
            The label frame untouched, one row per row in order, and one column per feature.

        Raises:
            InvalidRequestError: If a key or time is null or missing, or a label column has a feature's name.
            UnknownFeatureError: If a feature is not registered.
        """
        from feature_store.frames import to_polars
        from feature_store.offline.point_in_time.join import point_in_time_join

        catalog = self.catalog()
        selections = catalog.select(features)
        return point_in_time_join(self.offline, catalog, to_polars(labels), as_of, selections, self.engine)

    def write_training_set(self, definition: TrainingSet) -> WrittenTrainingSet:
        """Builds a training set and keeps it as an immutable version; equal inputs give the version that exists."""
        from feature_store.training_sets import write_training_set

        return write_training_set(
            definition,
            catalog=self.refresh(),
            offline=self.offline,
            registry=self.registry,
            engine=self.engine,
            clock=self.clock,
        )
