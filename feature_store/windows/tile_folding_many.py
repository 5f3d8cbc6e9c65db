"""Folding the tiles of many entities at one instant: their records are joined, and windows are ranges of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.definitions.window_functions import UNITS
from feature_store.windows.exact_sums import ExactSums, sums_of_whole
from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import total_of_whole, user_value
from feature_store.windows.tile_folding import FoldPart, TileFold, scale_of
from feature_store.windows.tile_format import HEADER
from feature_store.windows.tile_parts import headers_of, numpy_form

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class _Joined:
    """The records of some entities, all without a variable part, and a reader's windows in them.

    What is asked of a field is found for all extents and entities together: rows are extents, columns entities.
    """

    def __init__(self, fold: TileFold, arrays: Sequence[Array], counts: Ints, bases: Ints, at: int) -> None:
        self.at = at
        self._arrays = arrays
        self._count = len(counts)
        ends: Ints = np.cumsum(counts)
        first: Ints = ends - counts
        starts = np.concatenate([array["start"] for array in arrays]) + np.repeat(bases, counts)
        self._tiles = len(starts)
        tails = [extent.tails(at) // SECOND_MICROS for extent in fold.extents]
        self._begins = np.concatenate([first + np.add.reduceat(starts < tail, first, dtype=np.int64) for tail in tails])
        self._ends = np.tile(ends, len(tails))
        self._longest = int(counts.max())
        self._memo: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def _field(self, place: int) -> Array | None:
        """Returns the values of a field, None where all are 0."""
        name = f"f{place}"
        forms = [array.dtype[name] for array in self._arrays if name in (array.dtype.names or ())]
        if place < 0 or not forms:
            return None
        if len(self._arrays) == 1:
            return np.ascontiguousarray(self._arrays[0][name])
        return np.concatenate(
            [
                array[name] if name in (array.dtype.names or ()) else np.zeros(len(array), dtype=forms[0])
                for array in self._arrays
            ]
        )

    def _values(self, part: FoldPart) -> Array:
        found = self._field(part.field)
        if found is None:
            return np.zeros(self._tiles, dtype=float if part.spec.column_dtype == "float" else np.int64)
        return found

    def _present(self, part: FoldPart) -> Ints:
        """Returns how many values each record has."""

        def make() -> Ints:
            rows, nulls = self._field(part.rows), self._field(part.nulls)
            if rows is None:
                return np.zeros(self._tiles, dtype=np.int64)
            found = rows.astype(np.int64)
            return found if nulls is None else found - nulls

        found: Ints = self._once(("present", part.rows, part.nulls), make)
        return found

    def _by_extent(self, key: Any, make: Callable[[], Array]) -> Array:
        found: Array = self._once(key, lambda: make().reshape(-1, self._count))
        return found

    def counts(self, part: FoldPart) -> Ints:
        """Returns how many values are in each window."""

        def make() -> Ints:
            before = np.zeros(self._tiles + 1, dtype=np.int64)
            np.cumsum(self._present(part), out=before[1:])
            found: Ints = before[self._ends] - before[self._begins]
            return found

        return self._by_extent(("count", part.rows, part.nulls), make)

    def sums(self, part: FoldPart) -> Array:
        """Returns the exact sums of floats in each window, rounded once."""

        def make() -> Array:
            sums, rests = self._field(part.field), self._field(part.rest)
            if sums is None:
                return np.zeros(len(self._begins))
            width = 1 if rests is None else 2
            both = sums if rests is None else np.stack([sums, rests], axis=1).reshape(-1)
            return ExactSums(both, width * self._longest).over(width * self._begins, width * self._ends)

        return self._by_extent(("sum", part.field), make)

    def whole(self, part: FoldPart) -> list[list[int]]:
        """Returns the sums of integers in each window."""

        def make() -> list[list[int]]:
            column = self._values(part)
            try:
                found = sums_of_whole(column, self._begins, self._ends).tolist()
            except OverflowError:
                pairs = zip(self._begins.tolist(), self._ends.tolist(), strict=True)
                found = [sum(column[begin:end].tolist()) for begin, end in pairs]
            return [found[at : at + self._count] for at in range(0, len(found), self._count)]

        found: list[list[int]] = self._once(("whole", part.field), make)
        return found

    def extremes(self, part: FoldPart) -> Array:
        """Returns the least or greatest values; anything where there is none."""
        greatest = part.spec.function == "maximum"

        def make() -> Array:
            values = self._values(part)
            is_there = self._present(part) > 0
            if values.dtype.kind == "f":
                neutral: Any = -np.inf if greatest else np.inf
            else:
                limits = np.iinfo(values.dtype)
                neutral = limits.min if greatest else limits.max
            masked = values if is_there.all() else np.where(is_there, values, values.dtype.type(neutral))
            # A window may be empty at the end of all.
            padded = np.append(masked, masked.dtype.type(neutral))
            pick = np.maximum if greatest else np.minimum
            found: Array = pick.reduceat(padded, self._bounds())[::2]
            return found

        return self._by_extent(("extreme", part.field, greatest), make)

    def ends(self, part: FoldPart) -> Array:
        """Returns the first or last values, or the times of the last; anything where there is none."""
        first = part.spec.function == "first"

        def make() -> Array:
            values = self._values(part)
            is_there = self._present(part) > 0
            if is_there.all():
                taken: Array = values[np.minimum(self._begins, len(values) - 1) if first else self._ends - 1]
                return taken
            places = np.arange(len(values))
            if first:
                found = np.minimum.reduceat(np.append(np.where(is_there, places, len(values)), 0), self._bounds())[::2]
            else:
                found = np.maximum.reduceat(np.append(np.where(is_there, places, -1), 0), self._bounds())[::2]
            picked: Array = values[np.clip(found, 0, len(values) - 1)]
            return picked

        return self._by_extent(("end", part.field), make)

    def _bounds(self) -> Ints:
        return np.stack([self._begins, self._ends], axis=1).reshape(-1)


def values_of_many(fold: TileFold, raws: Sequence[bytes], at: int) -> tuple[list[Any], list[int]]:
    """Returns the values of each window for entities, and which of these must be folded one by one.

    Args:
        fold: What is folded.
        raws: The values of the entities, at least one, of the fold's schema.
        at: The reader's instant, microseconds since 1970.

    Returns:
        A list for each window, with one value for each entity; anything for those that are left.

    Raises:
        ValueError: If a value is none of the schema.
        WindowOverflowError: If a total is greater than its dtype can hold.
        OverflowError: If a sum is greater than any float.
    """
    size = HEADER.size
    headers = headers_of(raws)
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    left: list[int] = []
    order: list[int] = []
    arrays: list[Array] = []
    forms, of_form = np.unique(headers["fields"], return_inverse=True)
    for number, bits in enumerate(forms.tolist()):
        members = np.flatnonzero(of_form.reshape(-1) == number)
        form = numpy_form(fold.schema, bits)
        tiles = headers["tiles"][members].astype(np.int64)
        plain = (lengths[members] == size + form.itemsize * tiles) & (tiles > 0)
        left += members[~plain].tolist()
        places = members[plain].tolist()
        if places:
            order += places
            arrays.append(np.frombuffer(b"".join([raws[place][size:] for place in places]), dtype=form))
    if not order:
        return [[None] * len(raws) for _ in fold.parts], left
    joined = _Joined(fold, arrays, headers["tiles"][order].astype(np.int64), headers["base"][order], at)
    columns = [_values(part, extent, joined) for part, extent in zip(fold.parts, fold.extent_of, strict=True)]
    if len(arrays) > 1 or left:
        # Back into the order of the entities; what is folded one by one takes any place.
        back = [0] * len(raws)
        for place, entity in enumerate(order):
            back[entity] = place
        pick = itemgetter(*back) if len(back) > 1 else lambda column: [column[0]]
        columns = [list(pick(column)) for column in columns]
    return columns, left


def _values(part: FoldPart, extent: int, joined: _Joined) -> list[Any]:
    counts = joined.counts(part)[extent]
    name = part.spec.function
    if name == "count":
        return counts.tolist()  # type: ignore[no-any-return]
    found: list[Any]
    if part.rest >= 0:
        sums = joined.sums(part)[extent]
        found = (sums / np.maximum(counts, 1) if name == "mean" else sums).tolist()
    elif name == "total":
        found = [total_of_whole(total, part.dtype) for total in joined.whole(part)[extent]]
    elif name == "mean":
        # Python divides integers of any size, and rounds once.
        scale = scale_of(part.spec)
        pairs = zip(joined.whole(part)[extent], counts.tolist(), strict=True)
        found = [total / (count * scale) if count else None for total, count in pairs]
    elif name == "age":
        found = ((joined.at - joined.ends(part)[extent]) / UNITS[part.spec.unit or "seconds"]).tolist()
    else:
        found = (joined.extremes if name in {"minimum", "maximum"} else joined.ends)(part)[extent].tolist()
        if part.dtype.name == "bool":
            found = [bool(value) for value in found]
        elif part.dtype.name not in {"float", "int"}:
            pairs = zip(found, counts.tolist(), strict=True)
            found = [user_value(value, part.dtype) if count else None for value, count in pairs]
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        # Lists and maps are the caller's, who may change them: those are made anew.
        nothing = part.spec.empty(part.dtype)
        is_shared = not isinstance(nothing, list | dict)
        for place in empty:
            found[place] = nothing if is_shared else part.spec.empty(part.dtype)
    return found
