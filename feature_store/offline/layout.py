"""Where rows lie in the offline store: `{root}/{group}/date=YYYY-MM-DD/{writer}.parquet`.

Names of folders and files, and what a name says about the rows inside. Nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from feature_store.day_windows import day_window
from feature_store.definitions.names import check_name
from feature_store.errors import InvalidRequestError
from feature_store.partitions import Partitioning, Window
from feature_store.storage.folder_names import date_name, date_of
from feature_store.storage.location import Location, storage_of
from feature_store.storage.protocol import DatedFile, FileStat

SUFFIX = ".parquet"
_BATCH = re.compile(r"batch(?:-(?P<hour>[01][0-9]|2[0-3]))?")
OFFSETS = r"(?P<lane>stream-[A-Za-z0-9._-]+-[0-9]+)-(?P<first>[0-9]{12,})-(?P<last>[0-9]{12,})"
"""Names of writers whose files cover offsets of a lane: of two of a lane, one that lies inside the other is no part of
the store. DuckDB reads the expression too."""

_OFFSETS = re.compile(OFFSETS)
_STREAM_WRITER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")


@dataclass(frozen=True, slots=True, order=True)
class PartitionFile:
    """One Parquet file of a group. Files sort by date, then by file name.

    Attributes:
        date: UTC day of the rows' event timestamps.
        name: File name: the writer's name and `.parquet`.
        path: Where it lies.
        size: Bytes.
        modified_ns: When it was put in place, nanoseconds since 1970 by the file system or S3.
        e_tag: What S3 tells its content by; empty for a local file.
    """

    date: date
    name: str
    path: Location
    size: int
    modified_ns: int
    e_tag: str = ""

    @property
    def writer(self) -> str:
        """Who wrote it: `batch`, `batch-05` (an hour's batch), or the name of a stream writer."""
        return self.name.removesuffix(SUFFIX)

    @property
    def partition_key(self) -> str | None:
        """Key of the partition that a batch wrote, None for a stream writer's file."""
        match = _BATCH.fullmatch(self.writer)
        if match is None:
            return None
        return _partitioning(match).key(self.window.start)

    @property
    def window(self) -> Window:
        """The span that holds all rows of the file: its hour if an hour's batch wrote it, else its day."""
        day = day_window(self.date)
        match = _BATCH.fullmatch(self.writer)
        if match is None or match["hour"] is None:
            return day
        start = day.start + timedelta(hours=int(match["hour"]))
        return Window(start, start + timedelta(hours=1))

    def belongs_to(self, partitioning: Partitioning) -> bool:
        """Tells whether this is the batch file of one partition of a partitioning."""
        match = _BATCH.fullmatch(self.writer)
        return match is not None and _partitioning(match) is partitioning

    def remedy(self) -> str:
        """Returns what to do when the file cannot be read, as a sentence."""
        if self.partition_key is not None:
            return f"Re-materialize partition {self.partition_key}: the file is then replaced as a whole."
        return "Move the file away and replay the offsets of the stream that its name tells."


def group_folder(root: Location, group: str) -> Location:
    """Returns the folder of a group.

    Raises:
        DefinitionError: If the text cannot be a group's name, and so might lead out of the root.
    """
    return root / check_name(group, "feature group")


def date_folder(root: Location, group: str, day: date) -> Location:
    """Returns the folder of one UTC day of a group."""
    return group_folder(root, group) / date_name(day)


def batch_path(root: Location, group: str, partitioning: Partitioning, window: Window) -> Location:
    """Returns the file that the batch materialization of one partition owns.

    Raises:
        InvalidRequestError: If the window is not exactly one partition.
    """
    if len(list(partitioning.windows(window))) != 1:
        raise InvalidRequestError(
            f"{window.start.isoformat()} to {window.end.isoformat()} is not one {partitioning.value} partition "
            f"of group {group!r}: write one partition at a time."
        )
    hour = "" if partitioning is Partitioning.DAILY else f"-{window.start:%H}"
    return date_folder(root, group, window.start.date()) / f"batch{hour}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """What the name of a file that was drained from a topic tells.

    Attributes:
        topic: The topic, a dot, and what tells it from another of its name that was made before or after it.
        partition: Its partition.
        first: First offset that the file covers.
        last: Last offset that it covers. A file that covers the range of another of its folder replaces it: readers
            pass the other over, whether it is still there or not.
    """

    topic: str
    partition: int
    first: int
    last: int

    @property
    def writer(self) -> str:
        """The file's name without its suffix."""
        return f"stream-{self.topic}-{self.partition}-{self.first:012d}-{self.last:012d}"

    @classmethod
    def of(cls, writer: str) -> OffsetRange | None:
        """Returns what a writer's name tells, None for the name of another writer."""
        match = _OFFSETS.fullmatch(writer)
        if match is None:
            return None
        topic, _, partition = match["lane"].removeprefix("stream-").rpartition("-")
        return cls(topic, int(partition), int(match["first"]), int(match["last"]))


def without_covered(names: Iterable[str]) -> list[str]:
    """Returns file names of one folder without those whose offsets another one covers too."""
    kept, ranges = [], []
    for name in names:
        covered = OffsetRange.of(name.removesuffix(SUFFIX))
        if covered is None:
            kept.append(name)
        else:
            ranges.append((covered.topic, covered.partition, covered.first, -covered.last, name))
    reached: tuple[str, int, int] | None = None
    for topic, partition, _, last, name in sorted(ranges):
        if reached is not None and reached[:2] == (topic, partition) and -last <= reached[2]:
            continue
        reached = (topic, partition, -last)
        kept.append(name)
    return kept


def stream_path(root: Location, group: str, day: date, writer: str) -> Location:
    """Returns the file that a stream writer owns.

    Raises:
        InvalidRequestError: If the writer's name cannot name a file, or is one of the batch writer's.
    """
    if not _STREAM_WRITER.fullmatch(writer) or _BATCH.fullmatch(writer):
        raise InvalidRequestError(
            f"{writer!r} cannot name a stream writer: use letters, digits, '.', '_' and '-' (at most 240), "
            "starting with a letter or digit, and none of batch, batch-00 ... batch-23."
        )
    return date_folder(root, group, day) / f"{writer}{SUFFIX}"


def list_files(
    root: Location, group: str, window: Window | None = None, *, covered: bool = False
) -> Iterator[PartitionFile]:
    """Yields a group's files that can hold rows of a window (of all time if None), in no order.

    Foreign folders, hidden files, files of another suffix, and files whose offsets another one covers, are no part of
    the store and are passed over. A group without a folder has no files.

    Args:
        root: Root of the store.
        group: Name of the group.
        window: Only files that can hold rows of it.
        covered: Yields the files whose offsets another one covers, instead of the others.
    """
    folder = group_folder(root, group)
    first = last = None
    if window is not None:
        first, last = window.start.date(), (window.end - timedelta(microseconds=1)).date()
    by_day: dict[date, dict[str, DatedFile[Location]]] = {}
    for found in storage_of(folder).dated_files(folder, first, last):
        if found.path.suffix == SUFFIX:
            by_day.setdefault(found.day, {})[found.path.name] = found
    for day, of_day in by_day.items():
        for name in _chosen(of_day, covered=covered):
            file = _file(day, of_day[name].path, of_day[name].stat)
            if window is None or _overlap(file.window, window):
                yield file


def _chosen(names: Iterable[str], *, covered: bool) -> list[str]:
    names = list(names)
    kept = without_covered(names)
    return sorted(set(names) - set(kept)) if covered else kept


def file_at(path: Location) -> PartitionFile:
    """Returns the record of a file that lies in a date folder."""
    day = date_of(path.parent.name)
    assert day is not None, path
    return _file(day, path, storage_of(path).stat(path))


def identities(files: Sequence[PartitionFile], *, listed: bool = False) -> list[Hashable]:
    """Returns what tells each file from one that takes its place, None where it is gone.

    Args:
        files: Files of one group, by date; the first may be a snapshot.
        listed: Whether they have just been listed, so that for objects there is no need to ask again.
    """
    if not files:
        return []
    storage = storage_of(files[0].path)
    if listed:
        return [storage.identity(file.path, file.e_tag) for file in files]
    return storage.identities([file.path for file in files])


def are_unchanged(files: Sequence[PartitionFile]) -> bool:
    """Tells whether files are still those that were listed."""
    try:
        return all(content_identity(file_at(file.path)) == content_identity(file) for file in files)
    except FileNotFoundError:
        return False


def content_identity(file: PartitionFile) -> tuple[Hashable, ...]:
    """Returns what tells the content of a file from that of every other."""
    return (file.path, file.size, file.e_tag or file.modified_ns)


def _file(day: date, path: Location, stat: FileStat) -> PartitionFile:
    return PartitionFile(day, path.name, path, stat.size, stat.modified_ns, stat.e_tag)


def _partitioning(batch: re.Match[str]) -> Partitioning:
    return Partitioning.HOURLY if batch["hour"] else Partitioning.DAILY


def _overlap(one: Window, other: Window) -> bool:
    return one.start < other.end and other.start < one.end
