"""`Local`: the folders of this machine. Writers lock folders; files and folders are shown by a rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from feature_store.errors import SettingsError
from feature_store.storage import local_files, local_folders, local_marks
from feature_store.storage.folder_names import date_name, date_of
from feature_store.storage.protocol import DatedFile, Draft, FileStat, Item, Result, Room, Seal, Write

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_SHORT = timedelta(days=62)
"""Spans of so many days are looked at day by day: there may be a thousand others."""


class Local:
    """See `protocol.Storage`."""

    renames = True

    def stat(self, path: Path) -> FileStat:
        """See `Storage.stat`."""
        return _file_stat(path.stat())

    def dated_files(self, folder: Path, first: date | None, last: date | None) -> Iterator[DatedFile[Path]]:
        """See `Storage.dated_files`."""
        for day, place in _date_folders(folder, first, last):
            yield from _files_of(day, place)

    def identity(self, path: Path, e_tag: str = "") -> Hashable:
        """See `Storage.identity`. A replaced file has another inode."""
        del e_tag
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def identities(self, paths: Sequence[Path]) -> list[Hashable]:
        """See `Storage.identities`."""
        return [self.identity(path) for path in paths]

    def is_outage(self, error: Exception) -> bool:
        """See `Storage.is_outage`."""
        del error
        return False

    def digest(self, path: Path) -> str:
        """See `Storage.digest`."""
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def room(self, place: Path) -> Room[Path]:
        """See `Storage.room`."""
        # What is written first makes the folders that are missing.
        folder = next(parent for parent in (place, *place.parents) if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"writable")
        except OSError as error:
            raise SettingsError(
                f"The folder {folder} cannot be written: {error.strerror}. Give this user the right to, or let "
                "FEATURE_STORE_OFFLINE name another folder."
            ) from None
        return Room(folder, shutil.disk_usage(folder).free)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int) -> list[Result]:
        """See `Storage.map`. Here nothing waits for the network."""
        del at_once
        return [work(item) for item in items]

    def prefetch(self, work: Callable[[Item], object], items: Sequence[Item], *, at_once: int) -> None:
        """See `Storage.prefetch`. Here files are opened when they are needed."""

    def footer(self, path: Path, identity: Hashable = None) -> pq.FileMetaData:
        """See `Storage.footer`."""
        import pyarrow.parquet as pq

        del identity
        return pq.read_metadata(path)

    def parquet_file(self, path: Path) -> pq.ParquetFile:
        """See `Storage.parquet_file`."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(path)

    def scan_options(self, path: Path) -> Mapping[str, Any]:
        """See `Storage.scan_options`."""
        del path
        return {}

    def object_store_options(self, path: Path) -> dict[str, str] | None:
        """See `Storage.object_store_options`."""
        del path
        return None

    def spark_address(self, path: Any) -> str:
        """See `Storage.spark_address`. An address that has a scheme of its own stays as it is."""
        return str(path) if "://" in str(path) else f"file://{Path(path).absolute()}"

    def spark_options(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """See `Storage.spark_options`."""
        del variables
        return {}

    def spark_packages(self, hadoop: Callable[[], str]) -> Sequence[str]:
        """See `Storage.spark_packages`."""
        del hadoop
        return ()

    def holding(self, folder: Path) -> AbstractContextManager[None]:
        """See `Storage.holding`."""
        return local_files.holding(folder)

    def exclusively(self, path: Path) -> AbstractContextManager[None]:
        """See `Storage.exclusively`."""
        return local_files.holding(path.parent)

    def replace(self, path: Path, prepare: Callable[[], Write | None]) -> bool:
        """See `Storage.replace`."""
        return local_files.replace_file(path, prepare)

    def mark(self, path: Path, content: bytes) -> AbstractContextManager[None]:
        """See `Storage.mark`. The mark is locked as long as its owner lives."""
        return local_marks.mark(path, content)

    def leave_mark(self, path: Path, content: bytes) -> None:
        """See `Storage.leave_mark`."""
        local_marks.leave_mark(path, content)

    def marks(self, folder: Path) -> list[tuple[Path, bytes]]:
        """See `Storage.marks`."""
        return local_marks.marks(folder)

    def abandoned_marks(self, folder: Path, *, ownerless: bytes) -> list[tuple[Path, bytes]]:
        """See `Storage.abandoned_marks`. A mark that is not locked has no living owner."""
        del ownerless
        return local_marks.abandoned_marks(folder)

    def staging(self, folder: Path) -> AbstractContextManager[Path]:
        """See `Storage.staging`."""
        return local_folders.staging(folder)

    def link(self, source: Path, relatives: Iterable[str], staged: Path) -> Mapping[str, Path]:
        """See `Storage.link`."""
        local_folders.link(source, relatives, staged)
        return {}

    def publish_numbered(self, folder: Path, draft: Draft[Path]) -> int | None:
        """See `Storage.publish_numbered`."""
        return local_folders.publish_numbered(folder, draft)

    def publish(self, place: Path, staged: Path, seal: Seal) -> bool:
        """See `Storage.publish`."""
        del seal
        return local_folders.publish(place, staged)

    def numbered(self, folder: Path, seal: str) -> list[int]:
        """See `Storage.numbered`."""
        del seal
        return local_folders.numbered(folder)

    def restore(self, staged: Path, place: Path) -> None:
        """See `Storage.restore`."""
        local_folders.restore(staged, place)


def _file_stat(found: os.stat_result) -> FileStat:
    return FileStat(found.st_size, found.st_mtime_ns, changed_ns=found.st_ctime_ns)


def _files_of(day: date, folder: Path) -> list[DatedFile[Path]]:
    while True:
        try:
            with os.scandir(folder) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = []
        for entry in shown:
            try:
                stat = entry.stat()
            except FileNotFoundError:
                if entry.is_symlink():
                    continue
                # Folded since the folder was read: what holds its rows now is listed by another look.
                break
            if S_ISREG(stat.st_mode):
                found.append(DatedFile(day, folder / entry.name, _file_stat(stat)))
        else:
            return found


def _date_folders(folder: Path, first: date | None, last: date | None) -> Iterator[tuple[date, Path]]:
    """Yields the folders of days, those of a short span without looking at all others."""
    if first is not None and last is not None and last - first <= _SHORT:
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(ordinal)
            path = folder / date_name(day)
            if path.exists():
                yield day, path
        return
    try:
        found = list(folder.iterdir())
    except FileNotFoundError:
        return
    for path in found:
        named = date_of(path.name)
        if named is not None and (first is None or named >= first) and (last is None or named <= last):
            yield named, path
