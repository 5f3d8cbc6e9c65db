"""Putting rows in place: written to a hidden folder, then shown in one step. What the rows are is not known here.

A reader sees a version, or a partition of one, whole or not at all. A writer that is killed at any instruction leaves a
hidden folder, which no reader sees and the next writer of the set removes. How a folder is shown is the business of its
storage; here is what a version, and a partition of one, consist of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from feature_store.frame_fingerprint import fingerprint
from feature_store.storage.local_folders import write_staged
from feature_store.storage.location import LOCAL, Location, storage_of
from feature_store.storage.protocol import Draft, Seal
from feature_store.training_sets.manifest import DataFile, Manifest, Part, encode, read_part
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


def write_rows(
    staged: Path,
    relative: str,
    split: str | None,
    rows: pl.DataFrame,
    *,
    by_content: bool = False,
    defaulted: Mapping[str, int] | None = None,
) -> dict[str, DataFile]:
    """Writes rows to a Parquet file.

    Args:
        staged: What `Storage.staging` gave.
        relative: The file's path below the version's folder.
        split: The split whose rows they are.
        rows: The rows.
        by_content: Add a digest of the file's bytes to its name.
        defaulted: Label to the number of rows in which a default stands for null.

    Returns:
        The file's record by its path below the version's folder.
    """
    path = staged / relative
    whole = rows.rechunk()
    write_staged(path, lambda handle: whole.write_parquet(handle, compression="zstd", row_group_size=ROW_GROUP_ROWS))
    record = DataFile(
        split=split,
        rows=rows.height,
        bytes=path.stat().st_size,
        sha256=LOCAL.digest(path),
        fingerprint=fingerprint(rows),
        defaulted=dict(defaulted or {}),
    )
    if by_content:
        named = path.with_stem(f"{path.stem}-{record.sha256[:16]}")
        return {path.rename(named).relative_to(staged).as_posix(): record}
    return {relative: record}


def link_part(version: TrainingSetVersion, part: Part, staged: Path) -> Mapping[str, Location]:
    """Takes a partition over from another version: files that never change are shared, not copied.

    Returns:
        What is to be copied there when the version is published, by path below its folder.
    """
    return storage_of(version.path).link(version.path, (*part.files, _part_manifest(part)), staged)


def write_part_manifest(staged: Path, part: Part) -> None:
    """Writes the manifest of a partition beside its rows."""
    write_beside(staged, _part_manifest(part), encode(part))


def publish_version(
    folder: Location,
    staged: Path,
    manifest: Manifest,
    *,
    after: int,
    linked: Mapping[str, Location] | None = None,
    existing: Callable[[Sequence[TrainingSetVersion]], TrainingSetVersion | None],
) -> tuple[TrainingSetVersion, bool]:
    """Shows a staged version under the next number, unless another writer's came first and will do.

    Args:
        folder: Folder of the training set.
        staged: What `Storage.staging` gave, with all rows.
        manifest: The version's manifest, but for its number.
        after: The number is greater than this one too.
        linked: What `link_part` has left to be copied.
        existing: Picks the version that makes this one superfluous, of all that are there.

    Returns:
        The version, and whether it is the staged one.
    """
    found: TrainingSetVersion | None = None

    def is_superfluous() -> bool:
        nonlocal found
        found = existing(versions(folder))
        return found is not None

    seal = Seal(MANIFEST_FILE, lambda number: encode(msgspec.structs.replace(manifest, version=number)), _named_files)
    draft = Draft(staged, seal, after, linked or {}, is_superfluous)
    number = storage_of(folder).publish_numbered(folder, draft)
    if found is not None:
        return found, False
    assert number is not None
    return version_at(folder, number), True


def publish_part(version: Location, staged: Path, partition: str) -> bool:
    """Adds a staged partition to a version.

    Returns:
        Whether it was added; False if the version has it already.
    """
    source = staged / ROWS_FOLDER / f"{PARTITION}={partition}"
    seal = Seal(PART_MANIFEST_FILE, lambda _: (source / PART_MANIFEST_FILE).read_bytes(), _named_files)
    return storage_of(version).publish(version / ROWS_FOLDER / source.name, source, seal)


def write_beside(staged: Path, name: str, content: bytes) -> None:
    """Writes a file that belongs to a version beside its rows."""
    write_staged(staged / name, lambda handle: handle.write(content))


def _part_manifest(part: Part) -> str:
    return f"{ROWS_FOLDER}/{PARTITION}={part.partition}/{PART_MANIFEST_FILE}"


def _named_files(manifest: Any) -> set[str]:
    return {path.rpartition("/")[2] for path in read_part(manifest).files}
