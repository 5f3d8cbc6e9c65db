"""What all tables have in common: a time column, days that have landed, events of a window.

A table has no folders in which a day lands. Its days have landed up to that of its latest event; where a day's events
change later, its fingerprint does.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.errors import MissingSourceError
from feature_store.extras import needs_extra
from feature_store.partitions import Window

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class TableSource(ABC):
    """Events in a table.

    Attributes:
        name: The source's name.
        start: First instant of its history (aware, or naive in UTC).
        time_column: When each event became knowable; aware, or naive in UTC. Groups see it as `event_timestamp`.
        description: One sentence for the catalog.
        owner: Who delivers it, for the catalog: an e-mail address or the name of a team.
    """

    name: str
    start: datetime
    time_column: str = EVENT_TIMESTAMP
    description: str = ""
    owner: str = ""
    kind: str = field(init=False, default="table")

    def __post_init__(self) -> None:
        check_name(self.name, "source")
        if self.start.tzinfo is None:
            object.__setattr__(self, "start", self.start.replace(tzinfo=UTC))

    @abstractmethod
    def survey(self) -> dict[date, str]:
        """Returns the days that have landed, in order, each with its fingerprint."""

    @abstractmethod
    def _events(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window that has landed, their time in the time column."""

    @abstractmethod
    def _latest(self) -> datetime | None:
        """Returns the time of the latest event (UTC), None if there is none."""

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window; see `Source.scan`."""
        import polars as pl

        from feature_store.frames import utc_micros

        from_start = Window(max(window.start, self.start), window.end)
        if from_start.end <= from_start.start:
            raise MissingSourceError(
                f"Source {self.name!r} begins at {self.start.isoformat()}; nothing can be computed before it."
            )
        latest = self._latest()
        last = None if latest is None else latest.date()
        needed = (window.end - timedelta(microseconds=1)).date()
        if last is None or needed > last:
            raise MissingSourceError(
                f"Source {self.name!r} has not landed up to {needed}: its latest event is of "
                f"{'no day at all' if latest is None else latest.isoformat()}. Load the table, or compute days before."
            )
        events = self._events(from_start)
        schema = events.collect_schema()
        if self.time_column not in schema:
            raise MissingSourceError(
                f"Source {self.name!r} has no column {self.time_column!r}, only {', '.join(schema.names())}."
            )
        time = utc_micros(self.time_column, schema).alias(EVENT_TIMESTAMP)
        named = events.with_columns(time)
        if self.time_column != EVENT_TIMESTAMP:
            named = named.drop(self.time_column)
        inside = pl.col(EVENT_TIMESTAMP).is_between(from_start.start, from_start.end, closed="left")
        return named.filter(inside)

    def fingerprint(self, day: date) -> str | None:
        """Returns a text that changes when a day's events do; see `Source.fingerprint`."""
        return self.survey().get(day)

    def landed_days(self) -> Iterator[date]:
        """Yields the days that have landed; see `Source.landed_days`."""
        yield from self.survey()

    def _days(self, latest: datetime | None) -> Iterator[date]:
        if latest is not None:
            yield from Window(self.start, latest + timedelta(microseconds=1)).dates()


def utc(moment: Any) -> datetime | None:
    """Returns a time of a table's metadata as aware UTC; naive ones are UTC."""
    if moment is None:
        return None
    time = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def digest(parts: Any) -> str:
    """Returns a short digest of a value's text."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def optional_module(module: str, source: str, extra: str | None) -> Any:
    """Imports what a source needs.

    Raises:
        SettingsError: If its package is not installed.
    """
    with needs_extra(extra, f"Source {source!r}"):
        return import_module(module)
