"""Atomic replacement of local files, under a lock per folder. Knows nothing of Parquet or of features.

A reader sees the old file or the new one, never a part of one, and a writer that is killed at any instruction
leaves nothing that a reader sees and nothing that stays: the folder's next writer removes it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feature_store.storage.local_refusals import naming_refusals
from feature_store.storage.protocol import Write

TEMPORARY_SUFFIX = ".tmp"

_held = threading.local()


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Holds the exclusive lock of a folder, waiting for it if need be. A thread that holds it may take it again.

    The lock lies on the folder itself, so there is no lock file to leave behind, and the kernel drops it when its
    holder dies.

    Yields:
        The folder's file descriptor.
    """
    of_thread: dict[Path, int] = _held.__dict__.setdefault("folders", {})
    if folder in of_thread:
        yield of_thread[folder]
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        of_thread[folder] = descriptor
        yield descriptor
    finally:
        of_thread.pop(folder, None)
        os.close(descriptor)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keeps other writers away from a folder; see `Storage.holding`."""
    with naming_refusals(folder):
        make_folder(folder)
    with locked(folder):
        yield


def replace_file(path: Path, prepare: Callable[[], Write | None]) -> bool:
    """Writes a file anew and puts it in place in one step; see `Storage.replace`."""
    with holding(path.parent), locked(path.parent) as folder:
        with naming_refusals(path):
            _sweep(path.parent)
        write = prepare()
        if write is None:
            return False
        temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
        with naming_refusals(path):
            try:
                with temporary.open("xb") as handle:
                    write(handle)
                    handle.flush()
                    os.fsync(handle.fileno())
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            os.fsync(folder)
    return True


def _sweep(folder: Path) -> None:
    # Whoever writes here holds the lock that we hold now: every temporary file belongs to a dead writer.
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, if they are missing; they survive a crash of the machine."""
    missing = [folder, *folder.parents]
    missing = missing[: next(index for index, parent in enumerate(missing) if parent.is_dir())]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        # A new folder is an entry of its parent: without this, a power failure could lose it with all it holds.
        sync(parent.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
