"""Snapshots: the latest row per entity at the start of a UTC day, so that a read need not go through all history.

A snapshot is one more history file, below `{root}/snapshots/{group}/date=YYYY-MM-DD/`: it stands for all files of the
days before its own. It records what it was made of; one whose inputs have changed since is passed over by readers until
it is made again. Deciding which reads may use one is done here; what is visible, and reading, is done elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import groupby
from typing import BinaryIO

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros
from feature_store.day_windows import midnight
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.offline.footers import file_metadata, naming_corrupt_files, present_columns
from feature_store.offline.layout import SUFFIX, PartitionFile, date_folder, file_at, list_files
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files
from feature_store.visibility import MICROS_PER_SECOND, Visibility

FOLDER = "snapshots"
FILE_NAME = f"snapshot{SUFFIX}"
_INPUTS = "inputs"
_TTL = "longest_ttl_seconds"


@dataclass(frozen=True, slots=True)
class WrittenSnapshot:
    """A snapshot that is in place.

    Attributes:
        day: It holds the latest rows of events before the start of this UTC day.
        file: Its file.
        rows: Number of entities in it.
        created: False if it was in place already, made of the same inputs.
    """

    day: date
    file: PartitionFile
    rows: int
    created: bool


def write_snapshots(store: OfflineStore, group: RegisteredGroup, days: Sequence[date]) -> Iterator[WrittenSnapshot]:
    """Makes the snapshots of some days that are missing or whose inputs have changed.

    Each starts from the one before it, so that history is read once however many there are; memory is one day of
    history plus one row per entity.

    Args:
        store: Holds the history.
        group: The group.
        days: UTC days, in any order.

    Yields:
        One report per day, in order of time.

    Raises:
        CorruptFileError: If a file of the history is damaged or not the group's; see `present_columns`.
    """
    carried = pl.DataFrame(schema=row_schema(group))
    carried_to = date.min
    for day in sorted(set(days)):
        inputs = _inputs(store, group, day)
        path = _path(store, group, day)
        created = not _is_current(path, group, inputs)
        if created:
            for files_of_day in _by_day(inputs, carried_to):
                carried = _fold(group, carried, files_of_day)
            metadata = {_INPUTS: _fingerprint(inputs), _TTL: str(_longest_ttl(group))}
            rows = _still_alive(group, carried, day)
            storage_of(path).replace(path, partial(_content, rows, metadata))
        else:
            rows = carried = _read(group, file_at(path))
        carried_to = day
        yield WrittenSnapshot(day, file_at(path), rows.height, created)


def usable_snapshot(
    store: OfflineStore, group: RegisteredGroup, span: Window, first_label: datetime
) -> PartitionFile | None:
    """Returns the newest snapshot that stands for all history before its day, for labels from `first_label` on.

    None where no snapshot lies inside the span, or each has inputs that changed, or was made for shorter times to live.
    The rule of visibility must not depend on when rows were ingested: a snapshot knows the winner of today.

    Args:
        store: Holds the history.
        group: The group.
        span: The events that a read needs; a snapshot before its start would save nothing.
        first_label: The earliest label time (aware UTC).
    """
    for file in sorted(list_files(store.root / FOLDER, group.name, span), reverse=True):
        # A snapshot is as old as the first instant of its day.
        if file.name != FILE_NAME or not span.start < file.window.start <= first_label:
            continue
        if _is_current(file.path, group, _inputs(store, group, file.date)):
            return file
    return None


def _path(store: OfflineStore, group: RegisteredGroup, day: date) -> Location:
    return date_folder(store.root / FOLDER, group.name, day) / FILE_NAME


def _inputs(store: OfflineStore, group: RegisteredGroup, day: date) -> list[PartitionFile]:
    return sorted(file for file in list_files(store.root, group.name) if file.date < day)


def _fingerprint(inputs: Sequence[PartitionFile]) -> str:
    # Names, sizes and times of files instead of their content: a reader checks thousands of them for each read.
    described = [(file.date.isoformat(), file.name, file.size, file.e_tag or file.modified_ns) for file in inputs]
    return hashlib.sha256(repr(described).encode()).hexdigest()


def _is_current(path: Location, group: RegisteredGroup, inputs: Sequence[PartitionFile]) -> bool:
    try:
        metadata = file_metadata(path)
    except (OSError, pl.exceptions.PolarsError):
        return False
    long_enough = int(metadata.get(_TTL, 0)) >= _longest_ttl(group)
    return long_enough and metadata.get(_INPUTS) == _fingerprint(inputs)


def _longest_ttl(group: RegisteredGroup) -> int:
    return Visibility.of(group.features).longest // MICROS_PER_SECOND


def _by_day(files: Sequence[PartitionFile], since: date) -> Iterator[list[PartitionFile]]:
    later = [file for file in files if file.date >= since]
    for _, files_of_day in groupby(later, lambda file: file.date):
        yield list(files_of_day)


def _fold(group: RegisteredGroup, carried: pl.DataFrame, files: Sequence[PartitionFile]) -> pl.DataFrame:
    """Returns the latest row per entity of what is carried and one more day."""
    present_columns(group, files)
    with naming_corrupt_files(group, files):
        parts = [_read(group, file) for file in files]
    keys = list(group.entity.join_keys)
    return (
        pl.concat([carried, *parts])
        # Stable: among rows equal in both times, the last file in order and the last row in it win, as in every read.
        .sort(EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True)
        .group_by(keys, maintain_order=True)
        .last()
        .select(carried.columns)
    )


def _read(group: RegisteredGroup, file: PartitionFile) -> pl.DataFrame:
    schema = row_schema(group)
    return (
        scan_files(file.path, schema=schema, missing_columns="insert", extra_columns="ignore")
        .select(schema.names())
        .collect()
    )


def _still_alive(group: RegisteredGroup, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    start = to_micros(midnight(day))
    over = pl.col(EVENT_TIMESTAMP).to_physical() + Visibility.of(group.features).longest
    return rows.filter(over > start).sort(list(group.entity.join_keys))


def _content(rows: pl.DataFrame, metadata: Mapping[str, str]) -> Callable[[BinaryIO], None]:
    def write(handle: BinaryIO) -> None:
        rows.write_parquet(handle, compression="zstd", metadata=dict(metadata))

    return write
