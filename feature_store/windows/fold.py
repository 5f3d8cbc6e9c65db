"""Folding: the values of windows for many readers at once, each at an instant of its own.

Events are sorted once by entity and time; then a window is a range of positions (`slices`), and what it comes to is
found from prefix sums, sparse tables, or, for what has neither, from the range's events themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_functions import UNITS
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import WindowOverflowError
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.columns import Column, decimals, lists, masked
from feature_store.windows.exact_sums import ExactSums, SumOverflowError, mean_of_whole, sums_of_whole, variances
from feature_store.windows.extents import Extent
from feature_store.windows.extremes import range_extremes
from feature_store.windows.sketches import (
    bucket_values,
    buckets_of,
    estimate,
    place_of_quantile,
    registers_of,
    text_of,
)
from feature_store.windows.slices import Timeline

Ints = npt.NDArray[np.int64]

PAIRS_AT_ONCE = 4_000_000
"""Events that are looked at one by one at a time, in windows whose values no prefix tells."""


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
        self._views: dict[tuple[str | None, str | None, str | None], _View] = {}

    def column(self, name: str) -> pl.Series:
        """Returns a column in the order of entity and time."""
        return self._columns[name].gather(pl.Series(self.timeline.order))

    def view(self, spec: WindowSpec) -> _View:
        """Returns the events that a window counts, whatever its extent."""
        key = (spec.column, spec.condition, spec.category)
        if key not in self._views:
            self._views[key] = self._viewed(spec)
        return self._views[key]

    def _viewed(self, spec: WindowSpec) -> _View:
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
        return _View(self, kept, values)


class _View:
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

    def totals(self, extent: Extent, ranges: _Ranges) -> npt.NDArray[np.float64]:
        """Returns the exact sums of floats over windows of an extent."""
        if extent not in self._sums:
            self._sums[extent] = self.sums.over(ranges.begins, ranges.ends)
        return self._sums[extent]

    def of_events(self, column: pl.Series) -> pl.Series:
        """Returns a column of the events that count, from one of all events in order."""
        return column if self._kept is None else column.gather(pl.Series(self._kept))

    @cached_property
    def sums(self) -> ExactSums:
        return ExactSums(self.values.floats, self.count)

    @cached_property
    def numbers(self) -> npt.NDArray[np.generic]:
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
        return buckets_of(self.values.floats)

    @cached_property
    def registers(self) -> Ints:
        places, distinct = self.values.distinct
        return registers_of(map(text_of, distinct.to_list()))[places] if len(distinct) else places

    @property
    def values(self) -> Column:
        """Their values."""
        if self.column is None:
            raise AssertionError
        return self.column


class _Ranges(NamedTuple):
    """The window of each reader, among the events that count."""

    begins: Ints
    ends: Ints
    at: Ints


def fold(events: Events, readers: Readers, windows: Sequence[Window]) -> list[pl.Series]:
    """Returns the value of each window for each reader.

    Args:
        events: Events of the readers' entities; those that no window can hold may be left out.
        readers: Entities and instants, in any order; those in order of entity and time are answered faster.
        windows: The windows.

    Raises:
        ReaderOverflowError: If a total is greater than its dtype can hold.
    """
    timeline = events.timeline
    find = timeline.until if readers.inclusive else timeline.before
    ends = find(readers.codes, readers.at)
    begins: dict[Extent, Ints] = {}
    answers = []
    for window in windows:
        spec = window.spec
        if spec.extent not in begins:
            # A window whose tail has passed its end is empty, not negative: an exclusive reader at its own tail.
            begins[spec.extent] = np.minimum(timeline.windows(readers.codes, readers.at, spec.extent), ends)
        if spec.category is not None:
            answers.append(_by_category(events, readers, window))
            continue
        view = events.view(spec)
        ranges = _Ranges(*view.ranges(spec.extent, begins[spec.extent], ends), readers.at)
        answers.append(_folded(view, ranges, window))
    return answers


def _folded(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    try:
        found = _FOLDS[window.spec.function](view, ranges, window)
    except SumOverflowError as error:
        raise ReaderOverflowError(window, error.place) from None
    target = polars_type(window.dtype)
    return found if found.dtype == target else found.cast(target)


def _count(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    del view, window
    return pl.Series(ranges.ends - ranges.begins)


def _total(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    if window.dtype.name == "float":
        return pl.Series(view.totals(window.spec.extent, ranges))
    column = view.values
    whole = sums_of_whole(column.whole, ranges.begins, ranges.ends)
    return decimals(whole, window.dtype.scale) if window.dtype.name == "decimal" else pl.Series(whole)


def _mean(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    counts = ranges.ends - ranges.begins
    is_there = counts > 0
    column = view.values
    divisors = np.maximum(counts, 1)
    if column.dtype.name == "float":
        found = view.totals(window.spec.extent, ranges) / divisors
    else:
        scale = 10**column.dtype.scale if column.dtype.name == "decimal" else 1
        found = mean_of_whole(column.whole, ranges.begins, ranges.ends, scale)
    return masked(pl.Series(found), is_there)


def _variance(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    column = view.values
    if column.dtype.name == "float":
        found = variances(column.floats, ranges.begins, ranges.ends, 1)
    else:
        scale = 10**column.dtype.scale if column.dtype.name == "decimal" else 1
        found = variances(column.whole, ranges.begins, ranges.ends, scale)
    if window.spec.function == "stddev":
        found = np.sqrt(found)
    return masked(pl.Series(found), ranges.ends - ranges.begins > 1)


def _extreme(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    greatest = window.spec.function == "maximum"
    found, is_there = range_extremes(view.numbers, ranges.begins, ranges.ends, greatest=greatest)
    return view.values.values(found, is_there)


def _end(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    spec, column = window.spec, view.values
    ordered = view.in_order_of_value
    if spec.size is None:
        is_there = ranges.ends > ranges.begins
        places = ranges.begins if spec.function == "first" else ranges.ends - 1
        found = ordered[np.where(is_there, places, 0)] if len(ordered) else np.zeros(len(places), ordered.dtype)
        return column.values(found, is_there)
    lengths = np.minimum(ranges.ends - ranges.begins, spec.size)
    begins = ranges.begins if spec.function == "first" else ranges.ends - lengths
    return lists(lengths, column.values(ordered[_positions(begins, lengths)]))


def _age(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    is_there = ranges.ends > ranges.begins
    if not view.count:
        return pl.repeat(None, len(is_there), dtype=pl.Float64, eager=True)
    since = ranges.at - view.times[np.where(is_there, ranges.ends - 1, 0)]
    return masked(pl.Series(since / UNITS[window.spec.unit or "seconds"]), is_there)


def _listed(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    spec, column = window.spec, view.values
    numbers = view.numbers

    def most(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "number": numbers[positions]})
        ordered = frame.sort("reader", "number", descending=[False, spec.function == "top"])
        kept = ordered.group_by("reader", maintain_order=True).head(spec.size or 1)
        return lists(_lengths(kept["reader"], count), column.values(kept["number"].to_numpy()))

    return _in_chunks(ranges, most)


def _distinct(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    spec, column = window.spec, view.values
    places, distinct = column.distinct
    bound = spec.size or 1

    def different(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "place": places[positions]}).unique()
        if window.dtype.name != "list":
            return pl.Series(np.minimum(_lengths(frame["reader"], count), bound))
        kept = frame.sort("reader", "place").group_by("reader", maintain_order=True).head(bound)
        return lists(_lengths(kept["reader"], count), distinct.gather(kept["place"]))

    return _in_chunks(ranges, different)


def _approx_distinct(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    del window
    registers = view.registers

    def about(readers: Ints, positions: Ints, count: int) -> pl.Series:
        packed = registers[positions]
        frame = pl.DataFrame({"reader": readers, "register": packed >> 6, "rank": packed & 63})
        ranks = frame.group_by("reader", "register").agg(pl.col("rank").max())
        weight = (2.0 ** (64 - ranks["rank"].cast(pl.Float64))).alias("weight")
        # Sums of powers of two between 2^10 and 2^63, at most 2048 of them: 64 bits of a float are not enough.
        high = pl.when(pl.col("rank") < 32).then(pl.col("weight") / 2.0**32).otherwise(0.0).sum().alias("high")  # noqa: PLR2004
        low = pl.when(pl.col("rank") >= 32).then(pl.col("weight")).otherwise(0.0).sum().alias("low")  # noqa: PLR2004
        sums = ranks.with_columns(weight).group_by("reader").agg(pl.len().alias("used"), high, low)
        found = np.zeros(count, dtype=np.int64)
        for reader, used, above, below in sums.iter_rows():
            found[reader] = estimate(used, (int(above) << 32) + int(below))
        return pl.Series(found)

    return _in_chunks(ranges, about)


def _quantile(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    buckets = view.buckets
    quantile = window.spec.quantile or 0.5

    def value(readers: Ints, positions: Ints, count: int) -> pl.Series:
        order = np.lexsort((buckets[positions], readers))
        lengths = np.bincount(readers, minlength=count).astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        wanted = {number: place_of_quantile(quantile, number) for number in np.unique(lengths).tolist()}
        places = starts + np.array([wanted[number] for number in lengths.tolist()], dtype=np.int64)
        is_there = lengths > 0
        ordered = buckets[positions][order]
        found = ordered[np.where(is_there, places, 0)] if len(ordered) else np.zeros(count, np.int64)
        return masked(pl.Series(bucket_values(found)), is_there)

    return _in_chunks(ranges, value)


def _histogram(view: _View, ranges: _Ranges, window: Window) -> pl.Series:
    spec, column = window.spec, view.values
    places, distinct = column.distinct

    def counted(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "place": places[positions]})
        counts = frame.group_by("reader", "place").agg(pl.len().cast(pl.Int64).alias("count"))
        kept = (
            counts.sort("reader", "count", "place", descending=[False, True, False])
            .group_by("reader", maintain_order=True)
            .head(spec.size or 1)
            .sort("reader", "place")
        )
        pairs = pl.DataFrame({"key": distinct.gather(kept["place"]), "value": kept["count"]})
        return lists(_lengths(kept["reader"], count), pairs.to_struct())

    return _in_chunks(ranges, counted)


_Fold = Callable[[_View, _Ranges, Window], pl.Series]
_FOLDS: Mapping[str, _Fold] = {
    "count": _count,
    "total": _total,
    "mean": _mean,
    "variance": _variance,
    "stddev": _variance,
    "minimum": _extreme,
    "maximum": _extreme,
    "first": _end,
    "last": _end,
    "age": _age,
    "top": _listed,
    "bottom": _listed,
    "distinct": _distinct,
    "approx_distinct": _approx_distinct,
    "approx_quantile": _quantile,
    "histogram": _histogram,
}


def _by_category(events: Events, readers: Readers, window: Window) -> pl.Series:
    """Returns maps: each category of an entity is folded as if it were an entity, for the readers of that entity."""
    spec = window.spec
    view = events.view(spec)
    if spec.category is None or window.dtype.element is None:
        raise AssertionError
    categories = view.of_events(events.column(spec.category))
    names = categories.unique().sort()
    codes = categories.rank("dense").cast(pl.Int64).to_numpy() - 1
    width = max(len(names), 1)
    pairs, members = np.unique(view.codes * width + codes, return_inverse=True)
    columns = {} if spec.column is None or view.column is None else {spec.column: view.column.series}
    inner = Events(members.reshape(-1).astype(np.int64), view.times, columns)
    begins = np.searchsorted(pairs, readers.codes * width)
    lengths = np.searchsorted(pairs, readers.codes * width + width) - begins
    plain = WindowSpec(
        spec.function, spec.column, spec.column_dtype, None, None, spec.length, spec.hop, spec.size, spec.quantile,
        spec.unit,
    )  # fmt: skip
    pieces = []
    for start, end in _chunks(lengths):
        some = lengths[start:end]
        asked = _positions(begins[start:end], some)
        at = np.repeat(readers.at[start:end], some)
        counted = Window(_counting(plain), Dtype("int"))
        asking = Readers(asked, at, readers.inclusive)
        try:
            number, values = fold(inner, asking, [counted, Window(plain, window.dtype.element)])
        except ReaderOverflowError as error:
            raise ReaderOverflowError(
                window, start + int(np.repeat(np.arange(end - start), some)[error.reader])
            ) from None
        is_there = (number > 0) & values.is_not_null()
        kept = pl.DataFrame({"key": names.gather(pl.Series(pairs[asked] % width)), "value": values}).filter(is_there)
        reader = pl.Series(np.repeat(np.arange(end - start), some)).filter(is_there)
        pieces.append(lists(_lengths(reader, end - start), kept.to_struct()))
    target = polars_type(window.dtype)
    return pl.concat([pl.Series([], dtype=target), *(piece.cast(target) for piece in pieces)])


def _counting(spec: WindowSpec) -> WindowSpec:
    return WindowSpec("count", spec.column, spec.column_dtype, None, None, spec.length, spec.hop)


def _in_chunks(ranges: _Ranges, answer: Callable[[Ints, Ints, int], pl.Series]) -> pl.Series:
    """Returns what is answered for each range from its positions, some ranges at a time."""
    lengths = ranges.ends - ranges.begins
    pieces = []
    for start, end in _chunks(lengths):
        some = lengths[start:end]
        readers = np.repeat(np.arange(end - start), some)
        pieces.append(answer(readers, _positions(ranges.begins[start:end], some), end - start))
    return pl.concat(pieces) if pieces else answer(lengths[:0], lengths[:0], 0)


def _chunks(lengths: Ints) -> list[tuple[int, int]]:
    """Returns spans of ranges that have few enough positions to be looked at together."""
    total = np.cumsum(lengths)
    spans = []
    start = 0
    while start < len(lengths):
        before = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, "right")))
        spans.append((start, end))
        start = end
    return spans


def _positions(begins: Ints, lengths: Ints) -> Ints:
    """Returns all positions of ranges, one after another."""
    ends = np.cumsum(lengths)
    places: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - lengths), lengths)
    return places


def _lengths(readers: pl.Series, count: int) -> Ints:
    found: Ints = np.bincount(readers.to_numpy(), minlength=count).astype(np.int64)
    return found
