"""Spans of time as text, the same in messages, tables, checks and metadata."""

from __future__ import annotations

from datetime import timedelta

_SECOND = timedelta(seconds=1)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration_text(span: timedelta, *, most_units: int = 2) -> str:
    """Returns a span in its greatest units: `3d 4h`, `2h 5min`, `45s`, `-2h`; `0.25s` where it is below a second.

    Args:
        span: The span of time.
        most_units: How many units are given from the greatest one on; what is smaller is cut off.
    """
    sign = "-" if span < timedelta(0) else ""
    if timedelta(0) < abs(span) < _SECOND:
        return f"{sign}{abs(span) / _SECOND:g}s"
    rest = abs(span) // _SECOND
    parts = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        parts.append((count, unit))
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count}{unit}" for count, unit in parts[first : first + most_units] if count]
    return f"{sign}{' '.join(shown) or '0s'}"
