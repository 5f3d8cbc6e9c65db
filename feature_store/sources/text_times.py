"""Times that are written as text: the one place that says which spellings a source may hold."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

SPELLINGS = "ISO 8601, such as 2024-03-01T12:30:00.5Z, 2024-03-01 12:30:00+02:00, 2024-03-01"
"""What is read, for errors."""

_TIME = pl.Datetime("us", "UTC")
_INFINITIES = {
    "infinity": datetime.max.replace(tzinfo=UTC),
    "-infinity": datetime.min.replace(tzinfo=UTC),
}
_TEXT = (
    r"^\s*(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<minute>\d{2}:\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"\s?(?:(?P<utc>Z|z|UTC)|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?)?)?\s*$"
)
_FAST = (("%Y-%m-%dT%H:%M:%S%.f%#z", True), ("%Y-%m-%d %H:%M:%S%.f", False), ("%Y-%m-%dT%H:%M:%S%.f", False))


def parse_times(texts: pl.Series) -> pl.Series:
    """Returns texts as UTC microseconds. Offsets are converted, texts without one are UTC; what is finer is cut off.

    `infinity` and `-infinity`, as PostgreSQL writes them, become the ends of the calendar; blank texts become null. So
    does a text that is no time: `unread` says which ones did.
    """
    found = pl.Series(texts.name, [], dtype=_TIME).extend_constant(None, len(texts))
    # Files mostly keep to one spelling: each is tried on what the one before it has left.
    for format_, is_aware in _FAST:
        left = unread(texts, found)
        if not left.any():
            return found
        some = texts.filter(left)
        zone = "UTC" if is_aware else None
        parsed = some.str.to_datetime(format_, strict=False, time_unit="us", time_zone=zone)
        found = found.zip_with(~left, _spread(left, parsed if is_aware else parsed.dt.replace_time_zone("UTC")))
    left = unread(texts, found)
    if left.any():
        found = found.zip_with(~left, _spread(left, _by_parts(texts.filter(left))))
        for text, end in _INFINITIES.items():
            found = found.zip_with(
                (texts.str.strip_chars() != text).fill_null(value=True), pl.Series([end], dtype=_TIME)
            )
    return found


def unread(texts: pl.Series, times: pl.Series) -> pl.Series:
    """Returns which texts are no times."""
    return times.is_null() & (texts.str.strip_chars() != "").fill_null(value=False)


def _spread(places: pl.Series, values: pl.Series) -> pl.Series:
    """Returns values at their places in a column of nulls."""
    return values.gather(places.cast(pl.UInt32).cum_sum().cast(pl.Int64) - 1) if len(values) else values


def _by_parts(texts: pl.Series) -> pl.Series:
    parts = pl.col("parts").struct
    number = [parts.field(name).cast(pl.Int64).fill_null(0) for name in ("second", "hours", "minutes")]
    offset = pl.duration(hours=number[1], minutes=number[2]) * pl.when(parts.field("sign") == "-").then(-1).otherwise(1)
    day_minute = parts.field("date") + " " + parts.field("minute").fill_null("00:00")
    fraction = parts.field("fraction").fill_null("").str.head(6).str.pad_end(6, "0").cast(pl.Int64)
    moment = day_minute.str.to_datetime("%Y-%m-%d %H:%M", strict=False, time_unit="us")
    # The fields of a time of day that does not exist are no time; Polars has checked hours and minutes.
    exists = pl.all_horizontal(each < end for each, end in zip(number, (60, 24, 60), strict=True))
    time = pl.when(exists).then(moment + pl.duration(seconds=number[0], microseconds=fraction) - offset)
    return (
        texts.to_frame("text")
        .select(pl.col("text").str.extract_groups(_TEXT).alias("parts"))
        .select(time.dt.replace_time_zone("UTC").dt.cast_time_unit("us").alias(texts.name))
        .to_series()
    )
