"""Which files can hold a row of some entity and event time: hashes of the rows' identities, kept in memory per file.

A writer of few rows asks this before it reads any file. Files do not change under their identity, so that what was read
once holds as long as the file does.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.offline.layout import PartitionFile, content_identity
from feature_store.storage.parquet import scan_files

if TYPE_CHECKING:
    from collections.abc import Hashable

MOST_HASHES = 8_000_000
"""Eight bytes each."""


class RowIndex:
    """The identities in the files of one offline store. Threads may share it."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Hashable, ...], np.ndarray[Any, Any]] = OrderedDict()
        self._kept = 0
        self._lock = threading.Lock()

    def files_with(
        self, group: RegisteredGroup, files: Sequence[PartitionFile], identities: pl.DataFrame
    ) -> list[PartitionFile]:
        """Returns the files that can hold one of some rows.

        Args:
            group: The group.
            files: Its files.
            identities: Join keys and `event_timestamp`.
        """
        if not files:
            return []
        wanted = _hashes(identities)
        return [file for file in files if np.isin(wanted, self._hashes_of(group, file), kind="sort").any()]

    def _hashes_of(self, group: RegisteredGroup, file: PartitionFile) -> np.ndarray[Any, Any]:
        # Another content has another inode, time, size or tag.
        key = content_identity(file)
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
                return found
        return self.know(file, scan_files(file.path).select(*group.entity.join_keys, EVENT_TIMESTAMP).collect())

    def know(self, file: PartitionFile, identities: pl.DataFrame) -> np.ndarray[Any, Any]:
        """Takes in what a file holds, for who has just written it need not read it; returns the sorted hashes.

        Args:
            file: The file.
            identities: Join keys and `event_timestamp` of all its rows.
        """
        key = content_identity(file)
        found = np.sort(_hashes(identities))
        with self._lock:
            self._known[key] = found
            self._kept += len(found)
            while self._kept > MOST_HASHES and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._kept -= len(dropped)
        return found


def _hashes(identities: pl.DataFrame) -> np.ndarray[Any, Any]:
    return identities.select(pl.struct(pl.all()).hash()).to_series().to_numpy()
