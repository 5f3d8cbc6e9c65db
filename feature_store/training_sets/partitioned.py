"""Builds partitions of a training set: into its open version, or all of them anew as the next version.

The open version is the latest one, as long as the definition has not changed since. A partition that it has is final:
where inputs have changed since, that is told, and only a new version has the rows that they would give now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

import polars as pl

from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import InvalidRequestError
from feature_store.frame_fingerprint import fingerprint
from feature_store.offline.point_in_time.engine import Progress
from feature_store.partitions import Partitioning, Window
from feature_store.storage.location import Location, storage_of
from feature_store.training_sets import publishing
from feature_store.training_sets.assembly import Assembly, column_types
from feature_store.training_sets.inputs import changes, source_files, visible_spans
from feature_store.training_sets.labels import by_partition, no_labels, query_record, read_labels
from feature_store.training_sets.manifest import Part
from feature_store.training_sets.versions import (
    TrainingSetVersion,
    WrittenTrainingSet,
    set_folder,
    version_at,
    versions,
    written,
)

PASS_ROWS = 2_000_000
"""Labels of partitions that are joined together: they share the reading of history, and bound memory."""


def build_partitions(assembly: Assembly, span: Window | None, *, new_version: bool) -> WrittenTrainingSet:
    """Builds partitions of a training set; see `FeatureStore.write_training_set`."""
    definition = assembly.definition
    partitioning = cast("Partitioning", definition.partitioning)
    span = partition_span(definition, partitioning, assembly.now, span)
    identity = assembly.blueprint.identity(
        labels_code_version=definition.labels_code_version, partitioning=partitioning.value
    )
    current = _open_version(versions(set_folder(assembly.offline.root, definition.name)), identity)
    if new_version and current is not None:
        span = _hull([span, *map(partitioning.window, current.partitions)])
    labels = read_labels(assembly.blueprint, assembly.offline, assembly.now, span)
    frames = by_partition(labels, definition.as_of, partitioning)
    plan = _plan(assembly, current, frames, span)
    build = _Build(assembly, frames, identity)
    if current is not None and not new_version:
        return build.append(current, plan)
    if current is not None and not plan.missing and not plan.stale:
        return written(current, created=False)
    if not frames:
        raise no_labels(definition, span)
    return build.open(current, plan, always=new_version)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with the partitions that were asked for.

    Attributes:
        missing: Keys of those that the open version lacks, in order.
        sound: Those that it has, made of what the inputs are now.
        stale: Key of those that it has, made of inputs that have changed, to what has changed.
    """

    missing: tuple[str, ...]
    sound: tuple[Part, ...] = ()
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _plan(
    assembly: Assembly, current: TrainingSetVersion | None, frames: Mapping[str, pl.DataFrame], span: Window
) -> _Plan:
    """Decides, partition by partition, whether it is missing, sound or stale."""
    if current is None:
        return _Plan(tuple(frames))
    partitioning = Partitioning(current.manifest.partitioning)
    asked = [part for part in current.parts if _inside(partitioning.window(part.partition or ""), span)]
    missing = tuple(key for key in frames if key not in current.partitions)
    if not asked:
        return _Plan(missing)
    first, last = min(part.first_label for part in asked), max(part.last_label for part in asked)
    files = source_files(assembly.offline, visible_spans(current.manifest.stored, first, last))
    catalog, on_demand = assembly.blueprint.catalog, assembly.blueprint.on_demand
    sound: list[Part] = []
    stale: dict[str, list[str]] = {}
    for part in asked:
        key = part.partition or ""
        found = changes(current.manifest, part, catalog=catalog, files=files, on_demand=on_demand)
        if key not in frames:
            found.append(f"labels: {part.rows:,} rows then, none now")
        elif fingerprint(frames[key]) != part.label_fingerprint:
            found.append(f"labels: {part.rows:,} rows then, {frames[key].height:,} now, with another content")
        if found:
            stale[key] = found
        else:
            sound.append(part)
    return _Plan(missing, tuple(sound), stale)


@dataclass(frozen=True, slots=True)
class _Build:
    """Builds partitions, given the labels of each.

    Attributes:
        assembly: What is built, of what, and when.
        frames: Partition key to its labels.
        identity: Digest of the definition.
    """

    assembly: Assembly
    frames: Mapping[str, pl.DataFrame]
    identity: str

    def append(self, current: TrainingSetVersion, plan: _Plan) -> WrittenTrainingSet:
        """Adds what is missing to the open version, each pass as soon as it is done."""
        if not plan.missing:
            return written(current, created=False, stale=plan.stale)
        folder = current.path.parent
        with storage_of(folder).staging(folder) as staged:
            for keys in self._passes(plan.missing):
                self._stage(staged, keys, plan.missing, current.manifest.columns)
                for key in keys:
                    publishing.publish_part(current.path, staged, key)
        version = version_at(folder, current.version)
        return written(version, created=False, built=plan.missing, stale=plan.stale)

    def open(self, current: TrainingSetVersion | None, plan: _Plan, *, always: bool) -> WrittenTrainingSet:
        """Opens a version with all that is missing or stale built, and all that is sound taken over.

        Args:
            current: The version that was open.
            plan: What is to be done.
            always: Whether to open one even if another writer has just done so.
        """
        definition = self.assembly.definition
        folder = set_folder(self.assembly.offline.root, definition.name)
        to_build = tuple(sorted({*plan.missing, *(key for key in plan.stale if key in self.frames)}))
        columns: Mapping[str, str] = {}
        linked: dict[str, Location] = {}
        with storage_of(folder).staging(folder) as staged:
            for keys in self._passes(to_build):
                columns = self._stage(staged, keys, to_build, columns)
            if current is not None:
                for part in plan.sound:
                    self._check_columns(str(part.partition), current.manifest.columns, columns)
                    linked |= publishing.link_part(current, part, staged)
                columns = columns or current.manifest.columns
            manifest = self.assembly.blueprint.manifest(
                identity=self.identity,
                columns=dict(columns),
                query=query_record(definition, self.assembly.now),
                now=self.assembly.now,
                part=None,
            )
            version, created = publishing.publish_version(
                folder,
                staged,
                manifest,
                after=self.assembly.recorded,
                linked=linked,
                existing=lambda known: None if always else _open_version(known, self.identity),
            )
            if not created:
                self._check_columns(to_build[0], columns, version.manifest.columns)
                for key in to_build:
                    publishing.publish_part(version.path, staged, key)
        return written(version_at(folder, version.version), created=created, built=to_build)

    def _passes(self, keys: Sequence[str]) -> Iterator[list[str]]:
        together: list[str] = []
        rows = 0
        for key in keys:
            height = self.frames[key].height
            if together and rows + height > PASS_ROWS:
                yield together
                together, rows = [], 0
            together.append(key)
            rows += height
        if together:
            yield together

    def _stage(
        self, staged: Path, keys: Sequence[str], all_keys: Sequence[str], expected: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Joins the partitions of a pass and writes them to the staging folder; returns their columns."""
        labels = pl.concat([self.frames[key] for key in keys])
        joined, sources = self.assembly.join(labels, self._progress(keys, all_keys))
        columns = column_types(joined.rows)
        self._check_columns(keys[0], columns, expected)
        start = 0
        for key in keys:
            of_key = joined.slice(start, self.frames[key].height)
            part = self.assembly.write_part(staged, key, self.frames[key], of_key, sources)
            publishing.write_part_manifest(staged, part)
            start += of_key.rows.height
        return columns

    def _progress(self, keys: Sequence[str], all_keys: Sequence[str]) -> Progress | None:
        """Returns the progress of one pass, as shares of the whole build."""
        progress = self.assembly.progress
        if progress is None:
            return None
        total = sum(self.frames[key].height for key in all_keys)
        before = sum(self.frames[key].height for key in all_keys if key < keys[0])
        rows = sum(self.frames[key].height for key in keys)
        return lambda group, share: progress(group, (before + share * rows) / total)

    def _check_columns(self, key: str, columns: Mapping[str, str], expected: Mapping[str, str]) -> None:
        if expected and dict(columns) != dict(expected):
            different = sorted(set(columns.items()) ^ set(expected.items()))
            shown = ", ".join(f"{column} {dtype}" for column, dtype in different) or "their order"
            raise InvalidRequestError(
                f"Partition {key} of training set {self.assembly.definition.name!r} has other columns than the rest of "
                f"its version: {shown}. All partitions of a version have the same: correct what gives the labels."
            )


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
                f"yet: it is {now.isoformat()}, and labels come in until {definition.label_delay} after a partition."
            )
    if not list(partitioning.windows(span)) or span.start < start or (definition.end and span.end > definition.end):
        until = f" and ends at {definition.end.isoformat()}" if definition.end else ""
        raise InvalidRequestError(
            f"Training set {definition.name!r} begins at {start.isoformat()}{until}: the span from "
            f"{span.start.isoformat()} to {span.end.isoformat()} is not one of its partitions."
        )
    if span.end > complete:
        raise InvalidRequestError(
            f"Partition {partitioning.key(span.end - partitioning.length)} of training set {definition.name!r} is not "
            f"complete: it is {now.isoformat()}, and labels come in until {definition.label_delay} after its end. "
            "A partition that is built never changes: build it then."
        )
    return span


def _open_version(known: Sequence[TrainingSetVersion], identity: str) -> TrainingSetVersion | None:
    """Returns the version that partitions are added to: the latest, if the definition has not changed since."""
    return known[-1] if known and known[-1].manifest.identity == identity else None


def _hull(windows: Sequence[Window]) -> Window:
    return Window(min(window.start for window in windows), max(window.end for window in windows))


def _inside(window: Window, span: Window) -> bool:
    return span.start <= window.start and window.end <= span.end
