"""The files that ingested and pushed rows lie in: `ingest-{writer}-{number}.parquet`, one after another per UTC day.

A writer adds rows to its newest file of the day until that holds enough, so that many single rows make few files.
Compaction folds the files of all writers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.day_windows import day_window
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.offline.footers import is_readable
from feature_store.offline.layout import (
    PartitionFile,
    are_unchanged,
    date_folder,
    file_at,
    list_files,
    stream_path,
)
from feature_store.offline.row_changes import (
    Claim,
    RowChanges,
    compare,
    identity_of,
    joined_changes,
    newest_versions,
    own_metadata,
    read_rows,
    write_rows,
)
from feature_store.offline.row_index import RowIndex
from feature_store.offline.rows import checked_rows, refuse_unfit_rows
from feature_store.offline.superseded import SUPERSEDED_AT, ending, keep_superseded
from feature_store.storage.location import storage_of
from feature_store.storage.protocol import Write

if TYPE_CHECKING:
    from feature_store.storage.location import Location

PREFIX = "ingest-"
ROWS_PER_FILE = 1024
"""A file takes more rows until it has so many."""

_OPEN_FILES = 64


def is_ingested(file: PartitionFile) -> bool:
    """Tells whether a file holds ingested rows."""
    return file.writer.startswith(PREFIX)


class IngestFiles:
    """The ingested rows of one offline store, as one process writes them.

    Args:
        root: Root of the store.
        index: Tells which files can hold a row.
    """

    def __init__(self, root: Location, index: RowIndex) -> None:
        self._root = root
        self._index = index
        self._writer = uuid.uuid4().hex[:12]
        self._number = 0
        self._open: dict[tuple[str, date], tuple[PartitionFile, pl.DataFrame]] = {}

    def add(
        self, group: RegisteredGroup, rows: pl.DataFrame, *, claim: Claim, metadata: Mapping[str, str]
    ) -> RowChanges:
        """Adds rows that are new or differ from what the store holds.

        Args:
            group: The group.
            rows: The group's columns but `ingested_at`, one row per entity and event time.
            claim: Gives ingestion times.
            metadata: Of the files.

        Raises:
            InvalidRowsError: If the rows are not rows of the group.
        """
        days = rows[EVENT_TIMESTAMP].dt.date()
        if days.n_unique() <= 1:
            return joined_changes(group, [self._add(group, days[0], rows, claim, metadata)] if rows.height else [])
        parts = rows.with_columns(days.alias("_day")).partition_by("_day", as_dict=True, include_key=False)
        return joined_changes(
            group, [self._add(group, day, part, claim, metadata) for (day,), part in sorted(parts.items())]
        )

    def _add(
        self, group: RegisteredGroup, day: date, rows: pl.DataFrame, claim: Claim, metadata: Mapping[str, str]
    ) -> RowChanges:
        window = day_window(day)
        identity = identity_of(group)
        refuse_unfit_rows(group, window, rows)
        folder = date_folder(self._root, group.name, day)
        with storage_of(folder).holding(folder):
            files = sorted(file for file in list_files(self._root, group.name, window) if is_readable(file.path))
            holders = self._index.files_with(group, files, rows.select(identity))
            held = read_rows(group, holders)
            if holders:
                held = newest_versions(group, held.join(rows.select(identity), on=identity, how="semi"))
            compared = compare(group, rows, held, claim)
            nobody = compared.changed.clear().select(*identity, INGESTED_AT)
            unchanged = rows.height - compared.changed.height
            changes = RowChanges(compared.changed, nobody, unchanged, holders if unchanged else [])
            if compared.changed.height:
                changes.files = [*changes.files, self._append(group, day, compared.changed, metadata)]
            return changes

    def _append(
        self, group: RegisteredGroup, day: date, rows: pl.DataFrame, metadata: Mapping[str, str]
    ) -> PartitionFile:
        file, present = self._newest(group, day)
        if file is None or present is None or rows.height >= ROWS_PER_FILE:
            file, present = None, None
            self._number += 1
            path = stream_path(self._root, group.name, day, f"{PREFIX}{self._writer}-{self._number:06d}")
        else:
            path = file.path
        stored = rows

        def prepare() -> Write:
            nonlocal stored
            before = present
            if file is not None and not are_unchanged([file]):
                # In S3 a row may have been taken back since it was looked at.
                before = read_rows(group, [file_at(path)]) if is_readable(path) else None
            whole = rows if before is None else pl.concat([before, rows.select(before.columns)])
            stored = checked_rows(group, day_window(day), whole)
            newest = {INGESTED_AT: stored[INGESTED_AT].max().isoformat()}  # type: ignore[union-attr]  # never empty
            return write_rows(stored, {**metadata, **newest})

        storage_of(path).replace(path, prepare)
        written = file_at(path)
        self._index.know(written, stored.select(identity_of(group)))
        while len(self._open) >= _OPEN_FILES:
            self._open.pop(next(iter(self._open)))
        self._open[group.name, day] = (written, stored)
        return written

    def _newest(self, group: RegisteredGroup, day: date) -> tuple[PartitionFile | None, pl.DataFrame | None]:
        """Returns the file that takes more rows, and its rows; nothing where there is none."""
        file, rows = self._open.pop((group.name, day), (None, None))
        if file is None or rows is None or rows.height >= ROWS_PER_FILE:
            return None, None
        try:
            unchanged = file_at(file.path) == file
        except FileNotFoundError:
            # A compaction has folded it.
            return None, None
        columns = set(rows.columns)
        return (
            (file, rows)
            if unchanged and columns == {*identity_of(group), *_values(group), INGESTED_AT}
            else (None, None)
        )


def _values(group: RegisteredGroup) -> list[str]:
    return [feature.ref.column for feature in group.features]


def fold_ingested(root: Location, group: RegisteredGroup, day: date) -> tuple[int, int, int] | None:
    """Folds the ingested rows of a day into one file, each row in its newest version.

    The others go at once: until then rows lie in two files, which no read of the rule can tell.

    Args:
        root: Root of the store.
        group: The group.
        day: The UTC day.

    Returns:
        Number of files that were folded, and of rows before and after; None where there is nothing to fold.
    """
    window = day_window(day)
    folder = date_folder(root, group.name, day)
    with storage_of(folder).holding(folder):
        while True:
            files = sorted(file for file in list_files(root, group.name, window) if is_ingested(file))
            if len(files) < 2:  # noqa: PLR2004
                return None
            rows = read_rows(group, files)
            stored = checked_rows(group, window, newest_versions(group, rows))
            ended = ending(rows, list(group.entity.join_keys), pl.lit(None, rows.schema[INGESTED_AT]))
            keep_superseded(root, group, day, ended.filter(pl.col(SUPERSEDED_AT).is_not_null()))
            path = stream_path(root, group.name, day, f"{PREFIX}{uuid.uuid4().hex[:12]}-000000")
            metadata = own_metadata(files[-1].path)
            if stored.height:
                metadata[INGESTED_AT] = stored[INGESTED_AT].max().isoformat()  # type: ignore[union-attr]
            write = write_rows(stored, metadata)
            storage_of(path).replace(path, partial(_always, write))
            if are_unchanged(files):
                break
            # In S3 a row may have been taken back meanwhile: it must not come back with the new file.
            path.unlink(missing_ok=True)
        for file in files:
            file.path.unlink(missing_ok=True)
    return len(files), rows.height, stored.height


def _always(write: Write) -> Write:
    return write
