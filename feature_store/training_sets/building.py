"""Builds training sets: labels -> checks -> point-in-time join -> splits -> files, and shows the result in one rename.

A whole set becomes a version at once. A set in partitions has an open version, to which partitions are added; each of
them is final. Recognizing inputs belongs to `inputs`, putting files in place to `publishing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

import msgspec
import polars as pl

from feature_store.catalog import Catalog
from feature_store.clock import Clock
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import FeatureStoreError, InvalidRequestError
from feature_store.monitoring.baseline import profile_columns
from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window
from feature_store.registry.records import TrainingSetRecord
from feature_store.registry.registry import Registry
from feature_store.training_sets import publishing
from feature_store.training_sets.blueprint import Blueprint
from feature_store.training_sets.fingerprint import fingerprint
from feature_store.training_sets.inputs import SourceFiles, changes, source_files, visible_spans
from feature_store.training_sets.labels import by_partition, label_times, query_record, read_labels
from feature_store.training_sets.manifest import Manifest, Part
from feature_store.training_sets.splits import assign
from feature_store.training_sets.versions import (
    BASELINE_FILE,
    TrainingSetVersion,
    set_folder,
    version_at,
    versions,
)

PASS_ROWS = 2_000_000
"""Labels of partitions that are joined together: they share the reading of history, and bound memory."""

_ATTEMPTS = 3
WRITTEN_WITH = f"polars {pl.__version__}"


@dataclass(frozen=True, slots=True)
class WrittenTrainingSet(TrainingSetVersion):
    """A version of a training set, and what the build that returned it has done.

    Attributes:
        created: Whether this build has opened the version; False if these very inputs had been written before, or
            partitions were added to a version that was open.
        built: Keys of the partitions that were added.
        stale: Partition asked for that the version has, made of inputs that have changed since, to what has changed.
    """

    created: bool
    built: tuple[str, ...] = ()
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
        if definition.partitioning is not None:
            written = self._build_partitions(blueprint, definition.partitioning, span, new_version=new_version)
        elif span is not None or new_version:
            raise InvalidRequestError(
                f"Training set {definition.name!r} has no partitions: it is built as a whole, and equal inputs always "
                "are the version that exists."
            )
        else:
            written = self._build_whole(blueprint)
        self._record(written)
        return written

    def _build_whole(self, blueprint: Blueprint) -> WrittenTrainingSet:
        definition, now = blueprint.definition, self.clock.now()
        folder = set_folder(self.offline.root, definition.name)
        labels = read_labels(blueprint, self.offline, now)
        if labels.is_empty():
            raise _no_labels(definition, None)
        label_fingerprint = fingerprint(labels)

        def identity_of(sources: SourceFiles) -> str:
            spans = _spans(blueprint, labels)
            return blueprint.identity(label_fingerprint=label_fingerprint, source_files=sources.within(spans))

        existing = _of_identity(versions(folder), identity_of(self._sources(blueprint, labels)))
        if existing is not None:
            return _written(existing, created=False)
        rows, sources = self._join(blueprint, labels, self.progress)
        identity = identity_of(sources)
        with publishing.staging(folder) as staged:
            part = self._write_part(blueprint, staged, None, labels, rows, sources)
            fitted = rows if definition.splits is None else rows.filter(_is_fitted(definition, labels))
            baseline = profile_columns(fitted[label] for label in blueprint.features)
            publishing.write_beside(staged, BASELINE_FILE, msgspec.json.encode(baseline))
            head = blueprint.manifest(
                identity=identity, columns=_columns(rows), query=query_record(definition, now), now=now, part=part
            )
            version, created = publishing.publish_version(
                folder, staged, head, existing=lambda known: _of_identity(known, identity)
            )
        return _written(version, created=created)

    def _build_partitions(
        self, blueprint: Blueprint, partitioning: Partitioning, span: Window | None, *, new_version: bool
    ) -> WrittenTrainingSet:
        definition, now = blueprint.definition, self.clock.now()
        folder = set_folder(self.offline.root, definition.name)
        span = partition_span(definition, partitioning, now, span)
        identity = blueprint.identity(
            labels_code_version=definition.labels_code_version, partitioning=partitioning.value
        )
        current = _open_version(versions(folder), identity)
        if new_version and current is not None:
            span = _hull(span, [partitioning.window(key) for key in current.partitions])
        labels = read_labels(blueprint, self.offline, now, span)
        frames = by_partition(labels, definition.as_of, partitioning)
        plan = self._plan(blueprint, current, frames, partitioning, span)
        if new_version and current is not None and (plan.missing or plan.stale):
            plan = _Plan(missing=(*plan.missing, *(key for key in plan.stale if key in frames)), sound=plan.sound)
        elif current is not None and not plan.missing:
            return _written(current, created=False, stale=plan.stale)
        elif not frames:
            raise _no_labels(definition, span)
        with publishing.staging(folder) as staged:
            head = blueprint.manifest(
                identity=identity, columns={}, query=query_record(definition, now), now=now, part=None
            )
            if current is not None and not new_version:
                for keys in _passes(plan.missing, frames):
                    self._stage(blueprint, staged, frames, keys, plan, expected=current.manifest.columns)
                    for key in keys:
                        publishing.publish_part(current.path, staged, key)
                version, created = current, False
            else:
                columns: dict[str, str] = {}
                for part in plan.sound:
                    assert current is not None
                    publishing.link_part(current, part, staged)
                    columns = current.manifest.columns
                for keys in _passes(plan.missing, frames):
                    columns = self._stage(blueprint, staged, frames, keys, plan, expected=columns)
                version, created = publishing.publish_version(
                    folder,
                    staged,
                    msgspec.structs.replace(head, columns=columns),
                    existing=lambda known: None if new_version else _open_version(known, identity),
                )
                if not created:
                    for key in plan.missing:
                        publishing.publish_part(version.path, staged, key)
        opened = version_at(folder, version.version)
        return _written(opened, created=created, built=tuple(sorted(plan.missing)), stale=plan.stale)

    def _plan(
        self,
        blueprint: Blueprint,
        current: TrainingSetVersion | None,
        frames: Mapping[str, pl.DataFrame],
        partitioning: Partitioning,
        span: Window,
    ) -> _Plan:
        """Decides, partition by partition, whether it is missing, sound or stale."""
        known = {} if current is None else {part.partition or "": part for part in current.parts}
        asked = {key: part for key, part in known.items() if _inside(partitioning.window(key), span)}
        missing = tuple(key for key in frames if key not in known)
        if current is None or not asked:
            return _Plan(missing)
        first = min(part.first_label for part in asked.values())
        last = max(part.last_label for part in asked.values())
        files = source_files(self.offline, visible_spans(current.manifest.stored, first, last))
        sound, stale = [], {}
        for key, part in asked.items():
            found = changes(current.manifest, part, catalog=self.catalog, files=files, on_demand=blueprint.on_demand)
            if key not in frames:
                found.append(f"labels: {part.rows:,} rows then, none now")
            elif fingerprint(frames[key]) != part.label_fingerprint:
                found.append(f"labels: {part.rows:,} rows then, {frames[key].height:,} now, with another content")
            if found:
                stale[key] = found
            else:
                sound.append(part)
        return _Plan(missing, tuple(sound), stale)

    def _stage(
        self,
        blueprint: Blueprint,
        staged: Path,
        frames: Mapping[str, pl.DataFrame],
        keys: Sequence[str],
        plan: _Plan,
        *,
        expected: Mapping[str, str],
    ) -> dict[str, str]:
        """Joins partitions in one pass and writes them to the staging folder; returns their columns.

        Raises:
            InvalidRequestError: If the columns are not those that the version has.
        """
        labels = pl.concat([frames[key] for key in keys])
        done = sum(frames[key].height for key in plan.missing if key < keys[0])
        rows, sources = self._join(blueprint, labels, self._of_pass(done, labels.height, plan, frames))
        columns = _columns(rows)
        if expected and columns != dict(expected):
            different = sorted(set(columns.items()) ^ set(expected.items()))
            raise InvalidRequestError(
                f"Partition {keys[0]} of training set {blueprint.definition.name!r} has other columns than the open "
                f"version: {', '.join(f'{column} {dtype}' for column, dtype in different)}. Correct what gives the "
                "labels, or ask for a new version."
            )
        start = 0
        for key in keys:
            height = frames[key].height
            part = self._write_part(blueprint, staged, key, frames[key], rows.slice(start, height), sources)
            publishing.write_part_manifest(staged, part)
            start += height
        return columns

    def _write_part(
        self,
        blueprint: Blueprint,
        staged: Path,
        partition: str | None,
        labels: pl.DataFrame,
        rows: pl.DataFrame,
        sources: SourceFiles,
    ) -> Part:
        definition = blueprint.definition
        times = label_times(labels, definition.as_of)
        files = {}
        for split, of_split in rows_by_split(definition, labels, rows):
            files |= publishing.write_rows(staged, partition, split, of_split)
        return Part(
            partition=partition,
            created_at=self.clock.now(),
            rows=rows.height,
            first_label=cast("datetime", times.min()),
            last_label=cast("datetime", times.max()),
            label_fingerprint=fingerprint(labels),
            source_files=sources.within(_spans(blueprint, labels)),
            code_versions=blueprint.code_versions,
            null_rates={label: rows[label].null_count() / rows.height for label in blueprint.features},
            files=files,
            written_with=WRITTEN_WITH,
        )

    def _join(
        self, blueprint: Blueprint, labels: pl.DataFrame, progress: Progress | None
    ) -> tuple[pl.DataFrame, SourceFiles]:
        """Joins labels, and tells of which files: those that were in place before the join and after it."""
        sources = self._sources(blueprint, labels)
        for _ in range(_ATTEMPTS):
            rows = blueprint.join(labels, self.offline, self.engine, progress)
            after = self._sources(blueprint, labels)
            if after == sources:
                return rows, sources
            sources = after
        raise FeatureStoreError(
            f"Files that training set {blueprint.definition.name!r} reads were replaced during each of {_ATTEMPTS} "
            "joins, nothing was written: build it when the materialization has ended."
        )

    def _sources(self, blueprint: Blueprint, labels: pl.DataFrame) -> SourceFiles:
        return source_files(self.offline, _spans(blueprint, labels))

    def _of_pass(
        self, done: int, rows: int, plan: _Plan, frames: Mapping[str, pl.DataFrame]
    ) -> Progress | None:
        """Returns the progress of one pass among all: shares of the whole build."""
        progress = self.progress
        total = sum(frames[key].height for key in plan.missing)
        return None if progress is None else lambda name, share: progress(name, (done + share * rows) / total)

    def _record(self, version: TrainingSetVersion) -> None:
        """Records a version, also one that was written before: its writer may have been killed in between."""
        manifest, parts = version.manifest, version.parts
        stored = dict.fromkeys(feature.reference for feature in manifest.stored.values())
        if manifest.part is not None:
            baseline = msgspec.json.decode((version.path / BASELINE_FILE).read_bytes())
            label_fingerprint = manifest.part.label_fingerprint
        else:
            rows = version.scan(fitted_split(manifest))
            baseline = profile_columns(rows.select(label).collect().to_series() for label in manifest.features)
            together = [(part.partition, part.label_fingerprint) for part in parts]
            label_fingerprint = hashlib.sha256(msgspec.json.encode(together)).hexdigest()
        self.registry.record_training_set(
            TrainingSetRecord(
                name=version.name,
                version=version.version,
                label_fingerprint=label_fingerprint,
                features=tuple(FeatureRef(name, number or 1) for name, number in map(FeatureRef.parse, stored)),
                source_files=tuple(sorted({path for part in parts for path in part.source_files})),
                row_count=version.rows,
                baseline={manifest.features[label]: profile for label, profile in baseline.items()},
                path=str(version.path),
                created_at=manifest.created_at,
            ),
            is_open=manifest.part is None,
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with the partitions that were asked for.

    Attributes:
        missing: Keys of those to build.
        sound: Those that the open version has, made of what the inputs are now.
        stale: Key of those that it has, made of inputs that have changed, to what has changed.
    """

    missing: tuple[str, ...]
    sound: tuple[Part, ...] = ()
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)


def partition_span(definition: TrainingSet, partitioning: Partitioning, now: datetime, span: Window | None) -> Window:
    """Returns the partitions to build: those asked for, by default all whose labels are complete.

    Raises:
        InvalidRequestError: If the span is not one of whole partitions of the set, or its labels are not complete yet.
    """
    start = cast("datetime", definition.start)
    complete = partitioning.window(partitioning.key(now - definition.label_delay)).start
    end = min(complete, definition.end or complete)
    if span is None:
        span = Window(start, end)
        if end <= start:
            raise InvalidRequestError(
                f"Training set {definition.name!r} begins at {start.isoformat()}, and no partition of it is complete "
                f"yet: it is {now.isoformat()}, and labels come in up to {definition.label_delay} late."
            )
    first, *_ = partitioning.windows(span)
    if first.start < start or (definition.end and span.end > definition.end):
        until = f" and ends at {definition.end.isoformat()}" if definition.end else ""
        raise InvalidRequestError(
            f"Training set {definition.name!r} begins at {start.isoformat()}{until}, asked for were the partitions "
            f"from {span.start.isoformat()} to {span.end.isoformat()}."
        )
    if span.end > complete:
        raise InvalidRequestError(
            f"Partition {partitioning.key(span.end - partitioning.length)} of training set {definition.name!r} is not "
            f"complete: it is {now.isoformat()}, and labels come in until {definition.label_delay} after its end. "
            "A partition that is built never changes: build it then."
        )
    return span


def rows_by_split(
    definition: TrainingSet, labels: pl.DataFrame, rows: pl.DataFrame
) -> Iterator[tuple[str | None, pl.DataFrame]]:
    """Yields the rows of each split that has some, in order; all rows, under None, if there are no splits."""
    if definition.splits is None:
        yield None, rows
        return
    split = assign(definition.splits, labels, definition.as_of)
    for name in definition.splits.names:
        of_split = rows.filter(split == name)
        if of_split.height:
            yield name, of_split


def fitted_split(manifest: Manifest) -> str | None:
    """Returns the split whose distributions are the baseline: the first one; None if there are no splits."""
    return next(iter(manifest.split_names()), None)


def _is_fitted(definition: TrainingSet, labels: pl.DataFrame) -> pl.Series:
    assert definition.splits is not None
    return assign(definition.splits, labels, definition.as_of) == definition.splits.names[0]


def _spans(blueprint: Blueprint, labels: pl.DataFrame) -> dict[str, Window]:
    times = label_times(labels, blueprint.definition.as_of)
    return visible_spans(blueprint.stored, cast("datetime", times.min()), cast("datetime", times.max()))


def _columns(rows: pl.DataFrame) -> dict[str, str]:
    return {column: str(dtype) for column, dtype in rows.schema.items()}


def _of_identity(known: Sequence[TrainingSetVersion], identity: str) -> TrainingSetVersion | None:
    return next((version for version in known if version.manifest.identity == identity), None)


def _open_version(known: Sequence[TrainingSetVersion], identity: str) -> TrainingSetVersion | None:
    """Returns the version that partitions are added to: the latest, if the definition has not changed since."""
    return known[-1] if known and known[-1].manifest.identity == identity else None


def _passes(keys: Sequence[str], frames: Mapping[str, pl.DataFrame]) -> Iterator[list[str]]:
    together: list[str] = []
    rows = 0
    for key in sorted(keys):
        height = frames[key].height
        if together and rows + height > PASS_ROWS:
            yield together
            together, rows = [], 0
        together.append(key)
        rows += height
    if together:
        yield together


def _hull(span: Window, others: Sequence[Window]) -> Window:
    windows = [span, *others]
    return Window(min(window.start for window in windows), max(window.end for window in windows))


def _inside(window: Window, span: Window) -> bool:
    return span.start <= window.start and window.end <= span.end


def _written(
    version: TrainingSetVersion,
    *,
    created: bool,
    built: tuple[str, ...] = (),
    stale: Mapping[str, Sequence[str]] | None = None,
) -> WrittenTrainingSet:
    return WrittenTrainingSet(version.path, version.manifest, version.parts, created, built, stale or {})


def _no_labels(definition: TrainingSet, span: Window | None) -> InvalidRequestError:
    where = f" between {span.start.isoformat()} and {span.end.isoformat()}" if span else ""
    return InvalidRequestError(
        f"Training set {definition.name!r} has no labels{where}: its label frame has no rows. Correct what gives the "
        "labels, or wait until there are some."
    )
