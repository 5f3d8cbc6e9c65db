"""What tables of files have in common: their metadata say which times lie in which file, and what was deleted there."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from feature_store.definitions.source import MisplacedEvents
from feature_store.errors import FeatureStoreError, InvalidSourceError, MissingSourceError
from feature_store.frames import utc_micros
from feature_store.partitions import Window
from feature_store.sources.table import TableSource, digest

if TYPE_CHECKING:
    import polars as pl

_AHEAD = timedelta(minutes=5)
_MICROSECOND = timedelta(microseconds=1)
_LOG = logging.getLogger(__name__)
_reported: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a table.

    Attributes:
        content: A text that tells what is in it: its path, and what of its rows was deleted.
        first: Time of its first event; None where the table does not say.
        last: Time of its last event.
        nulls: How many of its events have no time, as far as the table says.
    """

    content: str
    first: datetime | None
    last: datetime | None
    nulls: int = 0


@dataclass(frozen=True, kw_only=True)
class FileTableSource(TableSource):
    """Events in a table of files.

    An event ahead of the present (of this machine, by more than five minutes) lands no day, and no window gives it. It
    is counted, as events without a time are, and reported with the latest day.
    """

    @abstractmethod
    def _files(self) -> list[DataFile]:
        """Returns the files of the table's newest version."""

    @abstractmethod
    def _rows(self) -> pl.LazyFrame:
        """Returns the whole table, lazily."""

    def survey(self) -> dict[date, str]:
        """Returns the days that have landed, each with a digest of the files that can hold its events."""
        files = sorted(self._files(), key=lambda file: file.content)
        latest = self._latest_of(files)
        days: dict[date, list[str]] = {day: [] for day in self._days(latest)}
        everywhere = [file.content for file in files if file.first is None or file.last is None]
        for file in files:
            if file.first is not None and file.last is not None and latest is not None:
                until = min(file.last, latest) + _MICROSECOND
                for day in Window(max(file.first, self.start), until).dates():
                    days[day].append(file.content)
        for phrase in self._passed_over(files):
            if (self.name, phrase) not in _reported:
                _reported.add((self.name, phrase))
                _LOG.warning("Source %r passes over %s.", self.name, phrase)
        return {day: digest([*everywhere, *contents]) for day, contents in days.items()}

    def passed_over(self) -> Sequence[str]:
        """Returns the events that belong to no day; see `InspectedSource.passed_over`."""
        return self._passed_over(self._files())

    def misplaced(self, window: Window) -> dict[date, MisplacedEvents]:
        """Returns the events that belong to no day, with the latest day; see `ExaminedSource.misplaced`."""
        files = self._files()
        latest = self._latest_of(files)
        phrases = self._passed_over(files)
        if latest is None or not phrases or not window.start <= latest < window.end:
            return {}
        nulls, ahead = _nulls(files), self._ahead(files)
        # They are of no day, and so no reason to reject one.
        return {latest.date(): MisplacedEvents(nulls + ahead, nulls, ahead, phrases, 1.0)}

    def _events(self, window: Window) -> pl.LazyFrame:
        return self._between(self._rows(), window.start, window.end)

    def _latest(self) -> datetime | None:
        return self._latest_of(self._files())

    def _latest_of(self, files: Sequence[DataFile]) -> datetime | None:
        """Returns the time of the latest event that is not ahead of the present."""
        present = _present()
        lasts = [file.last for file in files if file.last is not None]
        known = max((last for last in lasts if last <= present), default=None)
        if all(last <= present for last in lasts):
            return known
        # The statistics of a file with an event far ahead say nothing of its others.
        after = self.start if known is None else known
        rows = self._between(self._rows(), after, present)
        with self._naming():
            schema = rows.collect_schema()
            found = rows.select(utc_micros(self.time_column, schema).max()).collect().item()
        return known if found is None else found

    def _passed_over(self, files: Sequence[DataFile]) -> tuple[str, ...]:
        nulls, ahead = _nulls(files), self._ahead(files)
        phrases = [f"{nulls:,} events without a time ({self.time_column} is null)"] if nulls else []
        if ahead:
            last = max(file.last for file in files if file.last is not None)
            phrases.append(f"{ahead:,} events ahead of the present, up to {last.isoformat()}")
        return tuple(phrases)

    def _ahead(self, files: Sequence[DataFile]) -> int:
        present = _present()
        if not any(file.last is not None and file.last > present for file in files):
            return 0
        import polars as pl

        rows = self._rows()
        with self._naming():
            later = utc_micros(self.time_column, rows.collect_schema()) >= pl.lit(present)
            return int(rows.select(later.sum()).collect().item() or 0)

    def _between(self, rows: pl.LazyFrame, start: datetime, end: datetime) -> pl.LazyFrame:
        """Returns the events of a time range, by a condition on the column as it is: statistics are of that."""
        import polars as pl

        with self._naming():
            dtype = rows.collect_schema().get(self.time_column)
        if dtype is None:
            return rows
        time = pl.col(self.time_column)
        if isinstance(dtype, pl.Date):
            last = (end - _MICROSECOND).date()
            return rows.filter(time >= start.date(), time <= last)
        if not isinstance(dtype, pl.Datetime):
            raise InvalidSourceError(
                f"Source {self.name!r}: column {self.time_column!r} holds {dtype}, no times: name a column of times."
            )
        if dtype.time_zone is None:
            start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
        return rows.filter(time >= start, time < end)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Turns what a library raises into an error that names the source."""
        try:
            yield
        except FeatureStoreError:
            raise
        except FileNotFoundError as error:
            raise MissingSourceError(f"Source {self.name!r}: a file of its table is gone: {error}.") from error
        except Exception as error:
            raise InvalidSourceError(
                f"Source {self.name!r}: its table cannot be read: {type(error).__name__}: {error}"
            ) from error


def _present() -> datetime:
    return datetime.now(UTC) + _AHEAD


def _nulls(files: Sequence[DataFile]) -> int:
    return sum(file.nulls for file in files)
