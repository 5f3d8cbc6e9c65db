"""Showing versions of training sets in S3, which renames no folder: what is put last shows what was uploaded before it.

A version is there once its `manifest.json` is, a partition once its `_manifest.json` is. A builder claims the number of
a version before it uploads anything, so that nobody else writes there; builders of one partition write files of
different names, and the first to put the manifest wins. What a killed builder has left is not seen, and removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec

from feature_store.errors import StorageError
from feature_store.storage.s3_path import ObjectReplacedError, S3Path, S3Stat
from feature_store.training_sets.manifest import Manifest, encode, read_part
from feature_store.training_sets.versions import (
    MANIFEST_FILE,
    PART_MANIFEST_FILE,
    TrainingSetVersion,
    version_at,
    versions,
)

CLAIM_FILE = "_claim"
ABANDONED_AFTER = timedelta(days=7)
"""A claim of this age without a manifest is that of a dead builder."""

_ATTEMPTS = 100
_UPLOADS_AT_ONCE = 8


def upload_version(
    folder: S3Path,
    staged: Path,
    manifest: Manifest,
    *,
    after: int,
    linked: Mapping[str, S3Path],
    existing: Callable[[Sequence[TrainingSetVersion]], TrainingSetVersion | None],
) -> tuple[TrainingSetVersion, bool]:
    """Shows a staged version under the next number; see `publishing.publish_version`."""
    found = existing(versions(folder))
    if found is not None:
        return found, False
    number = _claim(folder, after)
    place = folder / f"v{number}"
    _upload(_files(staged), place)
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        list(pool.map(lambda item: item[1].copy_to(place / item[0]), linked.items()))
    found = existing(versions(folder))
    if found is not None:
        _remove(place)
        return found, False
    (place / MANIFEST_FILE).put(encode(msgspec.structs.replace(manifest, version=number)))
    (place / CLAIM_FILE).unlink()
    return version_at(folder, number), True


def upload_part(place: S3Path, staged: Path) -> bool:
    """Shows a staged partition; see `publishing.publish_part`.

    Args:
        place: Folder of the partition in the version.
        staged: Folder of the staged partition. Names of its files tell their content.
    """
    manifest = place / PART_MANIFEST_FILE
    if manifest.is_file():
        return False
    before = {path for path, _ in place.objects()}
    files = {name: path for name, path in _files(staged).items() if name != PART_MANIFEST_FILE}
    _upload(files, place)
    uploaded = {place / name for name in files}
    try:
        manifest.put_if(None, (staged / PART_MANIFEST_FILE).read_bytes())
    except ObjectReplacedError:
        shown = {path.rpartition("/")[2] for path in read_part(manifest).files}
        if not {path.name for path in uploaded} <= shown:
            for path in uploaded:
                if path.name not in shown:
                    path.unlink()
            return False
        # The same rows: another builder's, or ours, where the answer was lost and the request sent again.
        return True
    for leftover in before - uploaded:
        leftover.unlink()
    return True


def _claim(folder: S3Path, after: int) -> int:
    """Takes the next number for this builder alone, and removes what was left of abandoned ones."""
    claimed = dict(_claims(folder))
    now = None
    for _ in range(_ATTEMPTS):
        number = 1 + max([after, *claimed])
        claim = folder / f"v{number}" / CLAIM_FILE
        try:
            claim.put_if(None, b"")
        except ObjectReplacedError:
            claimed[number] = None
            continue
        now = claim.stat().st_mtime_ns
        break
    else:
        raise StorageError(f"{_ATTEMPTS} other builders write versions into {folder}: build it again.")
    for other, stat in claimed.items():
        if stat is not None and now - stat.st_mtime_ns > ABANDONED_AFTER.total_seconds() * 1e9:
            _remove(folder / f"v{other}")
    return number


def _claims(folder: S3Path) -> Iterator[tuple[int, S3Stat | None]]:
    """Yields the numbers that are taken, with the claim of those that are not versions yet."""
    for path in folder.iterdir():
        number = path.name.removeprefix("v")
        if not number.isdigit() or number == path.name:
            continue
        claim = path / CLAIM_FILE
        pending = claim.is_file() and not (path / MANIFEST_FILE).is_file()
        yield int(number), claim.stat() if pending else None


def _files(staged: Path) -> dict[str, Path]:
    return {path.relative_to(staged).as_posix(): path for path in staged.rglob("*") if path.is_file()}


def _upload(files: Mapping[str, Path], place: S3Path) -> None:
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        list(pool.map(lambda name: (place / name).put(files[name]), files))


def _remove(place: S3Path) -> None:
    for path, _ in place.objects():
        path.unlink()
