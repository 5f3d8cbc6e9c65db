"""The one source of "now". Nothing else in the project asks the system for the time of a decision.

A replay of history, a test and production differ only in the clock that they inject.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from feature_store.errors import SettingsError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the store's present.

    Attributes:
        is_live: Whether this clock is the wall clock, by which the online store's server expires keys. Under any
            other, a key whose time is over by the wall clock is kept without expiry, and the reader alone decides.
    """

    is_live: bool

    def now(self) -> datetime:
        """Returns the present as an aware UTC datetime with microseconds."""
        ...


class SystemClock:
    """The wall clock: production."""

    is_live = True

    def now(self) -> datetime:
        """Returns the wall clock's time in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still: replays and tests.

    Args:
        at: The present. Naive input is taken as UTC.
    """

    is_live = False

    def __init__(self, at: datetime) -> None:
        self._at = to_utc(at)

    def now(self) -> datetime:
        """Returns the instant that the clock was set to."""
        return self._at

    def set(self, at: datetime) -> None:
        """Moves the clock to another instant."""
        self._at = to_utc(at)


def parse_clock(text: str | None) -> Clock:
    """Returns the clock that a setting names: unset or `system`, or an ISO timestamp to stand at.

    Raises:
        SettingsError: If the text is neither.
    """
    if not text or text == "system":
        return SystemClock()
    try:
        return FixedClock(datetime.fromisoformat(text))
    except ValueError:
        raise SettingsError(
            f"FEATURE_STORE_CLOCK={text!r} is not a time. Unset it for the wall clock, "
            "or write an ISO timestamp such as 2014-01-02T00:00:00Z to replay history."
        ) from None


def to_utc(moment: datetime) -> datetime:
    """Returns `moment` as aware UTC. Naive input is taken as UTC: the one place where that is decided for datetimes."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_micros(moment: datetime) -> int:
    """Returns microseconds since 1970-01-01T00:00:00Z, exactly."""
    # A difference needs no conversion, by which a time at the end of the calendar could leave it.
    delta = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


EARLIEST = to_micros(datetime.min.replace(tzinfo=UTC))
LATEST = to_micros(datetime.max.replace(tzinfo=UTC))
"""Ends of the calendar, years 1 to 9999, in microseconds since 1970."""


def nearest_datetime(micros: int) -> datetime:
    """Returns microseconds since 1970 as aware UTC; of a time outside the years 1 to 9999, the end that is nearest."""
    return EPOCH + timedelta(microseconds=min(max(micros, EARLIEST), LATEST))
