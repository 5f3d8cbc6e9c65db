"""Parquet footers: what a file says of itself, and the errors of files that are not what their place says.

Only the metadata of files is judged here; their rows are read by Polars and DuckDB elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import polars as pl
import pyarrow.parquet as pq

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros, to_utc
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import CorruptFileError, FeatureStoreError, StorageError
from feature_store.offline.layout import PartitionFile
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files
from feature_store.storage.parquet_footers import TimeRange, first_line, parquet_footer, polars_schema, times_in

_FOOTERS_KEPT = 16_384
_REQUESTS_AT_ONCE = 32
_TIMES = (EVENT_TIMESTAMP, INGESTED_AT)
_EARLIEST = -(2**63)


def file_metadata(path: Location) -> dict[str, str]:
    """Returns the key-value metadata that a file was written with.

    Raises:
        FileNotFoundError: If there is no file.
        polars.exceptions.PolarsError: If it is no Parquet file.
        StorageError: If S3 does not answer.
    """
    return _pairs(parquet_footer(path))


def metadata_of(file: PartitionFile) -> dict[str, str]:
    """Returns the key-value metadata of a file that was listed; see `read_footer`."""
    return dict(read_footer(file).metadata)


@dataclass(frozen=True, slots=True)
class Footer:
    """What the footer of a file says.

    Attributes:
        schema: Columns and dtypes.
        rows: Number of rows.
        metadata: Key-value metadata that it was written with.
        times: What the statistics say of `event_timestamp` and `ingested_at`; a column that they are silent of is
            left out.
    """

    schema: Mapping[str, pl.DataType]
    rows: int
    metadata: Mapping[str, str]
    times: Mapping[str, TimeRange]


def read_footer(file: PartitionFile) -> Footer:
    """Returns the footer of a file that was listed. It is read once; `load_footers` reads those of many at a time.

    Raises:
        FileNotFoundError: If it is not there any more.
        polars.exceptions.PolarsError: If it is no Parquet file.
        StorageError: If S3 does not answer.
    """
    return _cached_footer(file.path, _identity(file))


def load_footers(files: Sequence[PartitionFile]) -> None:
    """Reads the footers of objects that are not known yet, many at a time.

    Errors are left to those who then read them.
    """
    if files:
        storage_of(files[0].path).prefetch(_try_footer, files, at_once=_REQUESTS_AT_ONCE)


def pass_start(path: Location) -> datetime | None:
    """Returns when the pass that wrote a file began (UTC), None if no readable file tells."""
    try:
        return to_utc(datetime.fromisoformat(file_metadata(path)[INGESTED_AT]))
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError):
        return None


def is_readable(path: Location) -> bool:
    """Tells whether there is a file with a whole Parquet footer."""
    try:
        file_metadata(path)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


def present_columns(
    group: RegisteredGroup, files: Sequence[PartitionFile], *, snapshot: PartitionFile | None = None
) -> list[frozenset[str]]:
    """Returns, file by file, which of the group's columns it has; a file may lack features added after it.

    All that reads rows asks here first, so that every reader refuses the same files.

    Args:
        group: The group.
        files: The files.
        snapshot: Which of them, if any, holds rows from before its date instead of those of its partition.

    Raises:
        CorruptFileError: If a file is no whole Parquet file, lacks a join key or a time, holds a column of the group
            in another dtype, has a row without a time, or one whose event lies outside of the file's partition.
    """
    expected = row_schema(group)
    optional = {feature.ref.column for feature in group.features}
    present = []
    load_footers(files)
    for file in files:
        footer = _footer(group, file)
        found = footer.schema
        for column, dtype in expected.items():
            if column not in found and column not in optional:
                raise corrupt_file(group, file, f"it has no column {column!r}")
            if column in found and found[column] != dtype:
                raise corrupt_file(group, file, f"column {column!r} holds {found[column]}, not {dtype}")
        if footer.rows:
            _check_times(group, file, footer, is_snapshot=file == snapshot)
        present.append(frozenset(expected).intersection(found))
    return present


def row_counts(group: RegisteredGroup, files: Sequence[PartitionFile]) -> list[int]:
    """Returns how many rows each file has.

    Raises:
        CorruptFileError: If a file is no whole Parquet file.
    """
    load_footers(files)
    return [_footer(group, file).rows for file in files]


def corrupt_file(group: RegisteredGroup, file: PartitionFile, reason: str) -> CorruptFileError:
    """Returns the error of a file that is not what its place says, with the remedy."""
    return CorruptFileError(f"{file.path} is not a file of feature group {group.name!r}: {reason}. {file.remedy()}")


@contextmanager
def naming_corrupt_files(group: RegisteredGroup, files: Sequence[PartitionFile]) -> Iterator[None]:
    """Wraps a read of files: if it fails, each is read alone to find out which one is damaged.

    Raises:
        CorruptFileError: If one of the files cannot be read. An error that no file explains passes through.
    """
    try:
        yield
    except FeatureStoreError:
        raise
    except Exception:
        for file in files:
            try:
                for _ in scan_files(file.path).collect_batches():
                    pass
            except (OSError, pl.exceptions.PolarsError) as error:
                if storage_of(file.path).is_outage(error):
                    raise StorageError(f"{file.path} could not be read: {first_line(error)}.") from error
                raise corrupt_file(group, file, first_line(error)) from error
        raise


def _check_times(group: RegisteredGroup, file: PartitionFile, footer: Footer, *, is_snapshot: bool) -> None:
    times = footer.times
    if len(times) < len(_TIMES):
        with naming_corrupt_files(group, [file]):
            times = _times_of_rows(file.path, _identity(file))
    for column in _TIMES:
        if times[column].nulls:
            raise corrupt_file(group, file, f"it has rows without {column}")
    events = times[EVENT_TIMESTAMP]
    start, end = to_micros(file.window.start), to_micros(file.window.end)
    if is_snapshot:
        start, end = _EARLIEST, start
    if events.first is None or events.last is None or events.first < start or events.last >= end:
        raise corrupt_file(group, file, "it has rows whose event_timestamp lies outside of its partition")


def _identity(file: PartitionFile) -> Hashable:
    """Returns what tells a file from one that takes its place, None if it is gone."""
    return storage_of(file.path).identity(file.path, file.e_tag)


@lru_cache(maxsize=_FOOTERS_KEPT)
def _times_of_rows(path: Location, identity: Hashable) -> Mapping[str, TimeRange]:
    """Reads the times of a file whose statistics are silent of them."""
    del identity
    columns = [pl.col(column) for column in _TIMES]
    found = (
        scan_files(path)
        .select(
            pl.concat_list(column.min().to_physical(), column.max().to_physical(), column.null_count().cast(pl.Int64))
            for column in columns
        )
        .collect()
    )
    return {column: TimeRange(*found[column][0]) for column in _TIMES}


def _footer(group: RegisteredGroup, file: PartitionFile) -> Footer:
    try:
        return read_footer(file)
    except FileNotFoundError:
        raise
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "it is empty" if file.size == 0 else first_line(error)
        raise corrupt_file(group, file, reason) from error


@lru_cache(maxsize=_FOOTERS_KEPT)
def _cached_footer(path: Location, identity: Hashable) -> Footer:
    found = parquet_footer(path, identity)
    schema = polars_schema(found)
    return Footer(schema, found.num_rows, _pairs(found), times_in(found, _TIMES))


def _try_footer(file: PartitionFile) -> None:
    with suppress(OSError, StorageError, pl.exceptions.PolarsError):
        read_footer(file)


def _pairs(footer: pq.FileMetaData) -> dict[str, str]:
    pairs = {key.decode(): value.decode() for key, value in (footer.metadata or {}).items()}
    return {key: value for key, value in pairs.items() if not key.startswith("ARROW:")}
