"""Sources: where a feature group's events come from.

Only the small interface that the transform needs, and the source that lies in date partitions of Parquet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.errors import MissingSourceError
from feature_store.partitions import Window

if TYPE_CHECKING:
    import polars as pl


class Source(Protocol):
    """Events that became known over time.

    Every event has `event_timestamp`, the UTC instant at which it became knowable in the real world; an event
    lies in the partition of that instant.
    """

    @property
    def name(self) -> str:
        """The source's name; in Dagster, its asset key."""
        ...

    @property
    def start(self) -> datetime:
        """When the source's history begins (aware UTC). Before it, there are no events."""
        ...

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window, lazily, in any order.

        Raises:
            MissingSourceError: If a part of the window after `start` has not landed.
        """
        ...

    def fingerprint(self, day: date) -> str | None:
        """Returns a text that changes when a UTC day's events change, or None while they have not landed."""
        ...

    def landed_days(self) -> Iterator[date]:
        """Yields the UTC days that have landed, in order."""
        ...


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Events in Parquet files below `{root}/date=YYYY-MM-DD/`.

    Attributes:
        name: The source's name.
        root: Folder that holds the date partitions.
        start: First instant of its history.
        description: One sentence for the catalog.
    """

    name: str
    root: Path
    start: datetime
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "source")

    def files(self, day: date) -> list[Path]:
        """Returns the files of one UTC day, none if it has not landed."""
        return sorted((self.root / f"date={day.isoformat()}").glob("*.parquet"))

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window; see `Source.scan`."""
        import polars as pl

        from_start = Window(max(window.start, self.start), window.end)
        paths: list[Path] = []
        missing: list[date] = []
        for day in from_start.dates():
            landed = self.files(day)
            paths += landed
            if not landed:
                missing.append(day)
        if missing:
            raise MissingSourceError(
                f"Source {self.name!r} has not landed for {len(missing)} day(s) from {missing[0]} to {missing[-1]}: "
                f"no Parquet file in {self.root / f'date={missing[0]}'}. Land the files, or compute days before them."
            )
        if not paths:
            raise MissingSourceError(
                f"Source {self.name!r} begins at {self.start.isoformat()}; nothing can be computed before it."
            )
        events = pl.scan_parquet(paths, hive_partitioning=False)
        return events.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))

    def fingerprint(self, day: date) -> str | None:
        """Returns a digest of the names, sizes and modification times of a day's files; see `Source.fingerprint`."""
        files = self.files(day)
        if not files:
            return None
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]

    def landed_days(self) -> Iterator[date]:
        """Yields the days whose folder holds a Parquet file; see `Source.landed_days`."""
        for folder in sorted(self.root.glob("date=*")):
            day = date.fromisoformat(folder.name.removeprefix("date="))
            if self.files(day):
                yield day


def day_window(day: date) -> Window:
    """Returns the window of one UTC day."""
    start = datetime.combine(day, time(), UTC)
    return Window(start, start + timedelta(days=1))
