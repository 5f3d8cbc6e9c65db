"""The files that a stream leaves in the offline store: written, resumed from, folded together, corrected.

A file is named by topic, partition and the range of offsets that it covers, one per UTC day of its rows. Its metadata
tells the range of the micro-batch that it is part of, and of the last one where several were folded into it: all that a
drainer needs to go on is in the files themselves.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from functools import partial

import msgspec
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.day_windows import day_window
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.equality import positions_missing_from
from feature_store.errors import InvalidRequestError
from feature_store.offline.footers import file_metadata, is_readable
from feature_store.offline.ingest_files import fold_ingested, is_ingested
from feature_store.offline.layout import (
    SUFFIX,
    OffsetRange,
    PartitionFile,
    are_unchanged,
    date_folder,
    file_at,
    list_files,
)
from feature_store.offline.row_changes import (
    MICROSECOND,
    drop_rows,
    identity_of,
    newest_versions,
    own_metadata,
    read_rows,
    withdraw_rows,
    without_taken_back,
    write_rows,
)
from feature_store.offline.rows import checked_rows
from feature_store.offline.store import OfflineStore
from feature_store.offline.stream_state import StreamStateFiles
from feature_store.offline.superseded import SUPERSEDED_AT, ending, keep_superseded
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema
from feature_store.storage.location import Location, storage_of
from feature_store.storage.protocol import Write

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

    def __init__(self, store: OfflineStore, group: RegisteredGroup) -> None:
        self._store = store
        self._group = group
        self._notes = StreamStateFiles(store.root, group.name)

    def exclusively(self) -> AbstractContextManager[None]:
        """Waits until the group is neither drained nor compacted by another, and keeps others waiting."""
        return self._notes.exclusively()

    def write(
        self, topic: str, partition: int, first: int, last: int, rows: pl.DataFrame, gone: pl.DataFrame | None = None
    ) -> list[PartitionFile]:
        """Writes the rows of a range of offsets, a file per UTC day; what is there already stays as it is.

        A row that the store holds with equal content is left out: it keeps its time.

        Args:
            topic: The topic of rows, and which incarnation of it.
            partition: Its partition.
            first: Offset of the first message.
            last: Offset of the last message.
            rows: The rows.
            gone: What `remove` will be given next. Rows that it takes back stand in for none of those that are written.
        """
        offsets = OffsetRange(topic, partition, first, last)
        metadata = {BATCH_FIRST: str(first), BATCH_LAST: str(last)}
        days = rows.with_columns(_day=pl.col(EVENT_TIMESTAMP).dt.date()).partition_by(
            "_day", as_dict=True, include_key=False
        )
        written = []
        for (day,), part in sorted(days.items()):
            newest = {INGESTED_AT: part[INGESTED_AT].max().isoformat()}  # type: ignore[union-attr]
            folder = date_folder(self._store.root, self._group.name, day)
            with storage_of(folder).holding(folder):
                files = self._store.files(self._group.name, day_window(day))
                present = [file for file in files if _covers(file, offsets)]
                written += present or [
                    self._store.write_stream_file(
                        self._group,
                        day,
                        offsets.writer,
                        self._new(files, part, gone),
                        metadata={**metadata, **newest},
                    ).file
                ]
        return written

    def _new(self, files: Sequence[PartitionFile], rows: pl.DataFrame, gone: pl.DataFrame | None) -> pl.DataFrame:
        """Returns the rows that the newest version in some files does not equal."""
        identity = identity_of(self._group)
        sound = [file for file in files if is_readable(file.path)]
        holders = self._store.index.files_with(self._group, sound, rows.select(identity))
        rows = self._not_withdrawn(rows)
        held = read_rows(self._group, holders).join(rows.select(identity), on=identity, how="semi")
        if gone is not None:
            held = without_taken_back(self._group, held, gone)
        if held.is_empty():
            return rows
        columns = computed_schema(self._group).names()
        newest = newest_versions(self._group, held).select(columns)
        return rows[positions_missing_from(rows.select(columns), newest)]

    def _not_withdrawn(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns rows without those that were withdrawn after they had been ingested, while they were on their way."""
        times = rows[EVENT_TIMESTAMP]
        if rows.is_empty():
            return rows
        identity = identity_of(self._group)
        window = Window(times.min(), times.max() + MICROSECOND)  # type: ignore[arg-type, operator]
        former = self._store.superseded(self._group, window)
        if former.is_empty():
            return rows
        ends = former.group_by(identity).agg(pl.col(SUPERSEDED_AT).max())
        marked = rows.join(ends, on=identity, how="left", maintain_order="left")
        is_over = (pl.col(INGESTED_AT) < pl.col(SUPERSEDED_AT)).fill_null(value=False)
        return marked.filter(~is_over).drop(SUPERSEDED_AT)

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

    def accepted_losses(self, topic: str) -> dict[int, int]:
        """Returns before which offset of each partition of a topic it is known that rows are gone."""
        content = self._notes.read(_losses_file(topic))
        return {int(number): before for number, before in msgspec.json.decode(content).items()} if content else {}

    def accept_loss(self, topic: str, partition: int, before: int) -> None:
        """Takes note that the rows before an offset are gone, where they were not drained."""
        losses = self.accepted_losses(topic) | {partition: before}
        self._notes.write(_losses_file(topic), msgspec.json.encode({str(number): at for number, at in losses.items()}))

    def remove(self, retracted: pl.DataFrame) -> int:
        """Takes back rows wherever they lie, files of the batch among them; returns how many.

        Args:
            retracted: Join keys, `event_timestamp`, and `ingested_at`: rows that were ingested later stay.
        """
        return withdraw_rows(self._store.root, self._group, retracted).height

    def compact(self, *, at_least: int = 2, grace_seconds: float = GRACE_SECONDS) -> CompactionReport:
        """Folds what ingest, pushes and streams have left: the files of each day and writer into one.

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
        with self.exclusively():
            return self._compact(at_least, grace_seconds)

    def _compact(self, at_least: int, grace_seconds: float) -> CompactionReport:
        removed = self._remove_replaced(grace_seconds)
        tally = [
            done
            for day in sorted({file.date for file in self._store.files(self._group.name) if is_ingested(file)})
            if (done := fold_ingested(self._store.root, self._group, day)) is not None
        ]
        lanes: dict[tuple[date, str, int], list[tuple[OffsetRange, PartitionFile]]] = defaultdict(list)
        for file in self._store.files(self._group.name):
            covered = OffsetRange.of(file.writer)
            if covered is not None:
                lanes[file.date, covered.topic, covered.partition].append((covered, file))
        folded, files, rows = sum(done[0] for done in tally), len(tally), sum(done[2] for done in tally)
        superseded = sum(done[1] - done[2] for done in tally)
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
        files = [file for _, file in members]
        first, last = members[0][0], members[-1][0]
        whole = OffsetRange(first.topic, first.partition, first.first, last.last)
        day = files[0].date
        path = files[0].path.parent / f"{whole.writer}{SUFFIX}"
        newest = max(own_metadata(file.path).get(INGESTED_AT, "") for file in files)
        metadata = {**own_metadata(files[-1].path), INGESTED_AT: newest}
        with storage_of(path.parent).holding(path.parent):
            while True:
                rows = read_rows(self._group, files)
                merged = newest_versions(self._group, rows)
                ended = ending(rows, list(self._group.entity.join_keys), pl.lit(None, rows.schema[INGESTED_AT]))
                replaced = ended.filter(pl.col(SUPERSEDED_AT).is_not_null())
                if replaced.height:
                    # What is replaced is seen by nobody, in the files that stay for a while neither.
                    keep_superseded(self._store.root, self._group, day, replaced)
                    for file in files:
                        drop_rows(self._group, file.path, replaced)
                    files = [file_at(file.path) for file in files]
                write = write_rows(checked_rows(self._group, day_window(day), merged), metadata)
                storage_of(path).replace(path, partial(_unless_readable, path, write))
                if are_unchanged([file for file in files if file.path != path]):
                    return rows.height, merged.height
                # In S3 a row may have been taken back meanwhile: it must not come back with the new file.
                path.unlink(missing_ok=True)
                files = [file_at(file.path) for file in files]

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


def _losses_file(topic: str) -> str:
    return f"losses-{topic}.json"


def _covers(file: PartitionFile, offsets: OffsetRange) -> bool:
    theirs = OffsetRange.of(file.writer)
    return (
        theirs is not None
        and (theirs.topic, theirs.partition) == (offsets.topic, offsets.partition)
        and theirs.first <= offsets.first
        and offsets.last <= theirs.last
    )


def _unless_readable(path: Location, write: Write) -> Write | None:
    return None if is_readable(path) else write
