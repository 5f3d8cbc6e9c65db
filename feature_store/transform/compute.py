"""From source events to the feature rows of a window: the only place that calls a group's function."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.streamed_sources import identity_of
from feature_store.definitions.windowed_group import InstantsOf
from feature_store.errors import DefinitionError, InvalidRowsError
from feature_store.frames import utc_micros
from feature_store.partitions import Window
from feature_store.windows.instants import instants


def compute(group: FeatureGroup, window: Window) -> pl.DataFrame:
    """Returns the feature rows whose event time lies in a window, computed from the source.

    The function sees the events of the window and of the look-back before it; rows that it emits for the look-back
    itself are dropped, since they may lack events of their own past.

    Args:
        group: The feature group.
        window: Any span of time; one day or a year give the same rows.

    Returns:
        The function's rows, as it emits them (columns unchecked), in no order.

    Raises:
        MissingSourceError: If events of the window or its look-back have not landed.
        DefinitionError: If the function returns no lazy frame, or one without `event_timestamp`.
    """
    events = group.source.scan(Window(window.start - group.lookback, window.end))
    return apply_transform(group, each_once(events, identity_of(group.source, group.entity)), window)


def each_once(events: pl.LazyFrame, identity: Sequence[str] | None) -> pl.LazyFrame:
    """Returns events of a source's files as a stream counts them; all of them where no stream carries the source.

    Args:
        events: Events of a source.
        identity: See `definitions.streamed_sources.identity_of`. A process that only computes has it from the one that
            knows the streams.
    """
    if identity is None or not set(identity) <= set(events.collect_schema().names()):
        return events
    return events.unique(identity, keep="first", maintain_order=True)


def transformed(group: FeatureGroup, events: pl.LazyFrame) -> pl.LazyFrame:
    """Returns what a group's function makes of events; of a windowed group, the rows that it stores.

    Raises:
        InvalidRowsError: If the events of a windowed group cannot be stored.
    """
    found = group.transform(events)
    return rows_of_events(group, found) if isinstance(found, pl.LazyFrame) else found


def rows_of_events(group: FeatureGroup, events: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the rows that a windowed group stores of the events that count; of any other group, what is given.

    Raises:
        InvalidRowsError: If they cannot be stored.
    """
    windowed = group.transform
    if not isinstance(windowed, InstantsOf):
        return events
    try:
        return instants(events, windowed.keys, windowed.inputs, windowed.conditions)
    except InvalidRowsError as error:
        raise InvalidRowsError(group.name, error.failures, error.remedy) from None


def apply_transform(group: FeatureGroup, events: pl.LazyFrame, window: Window) -> pl.DataFrame:
    """Returns the feature rows of a window, computed from events given by the caller; see `compute`."""
    rows = transformed(group, events)
    if not isinstance(rows, pl.LazyFrame):
        raise DefinitionError(
            f"The function of feature group {group.name!r} returned {type(rows).__name__}: "
            "it receives a polars.LazyFrame and returns one."
        )
    schema = rows.collect_schema()
    if EVENT_TIMESTAMP not in schema:
        raise DefinitionError(
            f"The rows of feature group {group.name!r} have no column {EVENT_TIMESTAMP!r}, only {schema.names()}: "
            "emit the instant at which each row became known."
        )
    event_time = utc_micros(EVENT_TIMESTAMP, schema)
    inside = event_time.is_between(window.start, window.end, closed="left") | event_time.is_null()
    return rows.with_columns(event_time).filter(inside).collect()
