"""Rows that are no more: replaced by others of the same entity and event time, or withdrawn.

They lie beside the store, in `{root}/_superseded/{group}/date=YYYY-MM-DD/`, with the column `superseded_at`: from when
on they did not hold any more. No view, no training set and no other reader of the store sees them. A strict read does,
for it asks what the store could have known at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.layout import SUFFIX, PartitionFile, date_folder, list_files
from feature_store.partitions import Window
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files

if TYPE_CHECKING:
    from typing import BinaryIO

FOLDER = "_superseded"
"""No group has a name that begins with an underscore."""

SUPERSEDED_AT = "superseded_at"


def keep_superseded(root: Location, group: RegisteredGroup, day: date, rows: pl.DataFrame) -> None:
    """Keeps rows of a UTC day that are about to leave the store. Keeping them again changes nothing.

    Args:
        root: Root of the offline store.
        group: The group.
        day: UTC day of the rows' event times.
        rows: The group's columns and `superseded_at`.
    """
    if rows.is_empty():
        return
    rows = rows.sort(*group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT, SUPERSEDED_AT)
    content = rows.write_ipc(None, compression="uncompressed").getvalue()
    name = f"{hashlib.sha256(content).hexdigest()[:32]}{SUFFIX}"

    def write(handle: BinaryIO) -> None:
        rows.write_parquet(handle, compression="zstd")

    path = date_folder(root / FOLDER, group.name, day) / name
    storage_of(path).replace(path, lambda: write)


def superseded_files(root: Location, group: str, window: Window) -> list[PartitionFile]:
    """Returns the files that hold superseded rows whose events can lie in a window, by date and name."""
    return sorted(list_files(root / FOLDER, group, window))


def read_superseded(group: RegisteredGroup, files: Sequence[PartitionFile], window: Window) -> pl.DataFrame:
    """Returns the superseded rows of a window: the group's columns and `superseded_at`."""
    schema = {**row_schema(group), SUPERSEDED_AT: TIMESTAMP_TYPE}
    if not files:
        return pl.DataFrame(schema=schema)
    return (
        scan_files([file.path for file in files], schema=schema, missing_columns="insert", extra_columns="ignore")
        .filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))
        .collect()
    )


def ending(versions: pl.DataFrame, keys: Sequence[str], at: pl.Expr) -> pl.DataFrame:
    """Returns versions of rows with `superseded_at`: when the next one of the same entity and event time was ingested.

    Args:
        versions: The group's columns; several rows of one entity and event time are versions of one another.
        keys: The join keys.
        at: When the last version of each ends (UTC).
    """
    following = pl.col(INGESTED_AT).shift(-1).over(*keys, EVENT_TIMESTAMP, order_by=INGESTED_AT)
    return versions.unique(maintain_order=True).with_columns(following.fill_null(at).alias(SUPERSEDED_AT))
