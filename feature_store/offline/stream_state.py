"""Files of a stream beside the rows that it leaves: snapshots of its state, and notes on what was lost.

They lie below `{root}/_streams/{group}/`: no feature group can have that name, so no reader of rows looks there.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import BinaryIO

from feature_store.definitions.names import check_name
from feature_store.storage.location import Location, storage_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


class StreamStateFiles:
    """The files of one group.

    Args:
        root: Root of the offline store.
        group: Name of the group.
    """

    def __init__(self, root: Location, group: str) -> None:
        self._folder = root / "_streams" / check_name(group, "feature group")

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file, None where there is none.

        Raises:
            StorageError: If the storage does not answer.
        """
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place in one step.

        Raises:
            StorageError: If the storage does not answer, or refuses.
        """
        path = self._path(name)

        def write(handle: BinaryIO) -> None:
            handle.write(content)

        storage_of(path).replace(path, lambda: write)

    def exclusively(self) -> AbstractContextManager[None]:
        """Waits until no other process works on the group's streamed files as a whole, and keeps others waiting."""
        path = self._path("work.lease")
        return storage_of(path).exclusively(path)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Location:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} names no file of a stream.")
        return self._folder / name
