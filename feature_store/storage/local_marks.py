"""Marks on a local disk: small files that are locked as long as those who made them live."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feature_store.storage.local_refusals import naming_refusals


@contextmanager
def mark(path: Path, content: bytes) -> Iterator[None]:
    """Keeps a mark while a block lasts; see `Storage.mark`."""
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


def leave_mark(path: Path, content: bytes) -> None:
    """Makes a mark without an owner; see `Storage.leave_mark`."""
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def marks(folder: Path) -> list[tuple[Path, bytes]]:
    """Returns all marks with their content, be their owners alive or dead."""
    found = []
    with suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with suppress(FileNotFoundError):  # it has ended meanwhile
                found.append((path, path.read_bytes()))
    return found


def abandoned_marks(folder: Path) -> list[tuple[Path, bytes]]:
    """Returns the marks whose owners are dead; see `Storage.abandoned_marks`."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    contents = ((path, _content_if_dead(path)) for path in paths)
    return [(path, content) for path, content in contents if content is not None]


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
