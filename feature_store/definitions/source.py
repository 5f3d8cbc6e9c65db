"""Sources: where a feature group's events come from.

Only the small interface that the transform needs. What reads files and tables is in `sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from feature_store.partitions import Window

if TYPE_CHECKING:
    import polars as pl


class Source(Protocol):
    """Events that became known over time.

    Every event has `event_timestamp`, the UTC instant at which it became knowable in the real world; an event
    lies in the partition of that instant.
    """

    @property
    def name(self) -> str:
        """The source's name; in Dagster, its asset key."""
        ...

    @property
    def start(self) -> datetime:
        """When the source's history begins (aware UTC). Before it, there are no events."""
        ...

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window, lazily, in any order.

        Raises:
            MissingSourceError: If a part of the window after `start` has not landed.
        """
        ...

    def fingerprint(self, day: date) -> str | None:
        """Returns a text that changes when a UTC day's events change, or None while they have not landed."""
        ...

    def landed_days(self) -> Iterator[date]:
        """Yields the UTC days that have landed, in order."""
        ...


@runtime_checkable
class SurveyedSource(Source, Protocol):
    """A source that tells of all its days in one look, where asking day by day would cost a request for each."""

    def survey(self) -> Mapping[date, str]:
        """Returns the days that have landed, in order, each with its fingerprint."""
        ...


@runtime_checkable
class SettlingSource(SurveyedSource, Protocol):
    """A source whose files others may still be writing."""

    def survey_at_rest(self) -> Mapping[date, str]:
        """Returns what `survey` does, without the days that are being written just now."""
        ...


@dataclass(frozen=True, slots=True)
class MisplacedEvents:
    """Events of a day's folder that no window gives, since their time lies where nobody looks for them.

    Attributes:
        events: How many events the folder holds in all.
        without_time: How many have no time.
        elsewhere: How many have a time that lies further from the folder's day than the source declares.
        examples: Where the first of them are, and their times.
        allowed_share: The share of events up to which they are reported; above it the day is rejected.
    """

    events: int
    without_time: int
    elsewhere: int
    examples: Sequence[str]
    allowed_share: float

    @property
    def count(self) -> int:
        """How many they are."""
        return self.without_time + self.elsewhere

    @property
    def are_too_many(self) -> bool:
        """Whether the day is to be rejected."""
        return self.count > self.allowed_share * self.events


@runtime_checkable
class ExaminedSource(Source, Protocol):
    """A source that counts the events which no window gives."""

    def misplaced(self, window: Window) -> Mapping[date, MisplacedEvents]:
        """Returns the misplaced events of the days that a window touches; days without any are left out."""
        ...


@runtime_checkable
class InspectedSource(Source, Protocol):
    """A source that knows what lies beside its events."""

    def passed_over(self) -> Sequence[str]:
        """Returns what lies in its place and is no part of it, one phrase each: stray folders, half-written files."""
        ...


def misplaced_events(source: Source, window: Window) -> Mapping[date, MisplacedEvents]:
    """Returns the events of a window's days that no window gives, where the source counts them."""
    return source.misplaced(window) if isinstance(source, ExaminedSource) else {}


def fingerprints(source: Source, days: Iterable[date] | None = None, *, at_rest: bool = False) -> dict[date, str]:
    """Returns the days that have landed, in order, each with its fingerprint.

    Args:
        source: The source.
        days: Only these; None for all.
        at_rest: Whether days that are being written just now are left out, where the source can tell them.
    """
    if isinstance(source, SurveyedSource):
        found = source.survey_at_rest() if at_rest and isinstance(source, SettlingSource) else source.survey()
        return {day: found[day] for day in (found if days is None else days) if day in found}
    asked = ((day, source.fingerprint(day)) for day in (source.landed_days() if days is None else days))
    return {day: text for day, text in asked if text is not None}
