"""Reads of files that others may replace or fold meanwhile: a read counts if every file has stayed what it was.

An engine may open a file twice, and an object is read by several requests: a file that was replaced in between would
give rows of two versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from feature_store.errors import FeatureStoreError
from feature_store.offline.layout import PartitionFile, identities

_ATTEMPTS = 5
T = TypeVar("T")


def read_steadily(group: str, files: Callable[[], list[PartitionFile]], read: Callable[[list[PartitionFile]], T]) -> T:
    """Returns what a read gives of files that stay as they were while it lasts.

    Args:
        group: Name of the feature group, for the error.
        files: Lists them, again for each attempt.
        read: Reads the files that it is given, without any effect.

    Raises:
        FeatureStoreError: If files are replaced faster than they can be read.
    """
    for _ in range(_ATTEMPTS):
        listed = files()
        before = identities(listed, listed=True)
        try:
            result = read(listed)
        except Exception:
            if identities(listed) == before:
                raise
            continue
        if identities(listed) == before:
            return result
    raise FeatureStoreError(
        f"Files of feature group {group!r} were replaced during each of {_ATTEMPTS} reads: "
        "read again when the materialization has ended."
    )
