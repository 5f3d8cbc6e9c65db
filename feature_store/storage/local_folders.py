"""Folders on a local disk that are shown whole or not at all: written under a hidden name, then renamed.

A writer that is killed at any instruction leaves a hidden folder, which no reader sees and the next writer removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from feature_store.storage.folder_names import number_of
from feature_store.storage.local_files import locked, make_folder, sync
from feature_store.storage.local_refusals import naming_refusals
from feature_store.storage.protocol import Draft

_STAGED = ".writing-"
_READ_ONLY = 0o444


def write_staged(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file of a staged folder: it never changes again."""
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as handle:
            write(handle)
        path.chmod(_READ_ONLY)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder to write to; see `Storage.staging`."""
    with naming_refusals(folder):
        make_folder(folder)
    with locked(folder), naming_refusals(folder):
        _sweep(folder)
        staged = folder / f"{_STAGED}{uuid.uuid4().hex}"
        staged.mkdir()
        # Held as long as the writer lives: by it, others tell its folder from one that was left behind.
        descriptor = os.open(staged, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        os.close(descriptor)


def link(source: Path, relatives: Iterable[str], staged: Path) -> None:
    """Shares files with a published folder; see `Storage.link`."""
    for relative in relatives:
        path = staged / relative
        with naming_refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(source / relative)


def publish_numbered(folder: Path, draft: Draft[Path]) -> int | None:
    """Shows a draft under the next number; see `Storage.publish_numbered`."""
    staged, seal = draft.staged, draft.seal
    with locked(folder):
        if draft.is_superfluous():
            return None
        number = 1 + max([draft.after, *numbered(folder)])
        content = seal.content(number)
        write_staged(staged / seal.name, lambda handle: handle.write(content))
        with naming_refusals(folder / f"v{number}"):
            _sync_tree(staged)
            staged.rename(folder / f"v{number}")
            sync(folder)
    return number


def publish(place: Path, staged: Path) -> bool:
    """Shows a staged folder; see `Storage.publish`."""
    with naming_refusals(place):
        _sync_tree(staged)
        try:
            staged.rename(place)
        except OSError as error:
            # A folder never replaces one that holds files: one that is there stays as it is.
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        sync(place.parent)
    return True


def numbered(folder: Path) -> list[int]:
    """Returns the numbers that are shown; see `Storage.numbered`."""
    if not folder.is_dir():
        return []
    return sorted(filter(None, (number_of(path.name) for path in folder.iterdir())))


def restore(staged: Path, place: Path) -> None:
    """Puts a file back in its place; see `Storage.restore`."""
    with naming_refusals(place):
        sync(staged)
        make_folder(place.parent)
        staged.replace(place)
        sync(place.parent)


def _sweep(folder: Path) -> None:
    for leftover in folder.glob(f"{_STAGED}*"):
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
