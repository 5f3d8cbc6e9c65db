"""Folders in S3 that are shown whole or not at all: what is put last, the seal, shows what was put before it.

A writer claims the number of a folder before it uploads anything, so that nobody else writes there; writers of one and
the same place write files of different names, and the first to put the seal wins. What a killed writer has left is not
seen, and removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from feature_store.errors import StorageError
from feature_store.storage.folder_names import number_of
from feature_store.storage.protocol import Draft, Seal
from feature_store.storage.s3_conditions import require_conditions
from feature_store.storage.s3_path import ObjectReplacedError, S3Path, S3Stat

CLAIM_FILE = "_claim"
ABANDONED_AFTER = timedelta(days=7)
"""A claim of this age without a seal is that of a dead writer."""

_ATTEMPTS = 100
_UPLOADS_AT_ONCE = 8


def publish_numbered(folder: S3Path, draft: Draft[S3Path]) -> int | None:
    """Shows a draft under the next number; see `Storage.publish_numbered`."""
    seal = draft.seal
    if draft.is_superfluous():
        return None
    number = _claim(folder, seal.name, draft.after)
    place = folder / f"v{number}"
    _upload(_files(draft.staged), place)
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        list(pool.map(lambda item: item[1].copy_to(place / item[0]), draft.copies.items()))
    if draft.is_superfluous():
        _remove(place)
        return None
    (place / seal.name).put(seal.content(number))
    (place / CLAIM_FILE).unlink()
    return number


def publish(place: S3Path, staged: Path, seal: Seal) -> bool:
    """Shows a staged folder; see `Storage.publish`. Names of its files tell their content."""
    sealed = place / seal.name
    if sealed.is_file():
        return False
    require_conditions(place)
    before = {path for path, _ in place.objects()}
    files = {name: path for name, path in _files(staged).items() if name != seal.name}
    _upload(files, place)
    uploaded = {place / name for name in files}
    try:
        sealed.put_if(None, (staged / seal.name).read_bytes())
    except ObjectReplacedError:
        shown = seal.files(sealed)
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


def numbered(folder: S3Path, seal: str) -> list[int]:
    """Returns the numbers that are shown; see `Storage.numbered`."""
    found = {number_of(path.name): path for path in folder.iterdir()}
    return sorted(number for number, path in found.items() if number and (path / seal).is_file())


def _claim(folder: S3Path, seal: str, after: int) -> int:
    """Takes the next number for this writer alone, and removes what was left of abandoned ones."""
    require_conditions(folder)
    claimed = dict(_claims(folder, seal))
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


def _claims(folder: S3Path, seal: str) -> Iterator[tuple[int, S3Stat | None]]:
    """Yields the numbers that are taken, with the claim of those that are not shown yet."""
    for path in folder.iterdir():
        number = path.name.removeprefix("v")
        if not number.isdigit() or number == path.name:
            continue
        claim = path / CLAIM_FILE
        pending = claim.is_file() and not (path / seal).is_file()
        yield int(number), claim.stat() if pending else None


def _files(staged: Path) -> dict[str, Path]:
    return {path.relative_to(staged).as_posix(): path for path in staged.rglob("*") if path.is_file()}


def _upload(files: Mapping[str, Path], place: S3Path) -> None:
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        list(pool.map(lambda name: (place / name).put(files[name]), files))


def _remove(place: S3Path) -> None:
    for path, _ in place.objects():
        path.unlink()
