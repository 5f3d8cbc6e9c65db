"""Wall clock readings to UTC, for readings that come without a date.

Both conversions refuse what a wall clock cannot decide: a reading inside the hour that a change of clocks skips or
repeats raises instead of being guessed. None of the schedules in the data has one.
"""

from __future__ import annotations

import polars as pl

_MINUTES_PER_DAY = 24 * 60


def minute_of_day(hhmm: str) -> pl.Expr:
    """Returns the minutes since midnight of a column of clock readings HHMM; 2400 is 1440, the end of the day."""
    return pl.col(hhmm) // 100 * 60 + pl.col(hhmm) % 100


def on_day(year: str, month: str, day: str, hhmm: str, zone: str) -> pl.Expr:
    """Returns the UTC instant at which clocks in `zone` showed HHMM on a local calendar day.

    Args:
        year: Column of the year.
        month: Column of the month.
        day: Column of the day of the month.
        hhmm: Column of clock readings.
        zone: IANA name of the time zone.
    """
    wall_clock = pl.datetime(year, month, day) + pl.duration(minutes=minute_of_day(hhmm))
    return wall_clock.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")


def next_after(instant: str, hhmm: str, zone: str) -> pl.Expr:
    """Returns the first UTC instant after `instant` at which clocks in `zone` show HHMM.

    This dates a scheduled arrival: it is the first time after departure that the destination's clocks show it, for
    no flight in the data is under way for a day.

    Args:
        instant: Column of UTC instants.
        hhmm: Column of clock readings.
        zone: IANA name of the time zone.
    """
    here = pl.col(instant).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    minute = here.dt.hour().cast(pl.Int64) * 60 + here.dt.minute()
    ahead = (minute_of_day(hhmm) - minute) % _MINUTES_PER_DAY
    wall_clock = here + pl.duration(minutes=pl.when(ahead == 0).then(_MINUTES_PER_DAY).otherwise(ahead))
    return wall_clock.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
