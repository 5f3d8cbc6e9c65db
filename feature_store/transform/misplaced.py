"""What becomes of events that no window gives: they are counted with their partition, or it is rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feature_store.day_windows import midnight
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import MisplacedEvents, misplaced_events
from feature_store.errors import InvalidRowsError
from feature_store.partitions import Window


def misplaced_in(group: FeatureGroup, windows: Sequence[Window]) -> dict[Window, MisplacedEvents]:
    """Returns the misplaced events of the days of some partitions, in order of time; most have none.

    Each hour of a day has those of the whole day.
    """
    if not windows:
        return {}
    by_day = misplaced_events(group.source, Window(windows[0].start, windows[-1].end))
    return {window: by_day[day] for window in windows if (day := window.start.date()) in by_day}


def reported(found: Mapping[Window, MisplacedEvents], window: Window) -> MisplacedEvents | None:
    """Returns what a partition reports: of hours, the first one of the day does."""
    return found.get(window) if window.start == midnight(window.start.date()) else None


def rejections(group: FeatureGroup, found: Mapping[Window, MisplacedEvents]) -> dict[Window, InvalidRowsError]:
    """Returns the errors of partitions whose days hold too many misplaced events."""
    return {window: _rejection(group, window, each) for window, each in found.items() if each.are_too_many}


def _rejection(group: FeatureGroup, window: Window, found: MisplacedEvents) -> InvalidRowsError:
    day, source = window.start.date(), group.source.name
    failure = (
        f"source {source!r}, folder of {day}: of {found.events:,} events {found.without_time:,} have no time and "
        f"{found.elsewhere:,} one that lies outside of what the folder may hold, for example "
        f"{', '.join(found.examples)}"
    )
    return InvalidRowsError(
        group.name,
        [failure],
        f"Correct the files; or let the source declare how far its events stray (max_stray), or which share of them "
        f"may be left out (max_misplaced_share, now {found.allowed_share:g}).",
    )
