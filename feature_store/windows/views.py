"""Events as windows see them: sorted by entity and time, and of those the ones that count for some windows.

What windows come to is `fold`'s; here lies what all functions of one column share, worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import WindowOverflowError
from feature_store.windows.columns import Column
from feature_store.windows.exact_sums import ExactSums
from feature_store.windows.extents import Extent
from feature_store.windows.sketches import buckets_of, registers_of, text_of
from feature_store.windows.slices import Timeline

Ints = npt.NDArray[np.int64]


class ReaderOverflowError(WindowOverflowError):
    """What a window comes to is greater than its type can hold.

    Attributes:
        reader: Number of the reader who asked for it.
    """

    def __init__(self, window: Window, reader: int) -> None:
        self.reader = reader
        spec = window.spec
        remedy = "Annotate the window as float." if window.dtype.scalar.name != "float" else "Scale the column down."
        super().__init__("", [f"the {spec.function} of {spec.column!r} is too large for {window.dtype.scalar}"], remedy)

    def of_entity(self, entity: str) -> WindowOverflowError:
        """Returns the error with the entity named."""
        return WindowOverflowError(self.group, [f"{failure}, of {entity}" for failure in self.failures], self.remedy)


class Window(NamedTuple):
    """A windowed feature to be folded: what it is, and the dtype of its values."""

    spec: WindowSpec
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class Readers:
    """Who asks: an entity at an instant, in order of both.

    Attributes:
        codes: Code of each reader's entity.
        at: The instants, microseconds since 1970.
        inclusive: Whether an event at the instant itself is seen.
    """

    codes: Ints
    at: Ints
    inclusive: bool = True


class Events:
    """Events of some entities, as columns.

    Args:
        codes: Code of each event's entity, from 0 on.
        times: Microseconds since 1970.
        columns: The columns that windows read, in the order of the events.
    """

    def __init__(self, codes: Ints, times: Ints, columns: Mapping[str, pl.Series]) -> None:
        self.timeline = Timeline.of(codes, times)
        order = self.timeline.order
        self.codes, self.times = codes[order], times[order]
        self._columns = columns
        self._views: dict[tuple[str | None, str | None, str | None], View] = {}

    def column(self, name: str) -> pl.Series:
        """Returns a column in the order of entity and time."""
        return self._columns[name].gather(pl.Series(self.timeline.order))

    def view(self, spec: WindowSpec) -> View:
        """Returns the events that a window counts, whatever its extent."""
        key = (spec.column, spec.condition, spec.category)
        if key not in self._views:
            self._views[key] = self._viewed(spec)
        return self._views[key]

    def _viewed(self, spec: WindowSpec) -> View:
        counts = np.ones(len(self.times), dtype=bool)
        if spec.condition is not None:
            counts &= self.column(spec.condition).fill_null(value=False).to_numpy()
        column = None
        if spec.column is not None:
            column = self.column(spec.column)
            counts &= column.is_not_null().to_numpy()
        if spec.category is not None:
            counts &= self.column(spec.category).is_not_null().to_numpy()
        kept = None if counts.all() else counts
        if column is not None and kept is not None:
            column = column.filter(pl.Series(kept))
        values = None
        if column is not None and spec.column_dtype is not None:
            values = Column(Dtype.parse(spec.column_dtype), column)
        return View(self, kept, values)


class View:
    """The events that count for some windows, in order.

    Args:
        events: All events.
        is_kept: Which of them count; None for all.
        column: Their values, if a column is read.
    """

    def __init__(self, events: Events, is_kept: npt.NDArray[np.bool_] | None, column: Column | None) -> None:
        kept = None if is_kept is None else np.flatnonzero(is_kept)
        self.events = events
        self.column = column
        self._kept = kept
        self._before: Ints | None = None
        self._ranges: dict[Extent, tuple[Ints, Ints]] = {}
        self._sums: dict[Extent, npt.NDArray[np.float64]] = {}
        if is_kept is not None:
            self._before = np.ones(len(events.times) + 1, dtype=np.int64)
            self._before[0] = 0
            self._before[1:][~is_kept] = 0
            np.cumsum(self._before, out=self._before)

    @cached_property
    def times(self) -> Ints:
        """Times of the events that count."""
        return self.events.times if self._kept is None else self.events.times[self._kept]

    @cached_property
    def codes(self) -> Ints:
        """Their entities."""
        return self.events.codes if self._kept is None else self.events.codes[self._kept]

    @cached_property
    def count(self) -> int:
        """How many they are."""
        return len(self.events.times) if self._kept is None else len(self._kept)

    def ranges(self, extent: Extent, begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
        """Returns windows of an extent as positions among the events that count, from positions among all."""
        if self._before is None:
            return begins, ends
        if extent not in self._ranges:
            self._ranges[extent] = self._before[begins], self._before[ends]
        return self._ranges[extent]

    def totals(self, extent: Extent, ranges: Ranges) -> npt.NDArray[np.float64]:
        """Returns the exact sums of floats over windows of an extent."""
        if extent not in self._sums:
            self._sums[extent] = self.sums.over(ranges.begins, ranges.ends)
        return self._sums[extent]

    def of_events(self, column: pl.Series) -> pl.Series:
        """Returns a column of the events that count, from one of all events in order."""
        return column if self._kept is None else column.gather(pl.Series(self._kept))

    @cached_property
    def sums(self) -> ExactSums:
        """Exact sums of the values, as floats."""
        return ExactSums(self.values.floats, self.count)

    @cached_property
    def numbers(self) -> npt.NDArray[np.generic]:
        """Numbers that are ordered as the values are; see `Column.coded`."""
        return self.values.coded[0]

    @cached_property
    def in_order_of_value(self) -> npt.NDArray[np.generic]:
        """The values in order of entity, time and, at one instant, of value."""
        numbers = self.numbers
        same = (self.times[1:] == self.times[:-1]) & (self.codes[1:] == self.codes[:-1])
        if not (same & (numbers[1:] < numbers[:-1])).any():  # type: ignore[operator]
            return numbers
        order = np.lexsort((numbers, self.times, self.codes))
        return numbers[order]

    @cached_property
    def buckets(self) -> Ints:
        """The bucket of each value, for quantiles."""
        return buckets_of(self.values.floats)

    @cached_property
    def registers(self) -> Ints:
        """Register and rank of each value; see `sketches.registers_of`."""
        places, distinct = self.values.distinct
        return registers_of(map(text_of, distinct.to_list()))[places] if len(distinct) else places

    @property
    def values(self) -> Column:
        """Their values."""
        if self.column is None:
            raise AssertionError
        return self.column


class Ranges(NamedTuple):
    """The window of each reader, among the events that count."""

    begins: Ints
    ends: Ints
    at: Ints
