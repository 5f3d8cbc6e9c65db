"""The files that a stream leaves in the offline store: written, resumed from, folded together, corrected.

A file is named by topic, partition and the range of offsets that it covers, one per UTC day of its rows. Its metadata
tells the range of the micro-batch that it is part of, and of the last one where several were folded into it: all that a
drainer needs to go on is in the files themselves.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO

import polars as pl

from feature_store.catalog import Group
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.source import day_window
from feature_store.errors import InvalidRequestError
from feature_store.offline.digests import CONTENT, content_digest
from feature_store.offline.files import locked, replace_file
from feature_store.offline.footers import file_metadata, is_readable
from feature_store.offline.layout import SUFFIX, OffsetRange, PartitionFile, group_folder, list_files
from feature_store.offline.rows import row_schema
from feature_store.offline.store import ROW_GROUP_ROWS, OfflineStore
from feature_store.storage.location import Location
from feature_store.storage.parquet import scan_files
from feature_store.storage.s3_path import S3Path

BATCH_FIRST, BATCH_LAST = "stream_first", "stream_last"
GRACE_SECONDS = 3600.0
"""How long a file stays after another has replaced it: longer than any read that may have listed it takes."""


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did.

    Attributes:
        folded: Files that were folded into others.
        files: Files that hold their rows now.
        rows: Rows of these files.
        superseded: Rows left out, since a later one of the same entity and event time stands beside them.
        removed: Files removed, which had been folded a while ago.
    """

    folded: int
    files: int
    rows: int
    superseded: int
    removed: int


class StreamFiles:
    """The files of one group that streams write.

    Args:
        store: The offline store.
        group: The group.
    """

    def __init__(self, store: OfflineStore, group: Group) -> None:
        self._store = store
        self._group = group

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Waits until no other drainer of the group is at work, and keeps others waiting while the block lasts."""
        folder = group_folder(self._store.root, self._group.name)
        if isinstance(folder, S3Path):
            # S3 has no locks: the limit of one run at a time of the group's asset has to do.
            yield
            return
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            yield

    def write(self, topic: str, partition: int, first: int, last: int, rows: pl.DataFrame) -> list[PartitionFile]:
        """Writes the rows of a range of offsets, a file per UTC day; what is there already stays as it is."""
        offsets = OffsetRange(topic, partition, first, last)
        metadata = {BATCH_FIRST: str(first), BATCH_LAST: str(last)}
        days = rows.with_columns(_day=pl.col(EVENT_TIMESTAMP).dt.date()).partition_by(
            "_day", as_dict=True, include_key=False
        )
        written = []
        for (day,), part in sorted(days.items()):
            present = [file for file in self._store.files(self._group.name, day_window(day)) if _covers(file, offsets)]
            newest = {INGESTED_AT: part[INGESTED_AT].max().isoformat()}  # type: ignore[union-attr]
            written += present or [
                self._store.write_stream_file(
                    self._group, day, offsets.writer, part, metadata={**metadata, **newest}
                ).file
            ]
        return written

    def last_batches(self, topic: str) -> dict[int, tuple[int, int]]:
        """Returns the range of offsets of the last micro-batch of each partition of a topic that left a file.

        Whether all of its files were written is not known: to write it again completes it.
        """
        newest: dict[int, tuple[int, PartitionFile]] = {}
        for file in self._store.files(self._group.name):
            covered = OffsetRange.of(file.writer)
            if covered is None or covered.topic != topic:
                continue
            if covered.partition not in newest or covered.last > newest[covered.partition][0]:
                newest[covered.partition] = (covered.last, file)
        found = {}
        for partition, (_, file) in newest.items():
            metadata = file_metadata(file.path)
            found[partition] = (int(metadata[BATCH_FIRST]), int(metadata[BATCH_LAST]))
        return found

    def remove(self, retracted: pl.DataFrame) -> int:
        """Takes back rows wherever they lie, files of the batch among them; returns how many.

        Args:
            retracted: Join keys, `event_timestamp`, and `ingested_at`: rows that were ingested later stay.
        """
        removed = 0
        for (day,), part in retracted.group_by(pl.col(EVENT_TIMESTAMP).dt.date()):
            for file in self._store.files(self._group.name, day_window(day)):
                removed += self._remove_from(file.path, part)
        return removed

    def _remove_from(self, path: Location, retracted: pl.DataFrame) -> int:
        identity = [*self._group.entity.join_keys, EVENT_TIMESTAMP]
        until = retracted.select(*identity, pl.col(INGESTED_AT).alias("_until"))
        kept = pl.DataFrame()
        removed = 0

        def nothing_to_remove() -> bool:
            # Under the folder's lock: what is read here is what is replaced.
            nonlocal kept, removed
            if not is_readable(path):
                return True
            rows = scan_files(path).collect()
            marked = rows.join(until, on=identity, how="left")
            kept = marked.filter(pl.col("_until").is_null() | (pl.col(INGESTED_AT) >= pl.col("_until"))).drop("_until")
            removed = rows.height - kept.height
            return not removed

        metadata = _own_metadata(path)
        replace_file(path, lambda handle: _write(kept, handle, metadata), unless=nothing_to_remove)
        return removed

    def compact(self, *, at_least: int = 2, grace_seconds: float = GRACE_SECONDS) -> CompactionReport:
        """Folds the files of each day and partition into one, and removes what was folded a while ago.

        At every instant a listing of the store has each row once: the new file appears in one step, and its name
        tells which others it replaces. These stay for a while, for those who listed them before.

        Args:
            at_least: Files of a day and partition from which on they are folded.
            grace_seconds: How long replaced files stay.

        Raises:
            InvalidRequestError: If `grace_seconds` is less than 1: a reader in between could find neither.
        """
        if grace_seconds < 1:
            raise InvalidRequestError(f"grace_seconds={grace_seconds}: replaced files stay at least a second.")
        removed = self._remove_replaced(grace_seconds)
        lanes: dict[tuple[date, str, int], list[tuple[OffsetRange, PartitionFile]]] = defaultdict(list)
        for file in self._store.files(self._group.name):
            covered = OffsetRange.of(file.writer)
            if covered is not None:
                lanes[file.date, covered.topic, covered.partition].append((covered, file))
        folded = files = rows = superseded = 0
        for members in lanes.values():
            if len(members) < at_least:
                continue
            before, after = self._fold(members)
            folded += len(members)
            files += 1
            rows += after
            superseded += before - after
        return CompactionReport(folded, files, rows, superseded, removed)

    def _fold(self, members: list[tuple[OffsetRange, PartitionFile]]) -> tuple[int, int]:
        members = sorted(members, key=lambda member: member[0].first)
        first, last = members[0][0], members[-1][0]
        whole = OffsetRange(first.topic, first.partition, first.first, last.last)
        path = members[0][1].path.parent / f"{whole.writer}{SUFFIX}"
        schema = row_schema(self._group)
        identity = [*self._group.entity.join_keys, EVENT_TIMESTAMP]
        newest = max(_own_metadata(file.path).get(INGESTED_AT, "") for _, file in members)
        metadata = {**_own_metadata(members[-1][1].path), INGESTED_AT: newest}
        before = 0
        merged = pl.DataFrame()

        def is_there() -> bool:
            # Read under the folder's lock: a row that is taken back meanwhile must not come back.
            nonlocal before, merged
            paths = [file.path for _, file in members]
            rows = scan_files(paths, schema=schema, missing_columns="insert", extra_columns="ignore").collect()
            before = rows.height
            order = [*self._group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT]
            merged = rows.sort(order, maintain_order=True).unique(identity, keep="last", maintain_order=True)
            return is_readable(path)

        replace_file(path, lambda handle: _write(merged, handle, metadata), unless=is_there)
        return before, merged.height

    def _remove_replaced(self, grace_seconds: float) -> int:
        current: dict[date, list[PartitionFile]] = defaultdict(list)
        for file in self._store.files(self._group.name):
            current[file.date].append(file)
        removed = 0
        for file in list_files(self._store.root, self._group.name, covered=True):
            offsets = OffsetRange.of(file.writer)
            successors = [other for other in current[file.date] if offsets is not None and _covers(other, offsets)]
            if any(time.time() - successor.modified_ns / 1e9 > grace_seconds for successor in successors):
                file.path.unlink(missing_ok=True)
                removed += 1
        return removed


def _covers(file: PartitionFile, offsets: OffsetRange) -> bool:
    theirs = OffsetRange.of(file.writer)
    return (
        theirs is not None
        and (theirs.topic, theirs.partition) == (offsets.topic, offsets.partition)
        and theirs.first <= offsets.first
        and offsets.last <= theirs.last
    )


def _own_metadata(path: Location) -> dict[str, str]:
    try:
        return {key: value for key, value in file_metadata(path).items() if key != CONTENT}
    except FileNotFoundError:
        return {}


def _write(rows: pl.DataFrame, handle: BinaryIO, metadata: dict[str, str]) -> None:
    described = {**metadata, CONTENT: content_digest(rows)}
    rows.write_parquet(handle, compression="zstd", row_group_size=ROW_GROUP_ROWS, metadata=described)
