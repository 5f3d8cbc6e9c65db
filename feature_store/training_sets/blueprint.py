"""A training set's definition, resolved against what is registered: all that is known before a label is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import TrainingSet
from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress
from feature_store.offline.point_in_time.join import point_in_time_join, with_defaults
from feature_store.offline.store import OfflineStore
from feature_store.resolution import Resolution, resolve
from feature_store.training_sets import splits
from feature_store.training_sets.manifest import Manifest, Part, QueryRecord, StoredFeature
from feature_store.transform.on_demand import compute_offline


class JoinedRows(NamedTuple):
    """Labels with their features.

    Attributes:
        rows: The rows of the training set.
        defaulted: A column for each feature that declares a default: where it stands for null.
    """

    rows: pl.DataFrame
    defaulted: pl.DataFrame

    def slice(self, start: int, height: int) -> JoinedRows:
        """Returns some of the rows."""
        return JoinedRows(self.rows.slice(start, height), self.defaulted.slice(start, height))

    def filter(self, mask: pl.Series) -> JoinedRows:
        """Returns the rows for which a mask is true."""
        return JoinedRows(
            self.rows.filter(mask), self.defaulted.filter(mask) if self.defaulted.width else self.defaulted
        )

    def stored(self, label: str) -> pl.Series:
        """Returns the values of a feature with null where its default stands."""
        values = self.rows[label]
        if label not in self.defaulted.columns:
            return values
        return values.zip_with(~self.defaulted[label], pl.Series([None], dtype=values.dtype))

    def counts(self) -> dict[str, int]:
        """Returns in how many rows the default of each feature stands."""
        return {label: int(mask.sum()) for label, mask in self.defaulted.to_dict().items()}


@dataclass(frozen=True)
class Blueprint:
    """What is to be built.

    Attributes:
        definition: The training set as its user defines it.
        catalog: What is registered.
        resolution: The features that it asks for.
    """

    definition: TrainingSet
    catalog: Catalog
    resolution: Resolution

    @classmethod
    def of(cls, definition: TrainingSet, catalog: Catalog, on_demand: Iterable[OnDemandFeatures]) -> Blueprint:
        """Resolves a definition.

        Raises:
            UnknownFeatureError: If a feature is neither registered nor defined on demand.
        """
        return cls(definition, catalog, resolve(catalog, definition.features, on_demand))

    @cached_property
    def groups(self) -> tuple[RegisteredGroup, ...]:
        """The feature groups that are read."""
        names = dict.fromkeys(selection.feature.group for selection in self.resolution.selections)
        return tuple(self.catalog.group(name) for name in names)

    @cached_property
    def stored(self) -> dict[str, StoredFeature]:
        """Label to the stored feature that is read for it."""
        return {
            selection.label: StoredFeature(
                reference=str(selection.feature.ref),
                dtype=str(selection.feature.dtype),
                group=selection.feature.group,
                column=selection.feature.ref.column,
                join_keys=tuple(self.catalog.group(selection.feature.group).entity.join_keys),
                ttl_seconds=selection.feature.online_ttl_seconds,
                window=selection.feature.window,
                default=selection.feature.default_json,
            )
            for selection in self.resolution.selections
        }

    @cached_property
    def features(self) -> dict[str, str]:
        """Label to reference of the features that become columns, in order."""
        computed = {
            label: str(FeatureRef.from_column(column))
            for computation in self.resolution.computations
            for label, column in computation.outputs.items()
        }
        return {label: computed.get(label) or self.stored[label].reference for label in self.resolution.labels}

    @cached_property
    def on_demand(self) -> dict[str, str]:
        """Function of on-demand features to the version of its code."""
        return {each.functions.name: each.functions.code_version for each in self.resolution.computations}

    @property
    def libraries(self) -> dict[str, str]:
        """The distributions that functions of labels and on-demand features use, sorted, with their versions."""
        found = dict(self.definition.labels_libraries)
        for computation in self.resolution.computations:
            found |= computation.functions.libraries
        return dict(sorted(found.items()))

    @property
    def code_versions(self) -> dict[str, str]:
        """Feature group to the version of its code that is registered."""
        return {group.name: group.code_version for group in self.groups}

    def identity(self, **inputs: Any) -> str:
        """Returns a digest of the definition as it decides the rows, and of further inputs."""
        content = {
            "as_of": self.definition.as_of,
            "features": list(self.features.items()),
            "stored": self.stored,
            "on_demand": self.on_demand,
            "splits": splits.record(self.definition.splits),
            **inputs,
        }
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()

    def join(
        self, labels: pl.DataFrame, offline: OfflineStore, engine: PointInTimeEngine, progress: Progress | None
    ) -> JoinedRows:
        """Returns labels with the features that were visible at each one's time."""
        as_of = self.definition.as_of
        return join_features(labels, as_of, self.resolution, self.catalog, offline, engine, progress)

    def manifest(
        self,
        *,
        identity: str,
        columns: dict[str, str],
        query: QueryRecord | None,
        now: datetime,
        part: Part | None,
    ) -> Manifest:
        """Returns the manifest of a version that is built so; its number is given when it is published."""
        definition = self.definition
        return Manifest(
            name=definition.name,
            version=0,
            identity=identity,
            created_at=now,
            as_of=definition.as_of,
            columns=columns,
            features=self.features,
            stored=self.stored,
            on_demand=self.on_demand,
            labels_code_version=definition.labels_code_version,
            label_query=query,
            splits=splits.record(definition.splits),
            partitioning=None if definition.partitioning is None else definition.partitioning.value,
            part=part,
        )


def join_features(  # labels, what to join, and on which parts
    labels: pl.DataFrame,
    as_of: str,
    resolution: Resolution,
    catalog: Catalog,
    offline: OfflineStore,
    engine: PointInTimeEngine,
    progress: Progress | None = None,
) -> JoinedRows:
    """Returns labels with the features, stored and on demand, that were visible at each one's time."""
    stored = point_in_time_join(offline, catalog, labels, as_of, resolution.selections, engine, progress=progress)
    joined = with_defaults(stored, resolution.selections)
    rows = compute_offline(resolution, labels, joined) if resolution.computations else joined
    defaulted = stored.select(
        pl.col(selection.label).is_null()
        for selection in resolution.selections
        if selection.feature.default_json is not None and selection.label in rows.columns
    )
    return JoinedRows(rows, defaulted)
