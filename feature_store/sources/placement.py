"""Which events lie where a window finds them: near enough to the day of the folder that their file lies in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from feature_store.clock import EPOCH, nearest_datetime
from feature_store.storage.parquet_footers import TimeRange

_EPOCH = EPOCH.date().toordinal()
_DAY = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reach:
    """The times that the events of a folder may have: `first <= t < end`, UTC microseconds."""

    first: int
    end: int

    @classmethod
    def of(cls, day: date, max_stray: timedelta) -> Reach:
        """Returns the reach of a day's folder."""
        # By numbers: the calendar ends with the folder of its last day.
        begin = (day.toordinal() - _EPOCH) * _DAY
        stray = max_stray // timedelta(microseconds=1)
        return cls(begin - stray, begin + _DAY + stray)

    def holds(self, times: TimeRange) -> bool:
        """Tells whether all of some events lie within."""
        if times.nulls:
            return False
        return times.first is None or times.last is None or (self.first <= times.first and times.last < self.end)


@dataclass(frozen=True, slots=True)
class Placement:
    """How the events of a file lie.

    Attributes:
        events: How many there are.
        without_time: How many have no time.
        elsewhere: How many have a time out of reach.
        example: The time of one of those.
    """

    events: int
    without_time: int = 0
    elsewhere: int = 0
    example: str = ""

    @classmethod
    def of(cls, times: pl.Series, reach: Reach) -> Placement:
        """Returns how events lie, given their times in UTC microseconds."""
        micros = times.to_physical()
        outside = micros.filter(~micros.is_between(reach.first, reach.end, closed="left"))
        outside = outside.drop_nulls()
        example = nearest_datetime(outside[0]).isoformat() if len(outside) else ""
        return cls(len(times), times.null_count(), len(outside), example)

    @property
    def misplaced(self) -> int:
        """How many events no window gives."""
        return self.without_time + self.elsewhere
