"""A sample of what was served: entities, features, values and time of requests, in Parquet files that rotate.

A request costs what it costs without the log, and a copy of its answer when it is in the sample; writing is done by a
thread of its own. Polars is first imported there. What is made of the log belongs to `replay`.
"""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Selection
from feature_store.clock import Clock
from feature_store.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl

FLUSH_SECONDS = 10.0
"""A sampled request is on disk after so many seconds at the latest."""

MOST_WAITING = 1000
"""Requests that wait to be written; further ones are dropped, and counted."""

MOST_ENTITIES = 100
"""Entities of one request that are kept."""

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

    Columns of the files: `served_at` (UTC), `group`, `feature` (`clicks_7d:v2`), `entity_id`, and `value`, the JSON of
    what was answered. One row per entity and feature.

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
        self._waiting: deque[_Request] = deque()
        self._random = random.Random()  # noqa: S311 - a sample, no secret
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._number = 0

    def offer(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes note of a request that was served just now, if it falls into the sample. Never blocks, never fails.

        Args:
            entity_ids: The entities asked for.
            selections: The stored features asked for.
            rows: The answer: values by label, one mapping per entity.
        """
        if not entity_ids or not selections:
            return
        if self._rate < 1 and self._random.random() >= self._rate:
            return
        if len(self._waiting) >= MOST_WAITING or self._closing:
            self.dropped += 1
            return
        kept = rows[:MOST_ENTITIES]
        # Copied: the answer is its caller's, who may change it.
        self._waiting.append(
            _Request(self._clock.now(), list(entity_ids[:MOST_ENTITIES]), selections, [dict(row) for row in kept])
        )
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Writes what waits to a file of its own; what a folder refuses is dropped, and counted."""
        with self._writing:
            requests = []
            while self._waiting:
                requests.append(self._waiting.popleft())
            if not requests:
                return
            from polars.exceptions import PolarsError

            try:
                self._write(_frame(requests))
            except (OSError, PolarsError):
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

    def _write(self, frame: pl.DataFrame) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        first: datetime = frame["served_at"][0]
        name = f"{FILE_PREFIX}{first:%Y%m%dT%H%M%S%f}-{os.getpid()}-{self._number}{SUFFIX}"
        # Not *.parquet before it is whole: a reader takes every such file.
        scratch = self.folder / f".{name}.tmp"
        try:
            frame.write_parquet(scratch, compression="zstd")
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


def _frame(requests: Sequence[_Request]) -> pl.DataFrame:
    import polars as pl

    from feature_store.frames import TIMESTAMP_TYPE

    records = [
        (request.served_at, selection.feature.group, str(selection.feature.ref), entity_id, _json(row[selection.label]))
        for request in requests
        for entity_id, row in zip(request.entity_ids, request.rows, strict=True)
        for selection in request.selections
        if selection.label in row
    ]
    schema: dict[str, Any] = {
        "served_at": TIMESTAMP_TYPE,
        "group": pl.String,
        "feature": pl.String,
        "entity_id": pl.String,
        "value": pl.String,
    }
    return pl.DataFrame(records, schema=schema, orient="row")


def _json(value: Any) -> str:
    """Returns the JSON of a value as the online store spells it: infinities are numbers beyond float64."""
    import msgspec

    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        return "1e999" if value > 0 else "-1e999"
    return msgspec.json.encode(value).decode()
