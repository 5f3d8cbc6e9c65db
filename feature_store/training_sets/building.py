"""Builds training sets: labels -> checks -> point-in-time join -> splits -> files, and shows the result in one rename.

The way of a set that is built as a whole, and the record in the registry of every set; partitions go their own way in
`partitioned`, the steps that both share are in `assembly`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from feature_store.catalog import Catalog
from feature_store.clock import Clock
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import TrainingSet
from feature_store.definitions.values import value_of_json
from feature_store.errors import InvalidRequestError
from feature_store.frame_fingerprint import fingerprint
from feature_store.monitoring.baseline import profile_columns
from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.registry.records import TrainingSetRecord
from feature_store.registry.registry import Registry
from feature_store.rows.polars_schema import series_of_values
from feature_store.storage.location import storage_of
from feature_store.training_sets import publishing
from feature_store.training_sets.assembly import Assembly, column_types
from feature_store.training_sets.blueprint import Blueprint
from feature_store.training_sets.inputs import SourceFiles
from feature_store.training_sets.labels import no_labels, query_record, read_labels
from feature_store.training_sets.partitioned import build_partitions
from feature_store.training_sets.splits import assign
from feature_store.training_sets.versions import (
    BASELINE_FILE,
    TrainingSetVersion,
    WrittenTrainingSet,
    set_folder,
    version_path,
    versions,
    written,
)


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds training sets on the parts of a feature store.

    Attributes:
        catalog: What is registered.
        offline: Holds the history, and the training sets.
        registry: Records the versions.
        engine: Joins.
        clock: Tells the present.
        on_demand: The on-demand features that may be asked for.
        progress: Told how far a build is.
    """

    catalog: Catalog
    offline: OfflineStore
    registry: Registry
    engine: PointInTimeEngine
    clock: Clock
    on_demand: Iterable[OnDemandFeatures] = ()
    progress: Progress | None = None

    def build(
        self, definition: TrainingSet, span: Window | None = None, *, new_version: bool = False
    ) -> WrittenTrainingSet:
        """Builds a training set; see `FeatureStore.write_training_set`."""
        blueprint = Blueprint.of(definition, self.catalog, self.on_demand)
        recorded = max((record.version for record in self.registry.training_sets(definition.name)), default=0)
        assembly = Assembly(blueprint, self.offline, self.engine, self.clock.now(), recorded, self.progress)
        if definition.partitioning is not None:
            version = build_partitions(assembly, span, new_version=new_version)
        elif span is not None or new_version:
            raise InvalidRequestError(
                f"Training set {definition.name!r} has no partitions: it is built as a whole, and equal inputs always "
                "are the version that exists."
            )
        else:
            version = _build_whole(assembly)
        # Also where nothing was built: the writer of the version may have been killed before it could record it.
        self.registry.record_training_set(_record(version), is_open=version.manifest.part is None)
        return version


def _build_whole(assembly: Assembly) -> WrittenTrainingSet:
    definition, blueprint = assembly.definition, assembly.blueprint
    folder = set_folder(assembly.offline.root, definition.name)
    labels = read_labels(blueprint, assembly.offline, assembly.now)
    if labels.is_empty():
        raise no_labels(definition, None)
    label_fingerprint = fingerprint(labels)
    _ = definition.labels_code_version  # fails before anything is joined, if it has none

    def identity_of(sources: SourceFiles) -> str:
        files = sources.within(assembly.spans(labels))
        return blueprint.identity(label_fingerprint=label_fingerprint, source_files=files)

    existing = _of_identity(versions(folder), identity_of(assembly.sources(labels)))
    if existing is not None:
        return written(existing, created=False)
    joined, sources = assembly.join(labels, assembly.progress)
    identity = identity_of(sources)
    with storage_of(folder).staging(folder) as staged:
        part = assembly.write_part(staged, None, labels, joined, sources)
        fitted = joined if definition.splits is None else joined.filter(_is_fitted(definition, labels))
        baseline = profile_columns(fitted.stored(label) for label in blueprint.features)
        publishing.write_beside(staged, BASELINE_FILE, msgspec.json.encode(baseline))
        manifest = blueprint.manifest(
            identity=identity,
            columns=dict(column_types(joined.rows)),
            query=query_record(definition, assembly.now),
            now=assembly.now,
            part=part,
        )
        version, created = publishing.publish_version(
            folder,
            staged,
            manifest,
            after=assembly.recorded,
            existing=lambda known: _of_identity(known, identity),
        )
    return written(version, created=created)


def _record(version: TrainingSetVersion) -> TrainingSetRecord:
    """Returns what the registry keeps of a version. Its baseline is that of the first split: what a model learns.

    The path is that below the root: a root can be moved, copied, and reached by several paths.
    """
    manifest = version.manifest
    if manifest.part is not None:
        baseline = msgspec.json.decode((version.path / BASELINE_FILE).read_bytes())
        label_fingerprint = manifest.part.label_fingerprint
    else:
        baseline = profile_columns(_stored_values(version, label) for label in manifest.features)
        together = [(part.partition, part.label_fingerprint) for part in version.parts]
        label_fingerprint = hashlib.sha256(msgspec.json.encode(together)).hexdigest()
    references = map(FeatureRef.parse, dict.fromkeys(manifest.features.values()))
    return TrainingSetRecord(
        name=version.name,
        version=version.version,
        label_fingerprint=label_fingerprint,
        features=tuple(FeatureRef(name, number or 1) for name, number in references),
        source_files=tuple(sorted({path for part in version.parts for path in part.source_files})),
        row_count=version.rows,
        baseline={manifest.features[label]: profile for label, profile in baseline.items()},
        path=version_path(version.name, version.version),
        created_at=manifest.created_at,
    )


def _stored_values(version: TrainingSetVersion, label: str) -> pl.Series:
    """Returns the values of a feature in the first split, null where its default stands, in any order."""
    split = next(iter(version.manifest.split_names()), None)
    values = version.scan(split).select(label).collect().to_series()
    files = [file for part in version.parts for file in part.files.values() if split in {None, file.split}]
    count = sum(file.defaulted.get(label, 0) for file in files)
    stored = version.manifest.stored.get(label)
    if not count or stored is None or stored.default is None:
        return values
    dtype = Dtype.parse(stored.dtype)
    default = series_of_values("", [value_of_json(dtype, stored.default)], dtype)
    # Rows may hold the same value as what is stored: which of them are taken makes no difference to a profile.
    equal = (values == default.new_from_index(0, values.len())).fill_null(value=False)
    stands = equal & (equal.cast(pl.Int64).cum_sum() <= count)
    return values.zip_with(~stands, default.clear(1))


def _is_fitted(definition: TrainingSet, labels: pl.DataFrame) -> pl.Series:
    assert definition.splits is not None
    return assign(definition.splits, labels, definition.as_of) == definition.splits.names[0]


def _of_identity(known: Sequence[TrainingSetVersion], identity: str) -> TrainingSetVersion | None:
    return next((version for version in known if version.manifest.identity == identity), None)
