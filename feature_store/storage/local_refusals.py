"""What a disk refuses, as one error that names the place and the remedy."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_store.errors import StorageError

_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_OS_ERROR = re.compile(r"\(os error (?P<number>[0-9]+)\)")
"""Polars writes to files itself, and gives the operating system's errors as text."""


@contextmanager
def naming_refusals(place: Path) -> Iterator[None]:
    """Wraps writing to a local place, and nothing else.

    Raises:
        StorageError: If the disk refuses: it is full, may not be written to, or limits the size of files.
    """
    try:
        yield
    except Exception as error:
        # Not at the top: who only reads sources and settings needs no Polars.
        from polars.exceptions import PolarsError

        if not isinstance(error, (OSError, PolarsError)):
            raise
        raise StorageError(
            f"{place} could not be written, and is as it was: {error}. {_remedy(place, error)}"
        ) from error


def _remedy(place: Path, error: Exception) -> str:
    number = _number(error)
    elsewhere = "let FEATURE_STORE_OFFLINE name another place, and run again."
    if number in _FORBIDDEN:
        return f"Let this user write there, or {elsewhere}"
    limit = "Raise the limit on the size of files (ulimit -f). " if number == errno.EFBIG else ""
    free = shutil.disk_usage(_existing(place)).free
    return f"{limit}{free // 2**20:,} MiB are free there: make room, or {elsewhere}"


def _number(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _OS_ERROR.search(str(error))
    return int(match["number"]) if match else None


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.parents) if folder.exists())
