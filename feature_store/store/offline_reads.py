"""`OfflineReads`: what was visible of entities at given times, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from feature_store.catalog import Catalog
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.names import AS_OF_TIMESTAMP, ENTITY_ID
from feature_store.errors import InvalidRequestError
from feature_store.explain import Explanation, explain
from feature_store.frames import key_frame, timestamp_series, to_polars
from feature_store.offline.point_in_time.engine import Progress
from feature_store.offline.point_in_time.join import point_in_time_join, with_defaults
from feature_store.resolution import Resolution
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts

if TYPE_CHECKING:
    import duckdb

    from feature_store.spark.training_sets import JoinedFiles


@dataclass(frozen=True, slots=True)
class OfflineReads:
    """Reads the offline store as of any time.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def features(
        self,
        entity_ids: Sequence[str],
        feature_names: Sequence[str] | FeatureService,
        as_of_timestamps: Sequence[datetime],
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """Returns what was visible of entities at given times; see `FeatureStore.get_offline_features`."""
        from feature_store.transform.on_demand import answer_offline

        catalog = self.catalog.read()
        resolution = self.catalog.resolve(feature_names)
        entity = catalog.entity_of(resolution.selections)
        if len(entity_ids) != len(as_of_timestamps):
            raise InvalidRequestError(
                f"{len(entity_ids)} entity ids but {len(as_of_timestamps)} as-of timestamps: give one per entity id."
            )
        labels = key_frame(entity, entity_ids).with_columns(timestamp_series(AS_OF_TIMESTAMP, as_of_timestamps))
        joined = self._joined(labels, AS_OF_TIMESTAMP, catalog, resolution, strict=strict, progress=progress)
        answers = answer_offline(resolution, joined, request_data or {})
        return joined.select(pl.Series(ENTITY_ID, entity_ids, dtype=pl.String), AS_OF_TIMESTAMP, *answers)

    def join(
        self,
        labels: Any,
        features: Sequence[str] | FeatureService,
        *,
        as_of: str,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """Joins to each label what was visible at its time; see `FeatureStore.training_set`."""
        catalog = self.catalog.read()
        resolution = self.catalog.resolve(features)
        frame = to_polars(labels)
        joined = self._joined(frame, as_of, catalog, resolution, strict=strict, progress=progress)
        if not resolution.computations:
            return joined
        from feature_store.transform.on_demand import compute_offline

        return compute_offline(resolution, frame, joined)

    def join_files(
        self,
        labels: str | Path,
        features: Sequence[str] | FeatureService,
        output: str | Path,
        *,
        as_of: str,
        strict: bool = False,
    ) -> JoinedFiles:
        """Does what `join` does on Spark, from Parquet into Parquet; see `FeatureStore.join_files`."""
        from feature_store.spark.training_sets import join_files

        resolution = self.catalog.resolve(features)
        if resolution.computations:
            names = ", ".join(item.functions.name for item in resolution.computations)
            raise InvalidRequestError(
                f"{names}: on-demand features are computed from the answer, ask for their inputs."
            )
        return join_files(
            self.parts.offline,
            self.catalog.read(),
            labels,
            as_of,
            resolution.selections,
            output,
            strict=strict,
            now=self.parts.clock.now(),
            spark_conf=self.parts.spark_conf,
        )

    def explain(self, entity_id: str, feature: str, at: datetime | None = None) -> Explanation:
        """Tells why a feature has its value; see `FeatureStore.explain`."""
        return explain(
            entity_id,
            feature,
            at,
            catalog=self.catalog.read(),
            offline=self.parts.offline,
            online=self.parts.online_reads.state,
            clock=self.parts.clock,
        )

    def connect_sql(self) -> duckdb.DuckDBPyConnection:
        """Returns a DuckDB connection with the views of the offline store; see `FeatureStore.connect_sql`."""
        import duckdb

        return self.parts.offline.connect_views(self.catalog.read(), duckdb.connect())

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
        joined = point_in_time_join(
            self.parts.offline,
            catalog,
            labels,
            as_of,
            resolution.selections,
            self.parts.engine,
            strict=strict,
            now=self.parts.clock.now(),
            progress=progress,
        )
        return with_defaults(joined, resolution.selections)
