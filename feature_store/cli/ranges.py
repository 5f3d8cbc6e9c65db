"""Which partitions a command works on: options to name them, and the default of all that are complete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from feature_store.errors import InvalidRequestError
from feature_store.partitions import Window

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options `--from` and `--to` to a command: keys of the first and the last partition."""
    to = click.option("--to", "last", metavar="KEY", help="Last partition. Default: the last complete one.")
    begin = click.option("--from", "first", metavar="KEY", help="First partition, 2013-01-31 or 2013-01-31-05:00.")
    return begin(to(command))


def complete_span(group: FeatureGroup, now: datetime) -> Window:
    """Returns a group's partitions that are over at `now`; an empty window if none is yet."""
    begun = group.partitioning.window(group.partitioning.key(now)).start
    return Window(group.start, max(group.start, min(begun, group.end or begun)))


def chosen_span(group: FeatureGroup, now: datetime, first: str | None, last: str | None) -> Window:
    """Returns the span from one partition to another, each the group's first or last complete one by default.

    Raises:
        InvalidRequestError: If a key is malformed, its partition is not one of the group's or begins after `now`,
            or the range is empty.
    """
    default = complete_span(group, now)
    span = Window(
        group.partitioning.window(first).start if first else default.start,
        group.partitioning.window(last).end if last else default.end,
    )
    if (first or last) and span.end <= span.start:
        raise InvalidRequestError(
            f"The range of {group.name!r} from {span.start.isoformat()} to {span.end.isoformat()} holds no partition: "
            "its end comes before its start."
        )
    if span.start < group.start or (group.end and span.end > group.end):
        until = f" and ends at {group.end.isoformat()}" if group.end else ""
        raise InvalidRequestError(
            f"Feature group {group.name!r} begins at {group.start.isoformat()}{until}: name partitions of that time."
        )
    if span.start != span.end and span.end - group.partitioning.length > now:
        raise InvalidRequestError(
            f"Partition {group.partitioning.key(span.end - group.partitioning.length)} has not begun: it is "
            f"{now.isoformat()}. Name earlier partitions, or set FEATURE_STORE_CLOCK to replay another time."
        )
    return span
