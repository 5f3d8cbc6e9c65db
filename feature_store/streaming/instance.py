"""Which instance of a group's streamer a process is: the first free number on its machine.

The number is held by a lock that the kernel drops with the process. Who starts after a killed streamer takes its
number, its state and its transactional id, by which the broker ends what the dead one had left open.
"""

from __future__ import annotations

import fcntl
import itertools
import socket
from pathlib import Path
from types import TracebackType
from typing import Self


class Instance:
    """Holds a number while the block lasts.

    Args:
        root: Folder of all state.
        group: Name of the feature group.
    """

    def __init__(self, root: Path, group: str) -> None:
        self._parent = root / group
        self._group = group

    def __enter__(self) -> Self:
        for number in itertools.count():
            self.folder = self._parent / str(number)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                continue
            self.name = f"feature-store.{self._group}.{socket.gethostname()}.{number}"
            return self
        raise AssertionError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def snapshot(self, partition: int) -> Path:
        """Returns the path of a partition's snapshot."""
        return self.folder / f"partition-{partition}.parquet"
