"""Rebuilds a version from its manifest: the same bytes, or which input has changed.

Labels are taken from the version's own rows, where they stand untouched, or from the definition if it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl
import polars.selectors as cs

from feature_store.catalog import Catalog, Selection
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import TrainingSetChangedError
from feature_store.frame_fingerprint import fingerprint
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window
from feature_store.resolution import Resolution, resolve
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files
from feature_store.training_sets import publishing
from feature_store.training_sets.assembly import rows_by_split
from feature_store.training_sets.blueprint import Blueprint, JoinedRows, join_features
from feature_store.training_sets.inputs import changes, files_of
from feature_store.training_sets.labels import by_partition, read_labels
from feature_store.training_sets.manifest import DataFile, Manifest, Part
from feature_store.training_sets.splits import record
from feature_store.training_sets.versions import TrainingSetVersion, part_path


@dataclass(frozen=True, slots=True)
class RebuiltTrainingSet:
    """A version that was rebuilt and came out the same.

    Attributes:
        version: The version.
        files: Number of its Parquet files.
        same_bytes: Whether every file came out the same to the byte. If not, it was written by another version of the
            Parquet writer, and its rows are the same to the bit.
        restored: Files that were missing or damaged, and are in place again.
    """

    version: TrainingSetVersion
    files: int
    same_bytes: bool
    restored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rebuilder:
    """Rebuilds versions on the parts of a feature store.

    Attributes:
        catalog: What is registered.
        offline: Holds the history, and the training sets.
        engine: Joins.
        now: The store's present (UTC).
        on_demand: The on-demand features that are defined.
    """

    catalog: Catalog
    offline: OfflineStore
    engine: PointInTimeEngine
    now: datetime
    on_demand: Iterable[OnDemandFeatures] = ()

    def rebuild(self, version: TrainingSetVersion, definition: TrainingSet | None) -> RebuiltTrainingSet:
        """Rebuilds a version; see `store.training_sets.rebuild`."""
        damaged = {
            path
            for part in version.parts
            for path, before in part.files.items()
            if not _is_whole(version.path / path, before)
        }
        found = self._changes(version)
        labels: Mapping[str | None, pl.DataFrame] | None = None
        if definition is not None:
            blueprint = Blueprint.of(definition, self.catalog, self.on_demand)
            found += _changed_definition(version, blueprint)
            labels = self._labels(blueprint, version)
            found += _changed_labels(version, labels)
        elif damaged:
            found.append(
                f"{len(damaged)} file(s) missing or damaged: {', '.join(sorted(damaged))}; pass the definition, whose "
                "labels are needed to restore them"
            )
        if found:
            raise TrainingSetChangedError(version.name, version.version, found)
        same_bytes, restored = True, []
        folder = version.path.parent
        with storage_of(folder).staging(folder) as staged:
            for part in version.parts:
                for path, written in self._rebuild_part(version, part, definition, labels, staged).items():
                    if written.fingerprint != part.files[path].fingerprint:
                        raise TrainingSetChangedError(
                            version.name,
                            version.version,
                            [f"{path} has other rows, though all inputs that the manifest names are the same"],
                        )
                    same_bytes &= written.sha256 == part.files[path].sha256
                    if path in damaged:
                        storage_of(folder).restore(staged / path, version.path / path)
                        restored.append(path)
        files = sum(len(part.files) for part in version.parts)
        return RebuiltTrainingSet(version, files, same_bytes, tuple(restored))

    def _changes(self, version: TrainingSetVersion) -> list[str]:
        manifest = version.manifest
        files = files_of(version, self.offline)
        on_demand = {functions.name: functions.code_version for functions in self.on_demand}
        found = {
            change: None
            for part in version.parts
            for change in changes(manifest, part, catalog=self.catalog, files=files, on_demand=on_demand)
        }
        return list(found)

    def _rebuild_part(
        self,
        version: TrainingSetVersion,
        part: Part,
        definition: TrainingSet | None,
        labels: Mapping[str | None, pl.DataFrame] | None,
        staged: Path,
    ) -> dict[str, DataFile]:
        """Joins the labels of a part again and writes its files to the staging folder."""
        resolution = pinned_resolution(version.manifest, self.catalog, self.on_demand)
        as_of = version.manifest.as_of

        def joined(frame: pl.DataFrame) -> JoinedRows:
            return join_features(frame, as_of, resolution, self.catalog, self.offline, self.engine)

        files: dict[str, DataFile] = {}
        if definition is not None and labels is not None:
            of_part = joined(labels[part.partition])
            paths = {file.split: path for path, file in part.files.items()}
            for split, of_split in rows_by_split(definition, labels[part.partition], of_part):
                path = paths.get(split) or part_path(part.partition, split)
                files |= publishing.write_rows(staged, path, split, of_split.rows)
            return files
        columns = list(version.label_columns)
        frames = [scan_files(version.path / path).select(cs.by_name(columns)).collect() for path in part.files]
        rows, start = joined(pl.concat(frames)).rows, 0
        for path, before in part.files.items():
            files |= publishing.write_rows(staged, path, before.split, rows.slice(start, before.rows))
            start += before.rows
        return files

    def _labels(self, blueprint: Blueprint, version: TrainingSetVersion) -> Mapping[str | None, pl.DataFrame]:
        partitioning = version.manifest.partitioning
        if partitioning is None:
            return {None: read_labels(blueprint, self.offline, self.now)}
        cut = Partitioning(partitioning)
        windows = [cut.window(key) for key in version.partitions]
        span = Window(min(window.start for window in windows), max(window.end for window in windows))
        frame = read_labels(blueprint, self.offline, self.now, span)
        by_key: dict[str | None, pl.DataFrame] = {key: frame.clear() for key in version.partitions}
        by_key.update(by_partition(frame, blueprint.definition.as_of, cut))
        return by_key


def pinned_resolution(manifest: Manifest, catalog: Catalog, on_demand: Iterable[OnDemandFeatures]) -> Resolution:
    """Returns the features of a version as they were then: each column with the version that it was read from."""
    selections = {
        label: Selection(label, catalog.features[_reference(feature.reference)])
        for label, feature in manifest.stored.items()
    }
    labels = tuple(manifest.features)
    computed = [label for label in labels if label not in selections]
    if not computed:
        return Resolution(labels, tuple(selections.values()))
    resolved = resolve(catalog, computed, on_demand)
    computations = tuple(
        replace(each, inputs={column: selections.get(item.label, item) for column, item in each.inputs.items()})
        for each in resolved.computations
    )
    return Resolution(labels, tuple(selections.values()), computations, resolved.request)


def _changed_definition(version: TrainingSetVersion, blueprint: Blueprint) -> Iterator[str]:
    manifest, definition = version.manifest, blueprint.definition
    if definition.as_of != manifest.as_of:
        yield f"labels are read as of {definition.as_of}, it was {manifest.as_of}"
    if record(definition.splits) != manifest.splits:
        yield f"the splits are {definition.splits}, they were {manifest.splits}"
    for label in dict.fromkeys([*manifest.features, *blueprint.features]):
        before, now = manifest.features.get(label, "none"), blueprint.features.get(label, "none")
        if before != now:
            yield f"feature {label} is {now}, it was {before}"


def _changed_labels(version: TrainingSetVersion, labels: Mapping[str | None, pl.DataFrame]) -> Iterator[str]:
    for part in version.parts:
        frame = labels[part.partition]
        if fingerprint(frame) != part.label_fingerprint:
            where = f" of partition {part.partition}" if part.partition else ""
            yield f"labels{where}: {part.rows:,} rows then, {frame.height:,} now, with another content"


def _is_whole(path: Location, before: DataFile) -> bool:
    return path.is_file() and storage_of(path).digest(path) == before.sha256


def _reference(text: str) -> FeatureRef:
    name, version = FeatureRef.parse(text)
    return FeatureRef(name, version or 1)
