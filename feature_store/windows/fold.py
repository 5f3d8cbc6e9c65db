"""Folding: the values of windows for many readers at once, each at an instant of its own.

Events are sorted once by entity and time; then a window is a range of positions (`slices`), and what it comes to is
found from prefix sums, sparse tables, or, for what has neither, from the range's events themselves (`fold_listed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_functions import UNITS
from feature_store.definitions.window_spec import WindowSpec
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.columns import decimals, lists, masked
from feature_store.windows.exact_sums import SumOverflowError, mean_of_whole, sums_of_whole, variances
from feature_store.windows.extents import Extent
from feature_store.windows.extremes import range_extremes
from feature_store.windows.fold_listed import approx_distinct, distinct, histogram, listed, quantile_of
from feature_store.windows.ranges import chunks_of, lengths_of, positions_of
from feature_store.windows.views import Events, Ranges, ReaderOverflowError, Readers, View, Window

Ints = npt.NDArray[np.int64]


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
        ranges = Ranges(*view.ranges(spec.extent, begins[spec.extent], ends), readers.at)
        answers.append(_folded(view, ranges, window))
    return answers


def _folded(view: View, ranges: Ranges, window: Window) -> pl.Series:
    try:
        found = _FOLDS[window.spec.function](view, ranges, window)
    except SumOverflowError as error:
        raise ReaderOverflowError(window, error.place) from None
    target = polars_type(window.dtype)
    return found if found.dtype == target else found.cast(target)


def _count(view: View, ranges: Ranges, window: Window) -> pl.Series:
    del view, window
    return pl.Series(ranges.ends - ranges.begins)


def _total(view: View, ranges: Ranges, window: Window) -> pl.Series:
    if window.dtype.name == "float":
        return pl.Series(view.totals(window.spec.extent, ranges))
    column = view.values
    whole = sums_of_whole(column.whole, ranges.begins, ranges.ends)
    return decimals(whole, window.dtype.scale) if window.dtype.name == "decimal" else pl.Series(whole)


def _mean(view: View, ranges: Ranges, window: Window) -> pl.Series:
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


def _variance(view: View, ranges: Ranges, window: Window) -> pl.Series:
    column = view.values
    if column.dtype.name == "float":
        found = variances(column.floats, ranges.begins, ranges.ends, 1)
    else:
        scale = 10**column.dtype.scale if column.dtype.name == "decimal" else 1
        found = variances(column.whole, ranges.begins, ranges.ends, scale)
    if window.spec.function == "stddev":
        found = np.sqrt(found)
    return masked(pl.Series(found), ranges.ends - ranges.begins > 1)


def _extreme(view: View, ranges: Ranges, window: Window) -> pl.Series:
    greatest = window.spec.function == "maximum"
    found, is_there = range_extremes(view.numbers, ranges.begins, ranges.ends, greatest=greatest)
    return view.values.values(found, is_there)


def _end(view: View, ranges: Ranges, window: Window) -> pl.Series:
    spec, column = window.spec, view.values
    ordered = view.in_order_of_value
    if spec.size is None:
        is_there = ranges.ends > ranges.begins
        places = ranges.begins if spec.function == "first" else ranges.ends - 1
        found = ordered[np.where(is_there, places, 0)] if len(ordered) else np.zeros(len(places), ordered.dtype)
        return column.values(found, is_there)
    lengths = np.minimum(ranges.ends - ranges.begins, spec.size)
    begins = ranges.begins if spec.function == "first" else ranges.ends - lengths
    return lists(lengths, column.values(ordered[positions_of(begins, lengths)]))


def _age(view: View, ranges: Ranges, window: Window) -> pl.Series:
    is_there = ranges.ends > ranges.begins
    if not view.count:
        return pl.repeat(None, len(is_there), dtype=pl.Float64, eager=True)
    since = ranges.at - view.times[np.where(is_there, ranges.ends - 1, 0)]
    return masked(pl.Series(since / UNITS[window.spec.unit or "seconds"]), is_there)


_Fold = Callable[[View, Ranges, Window], pl.Series]
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
    "top": listed,
    "bottom": listed,
    "distinct": distinct,
    "approx_distinct": approx_distinct,
    "approx_quantile": quantile_of,
    "histogram": histogram,
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
    for start, end in chunks_of(lengths):
        some = lengths[start:end]
        asked = positions_of(begins[start:end], some)
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
        pieces.append(lists(lengths_of(reader, end - start), kept.to_struct()))
    target = polars_type(window.dtype)
    return pl.concat([pl.Series([], dtype=target), *(piece.cast(target) for piece in pieces)])


def _counting(spec: WindowSpec) -> WindowSpec:
    return WindowSpec("count", spec.column, spec.column_dtype, None, None, spec.length, spec.hop)
