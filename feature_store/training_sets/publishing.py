"""Putting rows in place: written to a hidden folder, then shown in one rename. What the rows are is not known here.

A reader sees a version, or a partition of one, whole or not at all. A writer that is killed at any instruction leaves a
hidden folder, which no reader sees and the next writer of the set removes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl

from feature_store.offline.files import locked
from feature_store.training_sets.fingerprint import fingerprint
from feature_store.training_sets.manifest import DataFile, Manifest, Part, encode
from feature_store.training_sets.versions import (
    MANIFEST_FILE,
    PART_MANIFEST_FILE,
    PARTITION,
    ROWS_FOLDER,
    TrainingSetVersion,
    part_path,
    version_at,
    versions,
)

ROW_GROUP_ROWS = 131_072
"""Rows that a reader of a stream holds at a time: some ten megabytes of twenty columns."""

_STAGED = ".writing-"
_READ_ONLY = 0o444


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder to write to; what is in it at the end is removed.

    Args:
        folder: Folder of a training set; made if it is missing. What dead writers have left in it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
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


def write_rows(staged: Path, partition: str | None, split: str | None, rows: pl.DataFrame) -> dict[str, DataFile]:
    """Writes rows to the Parquet file of their partition and split.

    Returns:
        The file's record by its path below the version's folder.
    """
    relative = part_path(partition, split)
    path = staged / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.rechunk().write_parquet(path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    path.chmod(_READ_ONLY)
    record = DataFile(
        split=split,
        rows=rows.height,
        bytes=path.stat().st_size,
        sha256=file_digest(path),
        fingerprint=fingerprint(rows),
    )
    return {str(relative): record}


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def link_part(version: TrainingSetVersion, part: Part, staged: Path) -> None:
    """Takes a partition over from another version: files that never change are shared, not copied."""
    for relative in (*part.files, _part_manifest(part)):
        path = staged / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(version.path / relative)


def write_part_manifest(staged: Path, part: Part) -> None:
    """Writes the manifest of a partition beside its rows."""
    _write(staged / _part_manifest(part), encode(part))


def publish_version(
    folder: Path,
    staged: Path,
    manifest: Manifest,
    *,
    after: int,
    existing: Callable[[Sequence[TrainingSetVersion]], TrainingSetVersion | None],
) -> tuple[TrainingSetVersion, bool]:
    """Shows a staged version under the next number, unless another writer's came first and will do.

    Args:
        folder: Folder of the training set.
        staged: What `staging` gave, with all rows.
        manifest: The version's manifest, but for its number.
        after: The number is greater than this one too.
        existing: Picks the version that makes this one superfluous, of all that are there.

    Returns:
        The version, and whether it is the staged one.
    """
    with locked(folder):
        before = versions(folder)
        found = existing(before)
        if found is not None:
            return found, False
        number = 1 + max([after, *(version.version for version in before)])
        _write(staged / MANIFEST_FILE, encode(msgspec.structs.replace(manifest, version=number)))
        _sync_tree(staged)
        staged.rename(folder / f"v{number}")
        _sync(folder)
    return version_at(folder, number), True


def publish_part(version: Path, staged: Path, partition: str) -> bool:
    """Adds a staged partition to a version.

    Returns:
        Whether it was added; False if the version has it already.
    """
    source = staged / ROWS_FOLDER / f"{PARTITION}={partition}"
    _sync_tree(source)
    try:
        source.rename(version / ROWS_FOLDER / source.name)
    except OSError as error:
        # A folder never replaces one that holds files: a partition that is there stays as it is.
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    _sync(version / ROWS_FOLDER)
    return True


def write_beside(staged: Path, name: str, content: bytes) -> None:
    """Writes a file that belongs to a version beside its rows."""
    _write(staged / name, content)


def _part_manifest(part: Part) -> str:
    return str(Path(ROWS_FOLDER) / f"{PARTITION}={part.partition}" / PART_MANIFEST_FILE)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(_READ_ONLY)


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
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
