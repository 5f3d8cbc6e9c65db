"""Marks of writes that have begun and not ended: what a killed writer has left to be done is known to the next one.

A mark is a small file, `{root}/_unfinished/{group}/{token}.json`, with the UTC days that the write touches. It is made
before the first file of the store, and goes when the online store has everything. The mark of a writer of this machine
is locked as long as it lives; in S3, where there are no locks, a mark is a dead writer's when it is old.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from feature_store.offline.layout import group_folder
from feature_store.storage.location import Location
from feature_store.storage.refused import naming_refusals
from feature_store.storage.s3_path import S3Path, S3Stat

FOLDER = "_unfinished"
"""No group has a name that begins with an underscore."""

_ALL_DAYS = b"[]"
DEAD_AFTER_SECONDS = 900.0
"""A mark in S3 that is as old as this is that of a dead writer."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A write that has not ended.

    Attributes:
        path: Its mark.
        days: UTC days of the rows; none for all days.
    """

    path: Location
    days: tuple[date, ...]

    def done(self) -> None:
        """Says that all of it has been done."""
        self.path.unlink(missing_ok=True)


@contextmanager
def unfinished(root: Location, group: str, days: Sequence[date]) -> Iterator[None]:
    """Marks a write while the block lasts. If the block fails, or the process is killed, the mark stays."""
    path = group_folder(root / FOLDER, group) / f"{uuid.uuid4().hex}.json"
    content = msgspec.json.encode([day.isoformat() for day in days])
    if isinstance(path, S3Path):
        path.put(content)
        yield
        path.unlink(missing_ok=True)
        return
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    try:
        with naming_refusals(path):
            os.write(descriptor, content)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def leave_unfinished(root: Location, group: str) -> None:
    """Marks all days of a group: what is online is to be brought in line with the offline store by the next writer."""
    path = group_folder(root / FOLDER, group) / f"{uuid.uuid4().hex}.json"
    if isinstance(path, S3Path):
        path.put(_ALL_DAYS)
        return
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_ALL_DAYS)


def left_behind(root: Location, group: str) -> list[Unfinished]:
    """Returns the writes of a group whose writers are dead."""
    folder = group_folder(root / FOLDER, group)
    found: list[tuple[Location, bytes]] = []
    if isinstance(folder, S3Path):
        now = time.time()
        found += [(path, path.read_bytes()) for path, stat in folder.objects() if _is_dead(stat, now)]
    else:
        with suppress(FileNotFoundError):
            for path in sorted(folder.iterdir()):
                content = _content_if_dead(path)
                if content is not None:
                    found.append((path, content))
    return [Unfinished(path, _days(content)) for path, content in found]


def is_under_way(root: Location, group: str) -> bool:
    """Tells whether any write of a group has not ended, be its writer alive or dead."""
    folder = group_folder(root / FOLDER, group)
    if isinstance(folder, S3Path):
        return any(True for _ in folder.objects())
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def _is_dead(stat: S3Stat, now: float) -> bool:
    # Marks of all days are nobody's: they lie there to be found.
    return now - stat.st_mtime_ns / 1e9 > DEAD_AFTER_SECONDS or stat.st_size <= len(_ALL_DAYS)


def _locked(path: Path) -> int:
    """Returns a new file that is locked."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        # Somebody came before the lock, and took it for that of a dead writer.
        os.close(descriptor)


def _content_if_dead(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            # Its writer has ended meanwhile.
            return None
        content = os.read(descriptor, 2**20)
        if not content:
            # Its writer died before it wrote anything, here or elsewhere; or has yet to lock it, and makes another.
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return None
    else:
        return content or None
    finally:
        os.close(descriptor)


def _days(content: bytes) -> tuple[date, ...]:
    try:
        return tuple(map(date.fromisoformat, msgspec.json.decode(content, type=list[str])))
    except (msgspec.MsgspecError, ValueError):
        # Cut off while it was written: all days are looked at.
        return ()
