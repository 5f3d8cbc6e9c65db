"""OfflineStore: the history of all feature values, as Parquet files below a local folder or an S3 prefix.

It writes whole files and reads rows. Which value was visible when is decided in `point_in_time`, SQL over the
files is in `views`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar

import duckdb
import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.day_windows import day_window
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.offline.digests import content_of
from feature_store.offline.footers import (
    is_readable,
    load_footers,
    naming_corrupt_files,
    present_columns,
)
from feature_store.offline.ingest_files import IngestFiles
from feature_store.offline.layout import PartitionFile, batch_path, file_at, list_files, stream_path
from feature_store.offline.row_changes import (
    Claim,
    PartitionRows,
    RowChanges,
    metadata_if_same,
    metadata_or_none,
    refuse_overtaken,
    replace_partition,
    withdraw_rows,
    write_rows,
)
from feature_store.offline.row_index import RowIndex
from feature_store.offline.rows import checked_rows, nan_to_null
from feature_store.offline.steady_reads import read_steadily
from feature_store.offline.superseded import read_superseded, superseded_files
from feature_store.offline.views import create_views
from feature_store.partitions import Partitioning, Window
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.location import Location, open_location, storage_of
from feature_store.storage.parquet import scan_files

Item = TypeVar("Item")
Result = TypeVar("Result")

WRITES_AT_ONCE = 16
"""A request to S3 waits for the network most of its time."""
SOURCE_FILE = "_file"
"""Column of `OfflineStore.history`; no feature can have a name with a leading underscore."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What became of a write.

    Attributes:
        file: The file that is now in place.
        superseded: Whether the rows were left out because the same offsets are in place.
    """

    file: PartitionFile
    superseded: bool


@dataclass(frozen=True, slots=True)
class PartitionWrite:
    """What `OfflineStore.replace_partition` is given, for one of several partitions.

    Attributes:
        rows: All its rows.
        metadata: Metadata of its file.
    """

    rows: PartitionRows
    metadata: Mapping[str, str]


class OfflineStore:
    """Feature rows in `{root}/{group}/date=YYYY-MM-DD/{writer}.parquet`.

    Safe for any number of readers and writers in any number of processes: of one machine for a folder, anywhere for S3.

    Args:
        root: A folder, which need not exist yet, or `s3://bucket/prefix`.

    Raises:
        SettingsError: If the root is neither, or S3 cannot be reached for want of a package or of credentials.
    """

    def __init__(self, root: str | Location) -> None:
        self.root = open_location(root, setting="FEATURE_STORE_OFFLINE")
        self.index = RowIndex()
        self._ingested = IngestFiles(self.root, self.index)

    def replace_partition(
        self,
        group: RegisteredGroup,
        rows: PartitionRows,
        *,
        began: datetime,
        claim: Claim,
        metadata: Mapping[str, str],
    ) -> RowChanges:
        """Puts all rows of a partition in place of those that a batch wrote before, atomically.

        Rows of equal content keep the time at which they were ingested; if all are equal, the file is not touched.

        Args:
            group: The group.
            rows: All rows of exactly one partition of the group. No rows make an empty file: a materialized partition.
            began: When the run began, before it read its source.
            claim: Gives the ingestion time of rows that are new or differ.
            metadata: Stored as the file's key-value metadata.

        Raises:
            InvalidRequestError: If the window is not one partition.
            OvertakenError: If a run has written the partition that read its source later. Nothing was written.
        """
        path = self.batch_path(group, rows.window)
        return replace_partition(self.root, group, path, rows, began=began, claim=claim, metadata=metadata)

    def replace_partitions(
        self, group: RegisteredGroup, partitions: Sequence[PartitionWrite], *, began: datetime, claim: Claim
    ) -> list[RowChanges]:
        """Replaces several partitions, in S3 many at a time; see `replace_partition`.

        Returns:
            What changed, one for each partition, in order.

        Raises:
            OvertakenError: If a run has written one of them that read its source later. Nothing was written.
        """

        def write(partition: PartitionWrite) -> RowChanges:
            return self.replace_partition(group, partition.rows, began=began, claim=claim, metadata=partition.metadata)

        return self._all_at_once(write, partitions)

    def metadata_if_same(
        self, group: RegisteredGroup, partitions: Sequence[PartitionRows], metadata: Mapping[Window, Mapping[str, str]]
    ) -> list[Mapping[str, str] | None]:
        """Returns the metadata of each partition's file that holds just these rows; see `row_changes`."""
        return self._all_at_once(
            lambda rows: metadata_if_same(
                self.root, group, self.batch_path(group, rows.window), rows, metadata[rows.window]
            ),
            partitions,
        )

    def refuse_overtaken(self, group: RegisteredGroup, windows: Sequence[Window], began: datetime) -> None:
        """Refuses to replace partitions of which a run that began later has written one.

        Raises:
            OvertakenError: If there is one.
        """
        self._all_at_once(
            lambda window: refuse_overtaken(group, window, metadata_or_none(self.batch_path(group, window)), began),
            windows,
        )

    def batch_path(self, group: RegisteredGroup, window: Window) -> Location:
        """Returns the file that the batch of one partition owns."""
        return batch_path(self.root, group.name, Partitioning(group.partitioning), window)

    def add_rows(
        self, group: RegisteredGroup, rows: pl.DataFrame, *, claim: Claim, metadata: Mapping[str, str]
    ) -> RowChanges:
        """Adds rows that are new or differ from what the store holds; see `ingest_files`.

        Args:
            group: The group.
            rows: Join keys, `event_timestamp` and one column per feature; one row per entity and event time.
            claim: Gives the ingestion time of those that are new or differ.
            metadata: Stored as the files' key-value metadata.

        Raises:
            InvalidRowsError: If the rows are not rows of the group.
        """
        return self._ingested.add(group, rows, claim=claim, metadata=metadata)

    def withdraw_rows(self, group: RegisteredGroup, gone: pl.DataFrame) -> pl.DataFrame:
        """Takes back rows wherever they lie; see `row_changes.withdraw_rows`."""
        return withdraw_rows(self.root, group, gone)

    def superseded(self, group: RegisteredGroup, window: Window) -> pl.DataFrame:
        """Returns the rows of a window that were replaced or withdrawn: the group's columns, and `superseded_at`."""
        return read_superseded(group, superseded_files(self.root, group.name, window), window)

    def _all_at_once(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Returns what becomes of items; in S3, where requests wait for the network, many are worked on at a time."""
        return storage_of(self.root).map(work, items, at_once=WRITES_AT_ONCE)

    def write_stream_file(
        self, group: RegisteredGroup, day: date, writer: str, rows: pl.DataFrame, *, metadata: Mapping[str, str]
    ) -> WrittenFile:
        """Adds one micro-batch of a stream. Written again under the same name, it changes nothing.

        Args:
            group: The group.
            day: UTC day of the rows' event timestamps.
            writer: The file's name, made of what identifies the micro-batch: topic, partition, offset range.
            rows: Rows of the day, columns as in `replace_partition`, with `ingested_at`.
            metadata: Stored as the file's key-value metadata.

        Raises:
            InvalidRequestError: If the writer's name cannot name a file, or is a batch writer's.
            InvalidRowsError: If the rows are not rows of the group and day. Nothing was written.
        """
        path = stream_path(self.root, group.name, day, writer)
        write = write_rows(checked_rows(group, day_window(day), rows), metadata)
        replaced = storage_of(path).replace(path, lambda: None if is_readable(path) else write)
        return WrittenFile(file_at(path), superseded=not replaced)

    def files(self, group: str, window: Window | None = None) -> list[PartitionFile]:
        """Returns a group's files that can hold rows of a window (of all time if None), by date and name."""
        return sorted(list_files(self.root, group, window))

    def materialized(self, group: RegisteredGroup) -> list[Window]:
        """Returns the partitions that a batch has materialized, with or without rows, in order."""
        partitioning = Partitioning(group.partitioning)
        return sorted(file.window for file in self.files(group.name) if file.belongs_to(partitioning))

    def scan(self, group: RegisteredGroup, window: Window | None = None) -> pl.LazyFrame:
        """Returns a group's rows of a window (of all time if None), lazily, in no order.

        Columns and dtypes are the group's, whatever the age of a file: a feature that an older file lacks is null.

        Raises:
            CorruptFileError: If the footer of a file is damaged or not the group's. Damage inside the data shows
                when the frame is collected, as an error of Polars; `footers.naming_corrupt_files` names the file.
        """
        return self._rows(group, self.files(group.name, window), window).select(row_schema(group).names())

    def collect(
        self,
        group: RegisteredGroup,
        query: Callable[[pl.LazyFrame], pl.LazyFrame],
        window: Window | None = None,
        *,
        streaming: bool = False,
    ) -> pl.DataFrame:
        """Returns what a query gives of a group's rows, whatever is replaced or folded meanwhile.

        Args:
            group: The group.
            query: Told what `scan` gives.
            window: Only rows whose event lies in it; None for all of time.
            streaming: Whether rows may be more than memory holds: Polars' streaming engine then runs the query.

        Raises:
            CorruptFileError: If a file is damaged or not the group's.
            FeatureStoreError: If files are replaced faster than they can be read.
        """

        def read(files: list[PartitionFile]) -> pl.DataFrame:
            with naming_corrupt_files(group, files):
                rows = self._rows(group, files, window).select(row_schema(group).names())
                return query(rows).collect(engine="streaming" if streaming else "auto")

        return read_steadily(group.name, lambda: self.files(group.name, window), read)

    def history(self, group: RegisteredGroup, entity_id: str, window: Window | None = None) -> pl.DataFrame:
        """Returns the rows of one entity, newest first, the row that wins among equal times before the others.

        Args:
            group: The group.
            entity_id: The entity.
            window: Only rows whose event lies in it, and only their files are opened; None for all of time.

        Returns:
            The group's columns, and `_file`: path of the row's file below the root.

        Raises:
            InvalidRequestError: If the entity id is not one of the group's entity.
            CorruptFileError: If a file is damaged or not the group's.
        """
        conditions = [pl.col(column) == value for column, value in group.entity.keys_of(entity_id).items()]

        def read(files: list[PartitionFile]) -> pl.DataFrame:
            with naming_corrupt_files(group, files):
                return (
                    self._rows(group, files, window)
                    .filter(*conditions)
                    .with_row_index("_row")
                    .sort(EVENT_TIMESTAMP, INGESTED_AT, "_row", descending=True)
                    .drop("_row")
                    .collect()
                )

        rows = read_steadily(group.name, lambda: self.files(group.name, window), read)
        return rows.with_columns(pl.col(SOURCE_FILE).str.strip_prefix(f"{self.root}/"))

    def content(self, files: Sequence[PartitionFile]) -> dict[str, str]:
        """Returns, by path below the root, a text that changes when what a read of a file can answer changes.

        It is the digest of the file's rows, without `ingested_at`: a materialization that computes the same rows again
        leaves it as it was. Where a day has several files, `ingested_at` settles ties between them and belongs to it.
        """
        files_of_day = Counter(file.path.parent for file in files)
        load_footers(files)
        return {self.relative(file): content_of(file, with_time=files_of_day[file.path.parent] > 1) for file in files}

    def relative(self, file: PartitionFile) -> str:
        """Returns the path of a file below the root."""
        return str(file.path).removeprefix(f"{self.root}/")

    def connect_views(self, catalog: Catalog, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Creates DuckDB views over the store: one per group, and `feature_value`; see `views.create_views`."""
        create_views(self.root, [(group, self.files(group.name)) for group in catalog.groups.values()], connection)
        return connection

    def _rows(self, group: RegisteredGroup, files: list[PartitionFile], window: Window | None) -> pl.LazyFrame:
        rows = self._scan(group, files)
        if window is not None:
            rows = rows.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))
        return rows

    def _scan(self, group: RegisteredGroup, files: list[PartitionFile]) -> pl.LazyFrame:
        schema = row_schema(group)
        if not files:
            return pl.LazyFrame(schema={**schema, SOURCE_FILE: pl.String})
        present_columns(group, files)
        return scan_files(
            [file.path for file in files],
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            include_file_paths=SOURCE_FILE,
        ).with_columns(nan_to_null(schema, schema.names()))
