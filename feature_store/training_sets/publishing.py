"""Putting rows in place: written to a hidden folder, then shown in one step. What the rows are is not known here.

A reader sees a version, or a partition of one, whole or not at all. A writer that is killed at any instruction leaves a
hidden folder, which no reader sees and the next writer of the set removes. Folders are shown by a rename; in S3, which
knows none, it is the manifest, put last, that shows what was uploaded before it, see `uploading`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import polars as pl

from feature_store.frame_fingerprint import fingerprint
from feature_store.offline.files import locked, make_folder
from feature_store.storage.location import Location, file_digest
from feature_store.storage.refused import naming_refusals
from feature_store.storage.s3_path import S3Path
from feature_store.training_sets.manifest import DataFile, Manifest, Part, encode
from feature_store.training_sets.uploading import upload_part, upload_version
from feature_store.training_sets.versions import (
    MANIFEST_FILE,
    PART_MANIFEST_FILE,
    PARTITION,
    ROWS_FOLDER,
    TrainingSetVersion,
    version_at,
    versions,
)

ROW_GROUP_ROWS = 131_072
"""Rows that a reader of a stream holds at a time: some ten megabytes of twenty columns."""

_STAGED = ".writing-"
_READ_ONLY = 0o444


@contextmanager
def staging(folder: Location) -> Iterator[Path]:
    """Gives a hidden folder to write to; what is in it at the end is removed.

    Args:
        folder: Folder of a training set; made if it is missing. What dead writers have left in it is removed.
            For one in S3, rows are staged in the folder for temporary files of this machine.
    """
    if isinstance(folder, S3Path):
        with tempfile.TemporaryDirectory(prefix="training-set-") as local:
            yield Path(local)
        return
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


def write_rows(
    staged: Path, relative: str, split: str | None, rows: pl.DataFrame, *, by_content: bool = False
) -> dict[str, DataFile]:
    """Writes rows to a Parquet file.

    Args:
        staged: What `staging` gave.
        relative: The file's path below the version's folder.
        split: The split whose rows they are.
        rows: The rows.
        by_content: Add a digest of the file's bytes to its name.

    Returns:
        The file's record by its path below the version's folder.
    """
    path = staged / relative
    whole = rows.rechunk()
    _write(path, lambda handle: whole.write_parquet(handle, compression="zstd", row_group_size=ROW_GROUP_ROWS))
    record = DataFile(
        split=split,
        rows=rows.height,
        bytes=path.stat().st_size,
        sha256=file_digest(path),
        fingerprint=fingerprint(rows),
    )
    if by_content:
        named = path.with_stem(f"{path.stem}-{record.sha256[:16]}")
        return {path.rename(named).relative_to(staged).as_posix(): record}
    return {relative: record}


def link_part(version: TrainingSetVersion, part: Part, staged: Path) -> dict[str, S3Path]:
    """Takes a partition over from another version: files that never change are shared, not copied.

    Returns:
        In S3, what is to be copied there when the version is published, by path below its folder.
    """
    relatives = (*part.files, _part_manifest(part))
    if isinstance(version.path, S3Path):
        return {relative: version.path / relative for relative in relatives}
    for relative in relatives:
        path = staged / relative
        with naming_refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(version.path / relative)
    return {}


def write_part_manifest(staged: Path, part: Part) -> None:
    """Writes the manifest of a partition beside its rows."""
    write_beside(staged, _part_manifest(part), encode(part))


def publish_version(
    folder: Location,
    staged: Path,
    manifest: Manifest,
    *,
    after: int,
    linked: Mapping[str, S3Path] | None = None,
    existing: Callable[[Sequence[TrainingSetVersion]], TrainingSetVersion | None],
) -> tuple[TrainingSetVersion, bool]:
    """Shows a staged version under the next number, unless another writer's came first and will do.

    Args:
        folder: Folder of the training set.
        staged: What `staging` gave, with all rows.
        manifest: The version's manifest, but for its number.
        after: The number is greater than this one too.
        linked: What `link_part` has left to be copied.
        existing: Picks the version that makes this one superfluous, of all that are there.

    Returns:
        The version, and whether it is the staged one.
    """
    if isinstance(folder, S3Path):
        return upload_version(folder, staged, manifest, after=after, linked=linked or {}, existing=existing)
    with locked(folder):
        before = versions(folder)
        found = existing(before)
        if found is not None:
            return found, False
        number = 1 + max([after, *(version.version for version in before)])
        write_beside(staged, MANIFEST_FILE, encode(msgspec.structs.replace(manifest, version=number)))
        with naming_refusals(folder / f"v{number}"):
            _sync_tree(staged)
            staged.rename(folder / f"v{number}")
            _sync(folder)
    return version_at(folder, number), True


def publish_part(version: Location, staged: Path, partition: str) -> bool:
    """Adds a staged partition to a version.

    Returns:
        Whether it was added; False if the version has it already.
    """
    source = staged / ROWS_FOLDER / f"{PARTITION}={partition}"
    if isinstance(version, S3Path):
        return upload_part(version / ROWS_FOLDER / source.name, source)
    place = version / ROWS_FOLDER / source.name
    with naming_refusals(place):
        _sync_tree(source)
        try:
            source.rename(place)
        except OSError as error:
            # A folder never replaces one that holds files: a partition that is there stays as it is.
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        _sync(version / ROWS_FOLDER)
    return True


def write_beside(staged: Path, name: str, content: bytes) -> None:
    """Writes a file that belongs to a version beside its rows."""
    _write(staged / name, lambda handle: handle.write(content))


def restore(staged: Path, place: Location) -> None:
    """Puts a staged file of a version back in its place."""
    if isinstance(place, S3Path):
        place.put(staged)
        return
    with naming_refusals(place):
        _sync(staged)
        make_folder(place.parent)
        staged.replace(place)
        _sync(place.parent)


def _part_manifest(part: Part) -> str:
    return f"{ROWS_FOLDER}/{PARTITION}={part.partition}/{PART_MANIFEST_FILE}"


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a staged file: the one way in which any file of a training set is written."""
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as handle:
            write(handle)
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
