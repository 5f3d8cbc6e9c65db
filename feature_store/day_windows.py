"""From a UTC day to the window of time that it covers."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from feature_store.partitions import Window


def midnight(day: date) -> datetime:
    """Returns the first instant of a UTC day."""
    return datetime.combine(day, time(), UTC)


def day_window(first: date, last: date | None = None) -> Window:
    """Returns the window of one UTC day, or of the days from one to another, both included."""
    return Window(midnight(first), midnight(last or first) + timedelta(days=1))
