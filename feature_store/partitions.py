"""Partitions: UTC days or hours, their keys, and the windows of time that they cover.

Keys are spelled as Dagster spells them, so that both sides name the same partition alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum

from feature_store.clock import to_utc
from feature_store.errors import InvalidRequestError

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_HOUR = re.compile(r"\d{4}-\d\d-\d\d-\d\d")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of time, `start <= t < end`, both aware UTC."""

    start: datetime
    end: datetime

    def dates(self) -> Iterator[date]:
        """Yields the UTC days that the window touches, in order."""
        last = (self.end - timedelta(microseconds=1)).date()
        yield from map(date.fromordinal, range(self.start.date().toordinal(), last.toordinal() + 1))


class Partitioning(Enum):
    """How a feature group's time is cut: by UTC day or by UTC hour."""

    DAILY = "daily"
    HOURLY = "hourly"

    @property
    def length(self) -> timedelta:
        """The time that one partition covers."""
        return timedelta(days=1) if self is Partitioning.DAILY else timedelta(hours=1)

    def key(self, moment: datetime) -> str:
        """Returns the key of the partition that holds `moment`: `2013-01-31`, or `2013-01-31-05:00`."""
        # Not strftime: the C library of some systems writes the year 1 without its zeros.
        moment = to_utc(moment)
        day = moment.date().isoformat()
        return day if self is Partitioning.DAILY else f"{day}-{moment.hour:02}:00"

    def window(self, key: str) -> Window:
        """Returns the window that a partition key covers.

        Raises:
            InvalidRequestError: If the key is not one of this partitioning.
        """
        try:
            form = "%Y-%m-%d" if self is Partitioning.DAILY else "%Y-%m-%d-%H:%M"
            start = datetime.strptime(key, form).replace(tzinfo=UTC)
            window = Window(start, start + self.length)
        except (ValueError, TypeError, OverflowError):
            window = None
        if window is None or self.key(window.start) != key:
            example = "2013-01-31" if self is Partitioning.DAILY else "2013-01-31-05:00"
            raise InvalidRequestError(f"{key!r} is not the key of a partition ({self.value}), such as {example}.")
        return window

    def windows(self, span: Window) -> Iterator[Window]:
        """Yields the partitions that a span of whole partitions consists of, in order.

        Raises:
            InvalidRequestError: If the span does not start and end at partition boundaries.
        """
        for edge in (span.start, span.end):
            if (edge - datetime.min.replace(tzinfo=UTC)) % self.length:
                raise InvalidRequestError(f"{edge.isoformat()} is not the boundary of a {self.value} partition.")
        start = span.start
        while start < span.end:
            yield Window(start, start + self.length)
            start += self.length

    def span(self, first_key: str, last_key: str) -> Window:
        """Returns the window from the start of one partition to the end of another, both included.

        Raises:
            InvalidRequestError: If a key is malformed or the last comes before the first.
        """
        first, last = self.window(first_key), self.window(last_key)
        if last < first:
            raise InvalidRequestError(f"The range {first_key}..{last_key} is empty: its end comes before its start.")
        return Window(first.start, last.end)

    def covering(self, first: str | date | datetime, last: str | date | datetime | None = None) -> Window:
        """Returns the whole partitions from `first` to `last`, both included.

        Args:
            first: A partition's key (`2013-01-31`, of hours `2013-01-31-05:00` or `2013-01-31-05`), a UTC day, or an
                instant inside of a partition (aware, or naive in UTC). A day of hours is all of its hours.
            last: The same of the last partition; `first` by default.

        Raises:
            InvalidRequestError: If one of them is no partition, or the last comes before the first.
        """
        begin = self._covered(first)
        end = begin if last is None else self._covered(last)
        if end.start < begin.start:
            raise InvalidRequestError(f"The range {first}..{last} is empty: its end comes before its start.")
        return Window(begin.start, end.end)

    def _covered(self, moment: str | date | datetime) -> Window:
        if isinstance(moment, datetime):
            return self.window(self.key(moment))
        if isinstance(moment, date):
            return Partitioning.DAILY.window(moment.isoformat())
        if self is Partitioning.DAILY or not isinstance(moment, str):
            return self.window(moment)
        if _DAY.fullmatch(moment):
            return Partitioning.DAILY.window(moment)
        return self.window(f"{moment}:00" if _HOUR.fullmatch(moment) else moment)
