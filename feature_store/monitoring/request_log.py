"""A sample of what was served: entities, features, values and time of requests, in Parquet files that rotate.

A request costs what it costs without the log, and a copy of its answer when it is in the sample; writing is done by a
thread of its own, in each process: a forked one starts its own. PyArrow writes the files, and is first imported there:
the threads of Polars do not survive a fork. What is made of the log belongs to `replay`.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.util import Finalize, register_after_fork
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from feature_store.catalog import Selection
from feature_store.clock import Clock
from feature_store.definitions.values import value_json
from feature_store.errors import SettingsError
from feature_store.forking import renew_in_children

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_SECONDS = 10.0
"""A sampled request is on disk after so many seconds at the latest."""

MOST_WAITING = 1000
"""Requests that wait to be written; further ones are dropped, and counted."""

MOST_ENTITIES = 100
"""Entities of one request that are kept."""

COLUMNS = ("served_at", "group", "feature", "ttl_seconds", "entity_id", "value")
"""Columns of a file of the log."""

FILE_PREFIX = "requests-"
SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class _Request:
    served_at: datetime
    entity_ids: Sequence[str]
    selections: Sequence[Selection]
    rows: Sequence[Mapping[str, Any]]


class RequestLog:
    """Keeps a sample of requests in a folder.

    Columns of the files: `served_at` (UTC), `group`, `feature` (`clicks_7d:v2`), `ttl_seconds` (the time to live that
    the reader went by), `entity_id`, and `value`, the JSON of what was answered. One row per entity and feature.

    Args:
        folder: Where the files go; made when the first is written.
        clock: Tells when a request was served.
        rate: Share of requests that are kept, above 0, up to 1.
        most_bytes: Size of the folder beyond which the oldest files go.

    Attributes:
        dropped: Sampled requests that were not written: too many came at once, or the folder could not be written.

    Raises:
        SettingsError: If the rate or the size make no sense.
    """

    def __init__(self, folder: str | Path, clock: Clock, *, rate: float = 0.01, most_bytes: int = 256 * 2**20) -> None:
        if not 0 < rate <= 1:
            raise SettingsError(f"The request log keeps a share of requests above 0 and up to 1, got rate={rate}.")
        if most_bytes < 1:
            raise SettingsError(f"The request log needs room, got most_bytes={most_bytes}.")
        self.folder = Path(folder)
        self.dropped = 0
        self._clock = clock
        self._rate = rate
        self._most_bytes = most_bytes
        self._begin()
        renew_in_children(self)
        # What runs at the end of a process does not run in those of `multiprocessing`, which has its own.
        register_after_fork(self, _flush_at_the_end)
        _open.add(self)

    def _begin(self) -> None:
        self._waiting: deque[_Request] = deque()
        self._random = random.Random()  # noqa: S311 - a sample, no secret
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._number = 0

    def after_fork(self) -> None:
        """Begins a forked process's own part of the log: what waits, and the thread, are its parent's."""
        self.dropped = 0
        self._begin()

    def samples(self) -> bool:
        """Returns whether the request that was served just now falls into the sample, and can be kept."""
        if self._rate < 1 and self._random.random() >= self._rate:
            return False
        if len(self._waiting) >= MOST_WAITING or self._closing:
            self.dropped += 1
            return False
        return True

    def keep(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes note of a request that was served just now. Never blocks, never fails.

        Args:
            entity_ids: The entities asked for.
            selections: The stored features asked for.
            rows: The answer: values by label, one mapping per entity.
        """
        if not entity_ids or not selections:
            return
        kept = rows[:MOST_ENTITIES]
        # Copied: the answer is its caller's, who may change it.
        self._waiting.append(
            _Request(self._clock.now(), list(entity_ids[:MOST_ENTITIES]), selections, [dict(row) for row in kept])
        )
        if self._thread is None:
            self._start()

    def offer(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keeps a request if it falls into the sample; arguments as for `keep`."""
        if self.samples():
            self.keep(entity_ids, selections, rows)

    @staticmethod
    def warm_up() -> None:
        """Imports what writes the log, for a server that must not stop for it later."""
        import pyarrow.parquet  # noqa: F401

    def flush(self) -> None:
        """Writes what waits to a file of its own; what a folder refuses is dropped, and counted."""
        with self._writing:
            requests = []
            while self._waiting:
                requests.append(self._waiting.popleft())
            if not requests:
                return
            from pyarrow import ArrowException

            try:
                self._write(requests[0].served_at, _table(requests))
            except (OSError, ArrowException):
                self.dropped += len(requests)

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feature-store-request-log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_SECONDS)
            self.flush()

    def _write(self, first: datetime, table: pa.Table) -> None:
        from pyarrow.parquet import write_table

        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        name = f"{FILE_PREFIX}{first:%Y%m%dT%H%M%S%f}-{os.getpid()}-{self._number}{SUFFIX}"
        # Not *.parquet before it is whole: a reader takes every such file.
        scratch = self.folder / f".{name}.tmp"
        try:
            write_table(table, scratch, compression="zstd")
            scratch.replace(self.folder / name)
        finally:
            scratch.unlink(missing_ok=True)
        self._rotate()

    def _rotate(self) -> None:
        files = sorted(self.folder.glob(f"{FILE_PREFIX}*{SUFFIX}"))
        sizes = {}
        for file in files:
            try:
                sizes[file] = file.stat().st_size
            except FileNotFoundError:  # another process rotates the same folder
                continue
        total = sum(sizes.values())
        for file in list(sizes)[:-1]:
            if total <= self._most_bytes:
                break
            total -= sizes[file]
            file.unlink(missing_ok=True)


def _table(requests: Sequence[_Request]) -> pa.Table:
    import pyarrow as pa

    records = [
        (
            request.served_at,
            selection.feature.group,
            str(selection.feature.ref),
            selection.feature.online_ttl_seconds,
            entity_id,
            value_json(row[selection.label]),
        )
        for request in requests
        for entity_id, row in zip(request.entity_ids, request.rows, strict=True)
        for selection in request.selections
        if selection.label in row
    ]
    types = {"served_at": pa.timestamp("us", "UTC"), "ttl_seconds": pa.int64()}
    columns = zip(*records, strict=True) if records else [()] * len(COLUMNS)
    arrays = [pa.array(column, types.get(name, pa.string())) for name, column in zip(COLUMNS, columns, strict=True)]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


_LAST = 100
_open: WeakSet[RequestLog] = WeakSet()


def _flush_at_the_end(log: RequestLog) -> None:
    Finalize(None, log.flush, exitpriority=_LAST)


@atexit.register
def _flush_all() -> None:
    """Writes what waits when the process ends, of logs that nobody has closed."""
    for log in list(_open):
        log.flush()
