"""What a writer brings against what the store holds: rows that are new, rows that differ, rows that are gone.

The one place that writes rows into files. Whoever gives rows gives their content; when they were ingested is decided
here: a row of equal content keeps its time, and a row that differs is later than the one that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from typing import BinaryIO

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_utc
from feature_store.day_windows import day_window
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.equality import positions_missing_from
from feature_store.errors import OvertakenError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.digests import CONTENT, content_digest
from feature_store.offline.footers import file_metadata, is_readable
from feature_store.offline.layout import PartitionFile, content_identity, date_folder, file_at, list_files
from feature_store.offline.rows import fit_rows
from feature_store.offline.superseded import SUPERSEDED_AT, ending, keep_superseded
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema, row_schema
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files
from feature_store.storage.protocol import Write

ROW_GROUP_ROWS = 131_072
MICROSECOND = timedelta(microseconds=1)

_EVER = datetime.min.replace(tzinfo=UTC)

Claim = Callable[[datetime], datetime]
"""Gives the ingestion time of rows that are given now: at or after the time that it is asked for, and unique."""


class PartitionRows:
    """All rows of a partition, before it is decided when each was ingested.

    Args:
        group: The group.
        window: The partition.
        rows: The group's columns but `ingested_at`, one row per entity and event time.

    Attributes:
        window: The partition.
        frame: The rows in the order in which they are stored.

    Raises:
        InvalidRowsError: If the rows are not rows of the group and window.
    """

    def __init__(self, group: RegisteredGroup, window: Window, rows: pl.DataFrame) -> None:
        self.window = window
        self.frame = fit_rows(group, window, rows)

    @cached_property
    def digest(self) -> str:
        """Digest of the content."""
        return content_digest(self.frame)


@dataclass(slots=True)
class RowChanges:
    """What a write changed.

    Attributes:
        rows: Rows that are new or differ, as they are stored.
        gone: Join keys, `event_timestamp`, and `ingested_at`: up to when a row was ingested that is withdrawn.
        unchanged: Number of rows that were given and stood there already.
        files: Files that hold what was given.
    """

    rows: pl.DataFrame
    gone: pl.DataFrame
    unchanged: int = 0
    files: list[PartitionFile] = field(default_factory=list)

    @classmethod
    def nothing(cls, group: RegisteredGroup) -> RowChanges:
        """Returns the changes of a write that changed nothing."""
        rows = pl.DataFrame(schema=row_schema(group))
        return cls(rows, rows.select(*identity_of(group), INGESTED_AT))

    def __bool__(self) -> bool:
        return bool(self.rows.height or self.gone.height)


def joined_changes(group: RegisteredGroup, changes: Sequence[RowChanges]) -> RowChanges:
    """Returns what several writes changed."""
    if len(changes) == 1:
        return changes[0]
    parts = [RowChanges.nothing(group), *(part for part in changes if part)]
    return RowChanges(
        pl.concat([part.rows for part in parts]),
        pl.concat([part.gone for part in parts]),
        sum(part.unchanged for part in changes),
        [file for part in changes for file in part.files],
    )


def identity_of(group: RegisteredGroup) -> list[str]:
    """Returns the columns that tell the rows of a group apart."""
    return [*group.entity.join_keys, EVENT_TIMESTAMP]


def read_rows(group: RegisteredGroup, files: Sequence[PartitionFile]) -> pl.DataFrame:
    """Returns all rows of some files; a feature that a file lacks is null."""
    schema = row_schema(group)
    if not files:
        return pl.DataFrame(schema=schema)
    paths = [file.path for file in files]
    return scan_files(paths, schema=schema, missing_columns="insert", extra_columns="ignore").collect()


def newest_versions(group: RegisteredGroup, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns of each entity and event time the row that was ingested last."""
    return rows.sort(INGESTED_AT, maintain_order=True).unique(identity_of(group), keep="last", maintain_order=True)


def write_rows(rows: pl.DataFrame, metadata: Mapping[str, str], digest: str | None = None) -> Write:
    """Returns what writes rows, in the order of `checked_rows`, as a file of the store; their digest if it is known."""
    described = {**metadata, CONTENT: digest or content_digest(rows)}

    def write(handle: BinaryIO) -> None:
        rows.write_parquet(handle, compression="zstd", row_group_size=ROW_GROUP_ROWS, metadata=described)

    return write


def own_metadata(path: Location) -> dict[str, str]:
    """Returns the metadata that a file was written with, without the digest of its rows; none where there is none."""
    try:
        return {key: value for key, value in file_metadata(path).items() if key != CONTENT}
    except FileNotFoundError:
        return {}


def metadata_or_none(path: Location) -> dict[str, str] | None:
    """Returns the metadata of a file, None where there is no whole Parquet file."""
    try:
        return file_metadata(path)
    except (OSError, pl.exceptions.PolarsError):
        return None


@dataclass(slots=True)
class Compared:
    """Given rows against what is held.

    Attributes:
        stored: All of them, with the times at which they were ingested.
        changed: Those that are new or differ.
        stamp: When those were ingested; None where there are none.
    """

    stored: pl.DataFrame
    changed: pl.DataFrame
    stamp: datetime | None


def compare(group: RegisteredGroup, rows: pl.DataFrame, held: pl.DataFrame, claim: Claim) -> Compared:
    """Decides when each of some rows was ingested.

    Args:
        group: The group.
        rows: The group's columns but `ingested_at`.
        held: The newest version of each row that the store holds, of the same entities and event times or more.
        claim: Gives the time of those that are new or differ.
    """
    identity = identity_of(group)
    columns = computed_schema(group).names()
    rows = rows.select(columns)
    if held.is_empty():
        if rows.is_empty():
            empty = rows.with_columns(pl.lit(None, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
            return Compared(empty, empty, None)
        first = claim(_EVER)
        stored = rows.with_columns(pl.lit(first, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
        return Compared(stored, stored, first)
    positions = positions_missing_from(rows, held.select(columns))
    is_changed = pl.Series(values=[False], dtype=pl.Boolean).new_from_index(0, rows.height)
    is_changed = is_changed.scatter(positions, values=True) if positions.len() else is_changed
    times = rows.select(identity).join(
        held.select(*identity, INGESTED_AT), on=identity, how="left", maintain_order="left"
    )[INGESTED_AT]
    stamp: datetime | None = None
    if positions.len():
        newest = times.filter(is_changed).max()
        after = newest + MICROSECOND if isinstance(newest, datetime) else _EVER
        stamp = claim(after)
        times = times.zip_with(~is_changed, pl.Series([stamp], dtype=TIMESTAMP_TYPE).new_from_index(0, rows.height))
    stored = rows.with_columns(times.alias(INGESTED_AT))
    return Compared(stored, stored.filter(is_changed), stamp)


def replace_partition(
    root: Location,
    group: RegisteredGroup,
    path: Location,
    rows: PartitionRows,
    *,
    began: datetime,
    claim: Claim,
    metadata: Mapping[str, str],
) -> RowChanges:
    """Puts all rows of a partition in place of those that a batch wrote before.

    Rows of other writers stay, unless the batch was the last that gave them and does so no more.

    Args:
        root: Root of the store.
        group: The group.
        path: The file that the partition's batch owns.
        rows: All rows of the partition.
        began: Before the source was read.
        claim: Gives ingestion times.
        metadata: Of the file. What it says besides `ingested_at` and `run_id` belongs to the content.

    Raises:
        OvertakenError: If a run has written the partition that read its source later.
    """
    window = rows.window
    day = window.start.date()
    described = {**metadata, INGESTED_AT: began.isoformat()}
    with storage_of(path.parent).holding(path.parent):
        changes = RowChanges.nothing(group)
        attempted: pl.DataFrame | None = None

        def prepare() -> Write | None:
            nonlocal attempted, changes
            if attempted is not None and _holds(group, path, attempted):
                # S3 did what it was asked, and its answer was lost: the changes are ours.
                return None
            old = metadata_or_none(path)
            refuse_overtaken(group, window, old, began)
            files = sorted(list_files(root, group.name, window))
            others = [file for file in files if file.path != path and is_readable(file.path)]
            if (
                old is not None
                and not others
                and _telling(old) == _telling(described)
                and old.get(CONTENT) == rows.digest
            ):
                changes = RowChanges.nothing(group)
                changes.unchanged = rows.frame.height
                return None
            before = read_rows(group, [file for file in files if file.path == path and old is not None])
            versions = pl.concat([before, _of_window(read_rows(group, others), window)])
            compared = compare(group, rows.frame, newest_versions(group, versions), claim)
            changes = RowChanges(compared.changed, changes.gone, rows.frame.height - compared.changed.height)
            _take_away(root, group, day, versions, before, compared, others, claim, changes)
            stored = compared.stored.select(row_schema(group).names())
            if old is not None and not changes and not _is_new(before, stored, old, described):
                return None
            if compared.stamp is None:
                # Nothing has changed but what the file says of itself: all later runs begin after this one.
                claim(began)
            attempted = stored
            return write_rows(stored, described, rows.digest)

        storage_of(path).replace(path, prepare)
        changes.files = [file_at(path)]
        return changes


def _holds(group: RegisteredGroup, path: Location, rows: pl.DataFrame) -> bool:
    """Tells whether a file holds just these rows, ingestion times included."""
    return metadata_or_none(path) is not None and read_rows(group, [file_at(path)]).equals(rows)


def refuse_overtaken(
    group: RegisteredGroup, window: Window, metadata: Mapping[str, str] | None, began: datetime
) -> None:
    """Refuses to replace the file of a run that began later.

    Args:
        group: The group.
        window: The partition.
        metadata: Of its file; None if there is none.
        began: When this run began.

    Raises:
        OvertakenError: If there is one.
    """
    try:
        other = to_utc(datetime.fromisoformat((metadata or {})[INGESTED_AT]))
    except (KeyError, ValueError):
        return
    if other > began:
        raise OvertakenError(
            f"Feature group {group.name!r}, partition {window.start.isoformat()}: nothing was written, for a run that "
            f"began at {other.isoformat()} has read its source later than this one, which began at "
            f"{began.isoformat()}. If the clock of this machine is behind, correct it, and run again."
        )


def metadata_if_same(
    root: Location, group: RegisteredGroup, path: Location, rows: PartitionRows, metadata: Mapping[str, str]
) -> Mapping[str, str] | None:
    """Returns the metadata of a partition's file if it alone holds the partition's rows, and just these; else None.

    Rows are compared by their digest. None of them is read.

    Args:
        root: Root of the store.
        group: The group.
        path: The file that the partition's batch owns.
        rows: All rows of the partition.
        metadata: What the file must say, besides `ingested_at` and `run_id`. It may say more.
    """
    old = metadata_or_none(path)
    if old is None or old.get(CONTENT) != rows.digest or not _telling(metadata).items() <= old.items():
        return None
    others = (file for file in list_files(root, group.name, rows.window) if file.path != path)
    return None if any(is_readable(file.path) for file in others) else old


def _is_new(before: pl.DataFrame, stored: pl.DataFrame, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    if _telling(old) != _telling(new) or before.height != stored.height:
        return True
    return bool(positions_missing_from(stored, before.select(stored.columns)).len())


def _telling(metadata: Mapping[str, str]) -> dict[str, str]:
    """Returns what a file's metadata says of its content, not of the run that wrote it."""
    return {key: value for key, value in metadata.items() if key not in {INGESTED_AT, "run_id", CONTENT}}


def _of_window(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    return rows.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))


def _take_away(
    root: Location,
    group: RegisteredGroup,
    day: date,
    versions: pl.DataFrame,
    before: pl.DataFrame,
    compared: Compared,
    others: Sequence[PartitionFile],
    claim: Claim,
    changes: RowChanges,
) -> None:
    """Withdraws the rows that the batch gave last and gives no more, and keeps what the file will not hold any more."""
    identity = identity_of(group)
    keys = list(group.entity.join_keys)
    held = newest_versions(group, versions)
    lost = before.join(compared.stored.select(*identity, INGESTED_AT), on=[*identity, INGESTED_AT], how="anti")
    if lost.is_empty():
        return
    mine = held.select(*identity, INGESTED_AT).join(
        before.select(*identity, INGESTED_AT), on=[*identity, INGESTED_AT], how="semi"
    )
    gone = mine.join(compared.stored.select(identity), on=identity, how="anti").select(identity)
    at = compared.stamp
    if gone.height:
        newest = held.join(gone, on=identity, how="semi")[INGESTED_AT].max()
        assert isinstance(newest, datetime)
        at = at if at is not None and at > newest else claim(newest + MICROSECOND)
        changes.gone = gone.with_columns(pl.lit(at, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
    ended = ending(versions, keys, pl.lit(at, dtype=TIMESTAMP_TYPE))
    is_leaving = ended.join(lost, on=[*identity, INGESTED_AT], how="semi", maintain_order="left")
    taken_back = ended.join(gone, on=identity, how="semi", maintain_order="left")
    leaving = pl.concat([is_leaving, taken_back]).unique(maintain_order=True)
    # A version that others hold on, at the same time, has not ended.
    leaving = leaving.filter(pl.col(SUPERSEDED_AT).is_not_null())
    keep_superseded(root, group, day, leaving)
    if gone.height:
        for file in others:
            _drop(file.path, lambda kept: kept.join(gone, on=identity, how="anti", maintain_order="left"))


def _drop(path: Location, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
    """Rewrites a file without some of its rows; returns how many it had."""
    dropped = 0

    def prepare() -> Write | None:
        nonlocal dropped
        dropped = 0
        if not is_readable(path):
            return None
        rows = scan_files(path).collect()
        kept = keep(rows)
        dropped = rows.height - kept.height
        return write_rows(kept, own_metadata(path)) if dropped else None

    storage_of(path).replace(path, prepare)
    return dropped


def drop_rows(group: RegisteredGroup, path: Location, rows: pl.DataFrame) -> int:
    """Rewrites a file without some rows, told by entity, event time and ingestion time; returns how many it had."""
    versions = [*identity_of(group), INGESTED_AT]
    return _drop(path, lambda kept: kept.join(rows, on=versions, how="anti", maintain_order="left"))


def without_taken_back(group: RegisteredGroup, rows: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Returns rows without those that `withdraw_rows` would take back, in their order.

    Args:
        group: The group.
        rows: The group's columns.
        gone: As there.
    """
    return _left_by(rows, until=_until(group, gone))


def _until(group: RegisteredGroup, gone: pl.DataFrame) -> pl.DataFrame:
    return gone.select(*identity_of(group), pl.col(INGESTED_AT).alias("_until"))


def _left_by(rows: pl.DataFrame, until: pl.DataFrame) -> pl.DataFrame:
    identity = [column for column in until.columns if column != "_until"]
    marked = rows.join(until, on=identity, how="left", maintain_order="left")
    return marked.filter(pl.col("_until").is_null() | (pl.col(INGESTED_AT) >= pl.col("_until"))).drop("_until")


def withdraw_rows(root: Location, group: RegisteredGroup, gone: pl.DataFrame) -> pl.DataFrame:
    """Takes back rows wherever they lie.

    Args:
        root: Root of the store.
        group: The group.
        gone: Join keys, `event_timestamp`, and `ingested_at`: rows that were ingested then or later stay.

    Returns:
        The rows that were taken back: the group's columns.
    """
    identity = identity_of(group)
    until = _until(group, gone)
    taken = [pl.DataFrame(schema=row_schema(group))]
    for (day,), part in until.group_by(pl.col(EVENT_TIMESTAMP).dt.date(), maintain_order=True):
        assert isinstance(day, date)
        folder = date_folder(root, group.name, day)

        with storage_of(folder).holding(folder):
            looked: set[tuple[Hashable, ...]] = set()
            # Listed again until nothing has come: a compaction may be putting the same rows into another file.
            while files := [file for file in _all_files(root, group, day) if content_identity(file) not in looked]:
                rows = read_rows(group, files)
                leaving = rows.join(part, on=identity).filter(pl.col(INGESTED_AT) < pl.col("_until"))
                if leaving.height:
                    ended = ending(leaving.drop("_until"), list(group.entity.join_keys), pl.lit(None, TIMESTAMP_TYPE))
                    ended = ended.join(part, on=identity, how="left", maintain_order="left")
                    ended = ended.with_columns(pl.col(SUPERSEDED_AT).fill_null(pl.col("_until"))).drop("_until")
                    keep_superseded(root, group, day, ended)
                    taken.append(leaving.drop("_until"))
                for file in files:
                    looked.add(content_identity(file))
                    if _drop(file.path, partial(_left_by, until=part)):
                        looked.add(content_identity(file_at(file.path)))
    return pl.concat(taken).unique(maintain_order=True)


def _all_files(root: Location, group: RegisteredGroup, day: date) -> list[PartitionFile]:
    """Returns all files of a day, those that others have replaced among them: they are there for a while."""
    window = day_window(day)
    covered = list_files(root, group.name, window, covered=True)
    return sorted([*list_files(root, group.name, window), *covered])
