"""What a stream takes from its source's files: events of before its topic's first, as far as a look-back reaches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from feature_store.clock import nearest_datetime
from feature_store.day_windows import day_window
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError, MissingSourceError


class LookBackGapError(FeatureStoreError):
    """Days that a look-back needs lie between the landed files and the first event of the topic.

    Attributes:
        days: The days.
    """

    def __init__(self, group: FeatureGroup, days: list[date]) -> None:
        self.days = days
        shown = ", ".join(map(str, days[:5])) + (", ..." if len(days) > 5 else "")  # noqa: PLR2004
        super().__init__(
            f"Feature group {group.name!r} looks back over {shown}, which source {group.source.name!r} has not landed: "
            "the stream waits until it has. Land these days; for a day without events, an empty file."
        )


@dataclass(frozen=True, slots=True)
class PastFiles:
    """The files of one group's source.

    Attributes:
        group: The group.
        stream: The stream that feeds it.
    """

    group: FeatureGroup
    stream: EventStream

    def events(self, since: int, until: int) -> pl.DataFrame:
        """Returns the landed events of a span, given in microseconds since 1970, its end included."""
        columns = self.stream.columns
        parts = [pl.DataFrame(schema=columns)]
        landed = set(self.group.source.landed_days())
        for day in _days(since, until):
            if day not in landed:
                continue
            try:
                events = self.group.source.scan(day_window(day))
            except MissingSourceError:
                continue
            parts.append(events.select(pl.col(name).cast(dtype) for name, dtype in columns.items()).collect())
        time = pl.col("event_timestamp").to_physical()
        return pl.concat(parts).filter(time.is_between(since, until))

    def missing(self, since: int, until: int) -> list[date]:
        """Returns the days of a span that have not landed, those before the source's first landed day left out.

        A source of which nothing has landed has no past.
        """
        landed = set(self.group.source.landed_days())
        if not landed:
            return []
        first = max(min(landed), self.group.source.start.date())
        return [day for day in _days(since, until) if day >= first and day not in landed]


def _days(since: int, until: int) -> list[date]:
    first, last = nearest_datetime(since).date(), nearest_datetime(until).date()
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
