"""`Storage`: what the store asks of a kind of place.

A folder of this machine does it by locks and renames, S3 by conditional requests; nobody outside of this package tells
the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Write: TypeAlias = Callable[[BinaryIO], None]
"""Writes the content of a file to the handle that it is given."""

Place = TypeVar("Place")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a storage says of a file.

    Attributes:
        size: Bytes.
        modified_ns: When it was put in place, nanoseconds since 1970; S3 tells whole seconds.
        e_tag: What S3 tells its content by; empty for a local file.
        changed_ns: When the file system last changed anything of it, which nobody can set back; 0 in S3.
    """

    size: int
    modified_ns: int
    e_tag: str = ""
    changed_ns: int = 0


@dataclass(frozen=True, slots=True)
class DatedFile(Generic[Place]):
    """A file in a date folder.

    Attributes:
        day: The folder's date.
        path: The file.
        stat: What the storage says of it.
    """

    day: date
    path: Place
    stat: FileStat


@dataclass(frozen=True, slots=True)
class Room(Generic[Place]):
    """Whether and how much can be written to a place.

    Attributes:
        folder: The nearest folder that exists.
        free_bytes: What is free there; None where there is no limit.
    """

    folder: Place
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Seal:
    """The file that completes a published folder: no reader takes a folder without it for one.

    Attributes:
        name: Its name.
        content: Returns its content, given the number under which the folder is shown.
        files: Returns the names of the files that a seal which is in place names.
    """

    name: str
    content: Callable[[int], bytes]
    files: Callable[[Any], set[str]]


@dataclass(frozen=True, slots=True)
class Draft(Generic[Place]):
    """A folder that is to be shown under a number.

    Attributes:
        staged: What `Storage.staging` gave, with all files but the seal.
        seal: What completes it.
        after: The number is greater than this one and all that are there.
        copies: What `Storage.link` has left to be copied.
        is_superfluous: Asked when nobody else can come first any more; if so, nothing is shown.
    """

    staged: Path
    seal: Seal
    after: int
    copies: Mapping[str, Place]
    is_superfluous: Callable[[], bool]


class Storage(Protocol[Place]):
    """A kind of place that files lie in.

    Attributes:
        renames: Whether a folder is shown by a rename. Where it is not, files of writers that race for one folder need
            different names.
    """

    renames: bool

    # Files: what is there.

    def stat(self, path: Place) -> FileStat:
        """Returns what there is to say of a file.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def dated_files(self, folder: Place, first: date | None, last: date | None) -> Iterator[DatedFile[Place]]:
        """Yields the files that lie directly in folders named `date=YYYY-MM-DD`, in no order; hidden ones are left out.

        All files of a folder were there at one time. Folders in it, and links that lead nowhere, are no files.

        Args:
            folder: What the date folders lie in; it may be missing.
            first: Nothing before this day; None for all.
            last: Nothing after this day.
        """
        ...

    def identity(self, path: Place, e_tag: str) -> Hashable:
        """Returns what tells a file, as it was listed, from one that takes its place; None if it is gone.

        Args:
            path: The file.
            e_tag: What its `FileStat` had; it saves a request.
        """
        ...

    def identities(self, paths: Sequence[Place]) -> list[Hashable]:
        """Returns the identity that each of some files in date folders has now, None for those that are gone."""
        ...

    def is_outage(self, error: Exception) -> bool:
        """Tells whether a library's error when it read a file means that the storage did not answer."""
        ...

    def digest(self, path: Place) -> str:
        """Returns the SHA-256 of a file's bytes."""
        ...

    def room(self, place: Place) -> Room[Place]:
        """Tries to write at a place, which need not exist yet, and leaves nothing there.

        Raises:
            SettingsError: If it cannot be written.
            StorageError: If S3 refuses.
        """
        ...

    # Many files at a time.

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int) -> list[Result]:
        """Returns what becomes of items; where requests wait for the network, so many are worked on at a time."""
        ...

    def prefetch(self, work: Callable[[Item], object], items: Sequence[Item], *, at_once: int) -> None:
        """Does work ahead for items where that saves waiting for the network; elsewhere nothing."""
        ...

    # How libraries read files.

    def footer(self, path: Place, identity: Hashable = None) -> pq.FileMetaData:
        """Returns the footer of a Parquet file.

        Args:
            path: The file.
            identity: Where S3 holds another object than this one by now, it is not read.

        Raises:
            FileNotFoundError: If there is none, or not the expected one any more.
            pyarrow.ArrowInvalid: If it is no Parquet file.
        """
        ...

    def parquet_file(self, path: Place) -> pq.ParquetFile:
        """Opens a Parquet file with Arrow."""
        ...

    def scan_options(self, path: Place) -> Mapping[str, Any]:
        """Returns the arguments of Polars' scanners by which they reach a file."""
        ...

    def object_store_options(self, path: Place) -> dict[str, str] | None:
        """Returns the options by which libraries over object_store, such as deltalake, reach a place; None for none."""
        ...

    def spark_address(self, path: Any) -> str:
        """Returns the address under which Spark finds a file or folder."""
        ...

    def spark_options(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """Returns the settings of a Spark application that reads and writes here.

        Args:
            variables: The environment variables that tell how to reach the storage.
        """
        ...

    def spark_packages(self, hadoop: Callable[[], str]) -> Sequence[str]:
        """Returns the Maven coordinates of what a Spark application needs to read and write here.

        Args:
            hadoop: Returns the version of Hadoop that Spark was built with.
        """
        ...

    # Files: writing.

    def holding(self, folder: Place) -> AbstractContextManager[None]:
        """Keeps other writers away from a folder, which is made if it is missing.

        In S3 there are no locks, and nothing is kept away: each object is replaced only if it is still what was read.
        """
        ...

    def exclusively(self, path: Place) -> AbstractContextManager[None]:
        """Waits until nobody else is in such a block of the same path, on any machine, and keeps others waiting.

        Who dies in the block is waited for no longer: on a local disk at once, in S3 for a minute.

        Args:
            path: In S3, the object that says so; on a local disk its folder is locked.
        """
        ...

    def replace(self, path: Place, prepare: Callable[[], Write | None]) -> bool:
        """Writes a file anew and puts it in place in one step that survives a crash of the machine.

        Args:
            path: The file. Its folder is made if it is missing.
            prepare: Asked for what writes the content when nobody else can replace the file any more, or, in S3, before
                each attempt: what it reads then is what is replaced. None leaves everything as it is.

        Returns:
            Whether the file was replaced.

        Raises:
            StorageError: If the disk is full, may not be written to, or limits the size of files, or S3 refuses; the
                old file stays.
        """
        ...

    # Marks: small files that tell of work which has begun and not ended.

    def mark(self, path: Place, content: bytes) -> AbstractContextManager[None]:
        """Keeps a mark while a block lasts. If the block fails, or the process is killed, the mark stays."""
        ...

    def leave_mark(self, path: Place, content: bytes) -> None:
        """Makes a mark that has no owner, for others to find."""
        ...

    def marks(self, folder: Place) -> list[tuple[Place, bytes]]:
        """Returns all marks of a folder with their content, be their owners alive or dead."""
        ...

    def abandoned_marks(self, folder: Place, *, ownerless: bytes) -> list[tuple[Place, bytes]]:
        """Returns the marks in a folder whose owners are dead, with their content.

        Args:
            folder: The folder; it may be missing.
            ownerless: The content of marks that `leave_mark` has made.
        """
        ...

    # Folders that are shown whole or not at all.

    def staging(self, folder: Place) -> AbstractContextManager[Path]:
        """Gives a hidden local folder to write to; what is in it at the end is removed.

        Args:
            folder: Where it will be shown; made if it is missing. What dead writers have left in it is removed.
        """
        ...

    def link(self, source: Place, relatives: Iterable[str], staged: Path) -> Mapping[str, Place]:
        """Takes over files that never change from a published folder, shared and not copied.

        Returns:
            What is to be copied when the staged folder is published, by its path there.
        """
        ...

    def publish_numbered(self, folder: Place, draft: Draft[Place]) -> int | None:
        """Shows a draft as the next one of `v1`, `v2`, ... of a folder.

        Returns:
            The number; None if it is superfluous.
        """
        ...

    def publish(self, place: Place, staged: Path, seal: Seal) -> bool:
        """Shows a staged folder, which holds its seal, in a place where there may be one already.

        Returns:
            Whether it was put there; False if another one is there, which stays.
        """
        ...

    def numbered(self, folder: Place, seal: str) -> list[int]:
        """Returns the numbers of the folders `v1`, `v2`, ... that are shown in a folder, in order."""
        ...

    def restore(self, staged: Path, place: Place) -> None:
        """Puts a staged file of a published folder back in its place."""
        ...
