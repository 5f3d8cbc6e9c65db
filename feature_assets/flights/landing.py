"""Lands the example's events: one Parquet file per source and UTC day.

Stands in for the feeds that deliver a source's files in production. Landing the same days again changes nothing, not
even a modification time, so nothing downstream is taken for stale.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import polars as pl

from feature_assets.flights.events import EVENTS
from feature_assets.flights.sources import SOURCES
from feature_assets.flights.timeline import END, START
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidRequestError, did_you_mean

FILE_NAME = "events.parquet"
FIRST_DAY = START.date()
LAST_DAY = END.date() - timedelta(days=1)


def land(source_name: str, first_day: date, last_day: date, *, folder: Path | None = None) -> list[date]:
    """Writes the events of a range of UTC days, both ends included, where they differ from what has landed.

    Every day gets a file; an empty one says that nothing happened. A file appears whole or not at all, and its bytes
    depend on the events alone.

    Args:
        source_name: One of the example's sources.
        first_day: First UTC day, from 2013-01-01.
        last_day: Last UTC day, up to 2014-01-01.
        folder: Holds the date partitions; the source's own root if None.

    Returns:
        The days whose files were written, in order: those that were missing or differed.

    Raises:
        InvalidRequestError: If there is no such source, or the range is empty or leaves the data's year.
        MissingSourceError: If the data package is not installed.
    """
    if source_name not in EVENTS:
        raise InvalidRequestError(f"There is no source {source_name!r}. {did_you_mean(source_name, EVENTS)}")
    if not FIRST_DAY <= first_day <= last_day <= LAST_DAY:
        raise InvalidRequestError(
            f"Source {source_name!r} cannot land {first_day}..{last_day}: "
            f"name a first and a last day, in order, from {FIRST_DAY} to {LAST_DAY}."
        )
    root = Path(SOURCES[source_name].root) if folder is None else folder
    by_day = _events_by_day(source_name)
    nothing = EVENTS[source_name]().clear()
    written = []
    for offset in range((last_day - first_day).days + 1):
        day = first_day + timedelta(days=offset)
        if _write(by_day.get(day, nothing), root / f"date={day.isoformat()}" / FILE_NAME):
            written.append(day)
    return written


@cache
def _events_by_day(source_name: str) -> Mapping[date, pl.DataFrame]:
    events = EVENTS[source_name]().with_columns(_day=pl.col(EVENT_TIMESTAMP).dt.date())
    return {day: part for (day,), part in events.partition_by("_day", include_key=False, as_dict=True).items()}


def _write(events: pl.DataFrame, path: Path) -> bool:
    """Writes one file atomically unless it holds these very bytes already; tells whether it wrote."""
    buffer = io.BytesIO()
    events.write_parquet(buffer, compression="zstd")
    content = buffer.getvalue()
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not *.parquet: no reader takes a half-written file for a landed one. Named by process: two may land at once.
    scratch = path.with_name(f".{FILE_NAME}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return True
