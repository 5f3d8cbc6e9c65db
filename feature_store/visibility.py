"""Visibility: when a row may be seen, and how far back rows must be looked for. The one home of that arithmetic.

A row with event time `e` is visible for a feature at time `T` when `e <= T < e + ttl`. Times are integers,
microseconds since 1970 (UTC), so that plain Python, Polars, NumPy and DuckDB all count alike.

A time to live may be as long as a timedelta can say, 2.7 million years, of which the calendar has 9999. Here it is cut
to the length of the calendar, which changes no verdict: a row that lives so long outlives the year 9999, whenever it
began. So every sum of a time and a time to live stays far inside of 64 bits.

It needs neither Polars nor SQLAlchemy: a model server imports it in a blink.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from feature_store.clock import EARLIEST, LATEST, nearest_datetime, to_micros
from feature_store.partitions import Window

MICROS_PER_SECOND = 1_000_000

CALENDAR_SECONDS = (LATEST - EARLIEST + 1) // MICROS_PER_SECOND
"""Length of the years 1 to 9999."""

Verdict = Literal["visible", "expired", "ahead"]


class HasTimeToLive(Protocol):
    """What a registered feature tells of its time to live."""

    @property
    def online_ttl_seconds(self) -> int:
        """Time to live after the event, in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Visibility:
    """How long rows can be seen, of one feature or of several that are read together.

    Attributes:
        ttls: Time to live of each feature, in order; microseconds, no longer than the calendar.
        shortest: The shortest of them: how long all of a row is visible. 0 for no features.
        longest: The longest: how long anything of a row is. 0 for no features.
    """

    ttls: tuple[int, ...]
    shortest: int
    longest: int

    @classmethod
    def of(cls, features: Iterable[HasTimeToLive]) -> Visibility:
        """Returns the visibility of some features, in their order."""
        return cls.of_seconds(feature.online_ttl_seconds for feature in features)

    @classmethod
    def of_seconds(cls, ttls: Iterable[int]) -> Visibility:
        """Returns the visibility of features with these times to live, in seconds."""
        cut = tuple(min(seconds, CALENDAR_SECONDS) * MICROS_PER_SECOND for seconds in ttls)
        return cls(cut, min(cut, default=0), max(cut, default=0))

    def verdict(self, event: int, now: int) -> Verdict:
        """Returns what becomes of a row at an instant: `visible` if any of the features is, else why none is.

        What reads by the million does not call this: it compares with `ttls`, by the same rule.

        Args:
            event: Event time of the row.
            now: The instant.
        """
        if event > now:
            return "ahead"
        return "visible" if now < event + self.longest else "expired"

    def window(self, first: datetime, last: datetime | None = None) -> Window:
        """Returns the span of event times outside of which no row is visible at one instant, or at any of a span.

        It is cut off where the calendar ends, whose last microsecond is in no half-open span.

        Args:
            first: The first instant, aware.
            last: The last instant, itself included; the first one if None.
        """
        return self.window_of_micros(to_micros(first), to_micros(first if last is None else last))

    def window_of_micros(self, first: int, last: int) -> Window:
        """Returns the same as `window`, of instants in microseconds."""
        return Window(nearest_datetime(first - self.longest + 1), nearest_datetime(last + 1))


def seconds_left(ttl_seconds: int, event: datetime, now: datetime) -> float:
    """Returns how much of a time to live is left, uncut, for people to read: all of it before the event, 0 at last."""
    age = max(to_micros(now) - to_micros(event), 0)
    return max(ttl_seconds * MICROS_PER_SECOND - age, 0) / MICROS_PER_SECOND


def expires_at(ttl_seconds: int, event: datetime) -> datetime | None:
    """Returns the first instant at which a time to live is over, None where that is after the year 9999."""
    end = to_micros(event) + ttl_seconds * MICROS_PER_SECOND
    return nearest_datetime(end) if end <= LATEST else None
