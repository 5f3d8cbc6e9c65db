"""The steps that every build shares: join labels, cut the rows into splits, write a part of a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import polars as pl

from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import FeatureStoreError
from feature_store.frame_fingerprint import fingerprint
from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.storage.location import storage_of
from feature_store.training_sets import publishing
from feature_store.training_sets.blueprint import Blueprint, JoinedRows
from feature_store.training_sets.inputs import SourceFiles, source_files, visible_spans
from feature_store.training_sets.labels import label_times
from feature_store.training_sets.manifest import DataFile, Part
from feature_store.training_sets.splits import assign
from feature_store.training_sets.versions import part_path

_ATTEMPTS = 3
_WRITTEN_WITH = f"polars {pl.__version__}"


@dataclass(frozen=True, slots=True)
class Assembly:
    """What is built, of what, and when.

    Attributes:
        blueprint: The definition, resolved.
        offline: Holds the history, and the training sets.
        engine: Joins.
        now: The store's present (UTC), the same for all of a build.
        recorded: The greatest version of the set that the registry knows, 0 for none: it is never given again, even if
            its folder is gone.
        progress: Told how far the build is.
    """

    blueprint: Blueprint
    offline: OfflineStore
    engine: PointInTimeEngine
    now: datetime
    recorded: int = 0
    progress: Progress | None = None

    @property
    def definition(self) -> TrainingSet:
        """The training set."""
        return self.blueprint.definition

    def spans(self, labels: pl.DataFrame) -> dict[str, Window]:
        """Returns, by group, the span outside of which no row is visible to any label."""
        times = label_times(labels, self.definition.as_of)
        return visible_spans(self.blueprint.stored, cast("datetime", times.min()), cast("datetime", times.max()))

    def sources(self, labels: pl.DataFrame) -> SourceFiles:
        """Returns the files that the labels' features can depend on, as they are now."""
        return source_files(self.offline, self.spans(labels))

    def join(self, labels: pl.DataFrame, progress: Progress | None) -> tuple[JoinedRows, SourceFiles]:
        """Joins labels, and tells of which files: those that were in place before the join and after it.

        Raises:
            FeatureStoreError: If files are replaced faster than they are read.
        """
        sources = self.sources(labels)
        for _ in range(_ATTEMPTS):
            rows = self.blueprint.join(labels, self.offline, self.engine, progress)
            after = self.sources(labels)
            if after == sources:
                return rows, sources
            sources = after
        raise FeatureStoreError(
            f"Files that training set {self.definition.name!r} reads were replaced during each of {_ATTEMPTS} joins, "
            "nothing was written: build it when the materialization has ended."
        )

    def write_part(
        self, staged: Path, partition: str | None, labels: pl.DataFrame, joined: JoinedRows, sources: SourceFiles
    ) -> Part:
        """Writes the rows of a part to the staging folder, a file per split.

        Returns:
            The part's manifest, which is not written yet.
        """
        times = label_times(labels, self.definition.as_of)
        # Where nothing can be renamed, files of builders that race must not have the same name.
        by_content = not storage_of(self.offline.root).renames
        files: dict[str, DataFile] = {}
        rows = joined.rows
        for split, of_split in rows_by_split(self.definition, labels, joined):
            path = part_path(partition, split)
            counts = of_split.counts()
            files |= publishing.write_rows(staged, path, split, of_split.rows, by_content=by_content, defaulted=counts)
        return Part(
            partition=partition,
            created_at=self.now,
            rows=rows.height,
            first_label=cast("datetime", times.min()),
            last_label=cast("datetime", times.max()),
            label_fingerprint=fingerprint(labels),
            source_files=sources.within(self.spans(labels)),
            code_versions=self.blueprint.code_versions,
            null_rates={label: joined.stored(label).null_count() / rows.height for label in self.blueprint.features},
            files=files,
            written_with=_WRITTEN_WITH,
            libraries=self.blueprint.libraries,
        )


def rows_by_split(
    definition: TrainingSet, labels: pl.DataFrame, rows: JoinedRows
) -> Iterator[tuple[str | None, JoinedRows]]:
    """Yields the rows of each split that has some, in order; all rows, under None, if there are no splits."""
    if definition.splits is None:
        yield None, rows
        return
    split = assign(definition.splits, labels, definition.as_of)
    for name in definition.splits.names:
        of_split = rows.filter(split == name)
        if of_split.rows.height:
            yield name, of_split


def column_types(rows: pl.DataFrame) -> Mapping[str, str]:
    """Returns the columns with their dtypes, as a manifest spells them."""
    return {column: str(dtype) for column, dtype in rows.schema.items()}
