"""What all checks share: the group, its events and rows of the span, and the one way to run the function."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from feature_store.conformance.state import State
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.streamed_sources import identity_of
from feature_store.definitions.windowed_group import InstantsOf
from feature_store.frames import utc_micros
from feature_store.partitions import Window
from feature_store.transform.compute import apply_transform, each_once


def events_of(group: FeatureGroup, window: Window) -> pl.DataFrame:
    """Returns the events of a group's source in a window, as a materialization counts them."""
    return each_once(group.source.scan(window), identity_of(group.source, group.entity)).collect()


@dataclass(slots=True)
class Probe:
    """A group's function, ready to be run in many ways.

    Attributes:
        group: The feature group.
        span: Whole partitions.
        windows: The partitions.
        events: The events of the span and of the look-back before it.
        seed: Chooses what is sampled.
        entity_local: Whether the events of an entity can be cut apart from others; False once rows depend on others'.
        rows: The rows of the span from one pass over all of its events: what every other run is compared with.
    """

    group: FeatureGroup
    span: Window
    windows: list[Window]
    events: pl.DataFrame
    seed: int
    entity_local: bool = True
    rows: pl.DataFrame = field(init=False)
    _state: State = field(init=False)

    def __post_init__(self) -> None:
        transform = self.group.transform
        self._state = State.of(transform.transform if isinstance(transform, InstantsOf) else transform)
        self.rows = self.rows_of(self.events)

    @property
    def identity(self) -> list[str]:
        """Columns that identify a row."""
        return [EVENT_TIMESTAMP, *self.group.entity.join_keys]

    @property
    def entity_keys(self) -> list[str]:
        """The join keys, if the events have them all as the rows do; else none, and events cannot be told apart."""
        keys = list(self.group.entity.join_keys)
        return keys if all(key in self.events.columns and key in self.rows.columns for key in keys) else []

    @property
    def event_time(self) -> pl.Expr:
        """The event time of the events as UTC microseconds."""
        return utc_micros(EVENT_TIMESTAMP, self.events.schema)

    def rows_of(self, events: pl.DataFrame, window: Window | None = None) -> pl.DataFrame:
        """Returns the rows of a window, the span by default, as a process gives that begins with these events."""
        with self.fresh_state():
            return self.next_rows_of(events, window)

    def next_rows_of(self, events: pl.DataFrame, window: Window | None = None) -> pl.DataFrame:
        """Returns the same with what the function has kept from the run before."""
        return apply_transform(self.group, events.lazy(), window or self.span)

    def events_that_count(self, events: pl.DataFrame) -> pl.DataFrame:
        """Returns what the function of a windowed group makes of events, before they become rows."""
        with self.fresh_state():
            found = self.group.transform(events.lazy()).collect()
        columns = [*self.group.entity.join_keys, EVENT_TIMESTAMP, *self.group.schema.__annotations__]
        return found.select(column for column in columns if column in found.columns)

    def events_for(self, window: Window) -> pl.DataFrame:
        """Returns the events of a window and of the look-back before it."""
        begin = window.start - self.group.lookback
        return self.events.filter(self.event_time.is_between(begin, window.end, closed="left"))

    def rows_of_window(self, window: Window) -> pl.DataFrame:
        """Returns those of `rows` that lie in a window."""
        time = pl.col(EVENT_TIMESTAMP)
        return self.rows.filter(time.is_between(window.start, window.end, closed="left"))

    @contextmanager
    def fresh_state(self) -> Iterator[None]:
        """Within it, the function begins as it did before its first call; after it, too."""
        self._state.reset()
        try:
            yield
        finally:
            self._state.reset()

    def random(self) -> random.Random:
        """Returns a source of random numbers that is the same for the same seed."""
        return random.Random(self.seed)  # noqa: S311  a sample, not a secret
