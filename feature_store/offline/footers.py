"""Parquet footers: what a file says of itself, and the errors of files that are not what their place says.

Only the metadata of files is judged here; their rows are read by Polars and DuckDB elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.catalog import Group
from feature_store.clock import to_utc
from feature_store.definitions.names import INGESTED_AT
from feature_store.errors import CorruptFileError, FeatureStoreError
from feature_store.offline.layout import PartitionFile
from feature_store.offline.rows import row_schema

_FOOTERS_KEPT = 16_384
_SCHEMAS_KEPT = 1_024


def file_metadata(path: Path) -> dict[str, str]:
    """Returns the key-value metadata that a file was written with.

    Raises:
        FileNotFoundError: If there is no file.
        polars.exceptions.PolarsError: If it is no Parquet file.
    """
    with path.open("rb") as handle:
        metadata = pl.read_parquet_metadata(handle)
    return {key: value for key, value in metadata.items() if not key.startswith("ARROW:")}


def pass_start(path: Path) -> datetime | None:
    """Returns when the pass that wrote a file began (UTC), None if no readable file tells."""
    try:
        return to_utc(datetime.fromisoformat(file_metadata(path)[INGESTED_AT]))
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError):
        return None


def is_readable(path: Path) -> bool:
    """Tells whether there is a file with a whole Parquet footer."""
    try:
        file_metadata(path)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


def present_columns(group: Group, files: Sequence[PartitionFile]) -> list[frozenset[str]]:
    """Returns, file by file, which of the group's columns it has; a file may lack features added after it.

    Raises:
        CorruptFileError: If a file is no whole Parquet file, lacks a join key or a time, or holds a column of the
            group in another dtype.
    """
    expected = row_schema(group)
    optional = {feature.ref.column for feature in group.features}
    present = []
    for file in files:
        found = _footer(group, file).schema
        for column, dtype in expected.items():
            if column not in found and column not in optional:
                raise corrupt_file(group, file, f"it has no column {column!r}")
            if column in found and found[column] != dtype:
                raise corrupt_file(group, file, f"column {column!r} holds {found[column]}, not {dtype}")
        present.append(frozenset(expected).intersection(found))
    return present


def row_counts(group: Group, files: Sequence[PartitionFile]) -> list[int]:
    """Returns how many rows each file has.

    Raises:
        CorruptFileError: If a file is no whole Parquet file.
    """
    return [_footer(group, file).rows for file in files]


def corrupt_file(group: Group, file: PartitionFile, reason: str) -> CorruptFileError:
    """Returns the error of a file that is not what its place says, with the remedy."""
    return CorruptFileError(f"{file.path} is not a file of feature group {group.name!r}: {reason}. {file.remedy()}")


@contextmanager
def naming_corrupt_files(group: Group, files: Sequence[PartitionFile]) -> Iterator[None]:
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
                for _ in pl.scan_parquet(file.path, glob=False, hive_partitioning=False).collect_batches():
                    pass
            except (OSError, pl.exceptions.PolarsError) as error:
                raise corrupt_file(group, file, _first_line(error)) from error
        raise


@dataclass(frozen=True, slots=True)
class _Footer:
    schema: Mapping[str, pl.DataType]
    rows: int


def _footer(group: Group, file: PartitionFile) -> _Footer:
    try:
        stat = file.path.stat()
        return _cached_footer(file.path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError:
        raise
    except (OSError, pl.exceptions.PolarsError, pa.ArrowInvalid) as error:
        reason = "it is empty" if file.size == 0 else _first_line(error)
        raise corrupt_file(group, file, reason) from error


@lru_cache(maxsize=_FOOTERS_KEPT)
def _cached_footer(path: Path, inode: int, modified_ns: int, size: int) -> _Footer:
    # A replaced file has another inode: what identifies its content is in the arguments, and so in the cache's key.
    del inode, modified_ns, size
    metadata = pq.read_metadata(path)
    return _Footer(_polars_schema(metadata.schema.to_arrow_schema().remove_metadata()), metadata.num_rows)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _polars_schema(schema: pa.Schema) -> Mapping[str, pl.DataType]:
    return pl.Schema(schema)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
