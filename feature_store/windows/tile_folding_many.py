"""Folding the tiles of many entities at one instant: their records are joined, and windows are ranges of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.definitions.window_functions import UNITS
from feature_store.windows.exact_sums import ExactSums, sums_of_whole
from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import total_of_whole, user_value
from feature_store.windows.tile_folding import FoldPart, TileFold, scale_of
from feature_store.windows.tile_format import HEADER, HEADER_FIELDS
from feature_store.windows.tile_parts import numpy_form

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

_HEADER = np.dtype(
    [(name, {"q": "<i8", "Q": "<u8", "I": "<u4"}.get(code, f"S{code[:-1]}")) for name, code in HEADER_FIELDS]
)


class _Joined:
    """The records of some entities of one form, all without a variable part, and the windows of a reader in them."""

    def __init__(self, fold: TileFold, array: Array, counts: Ints, bases: Ints, at: int) -> None:
        self.at = at
        self._schema = fold.schema
        self._array = array
        self.ends: Ints = np.cumsum(counts)
        self._first: Ints = self.ends - counts
        self._starts = array["start"] + np.repeat(bases, counts)
        self._begins: dict[int, Ints] = {}
        self._memo: dict[Any, Any] = {}

    def begins(self, tail: int) -> Ints:
        """Returns where the window with this tail (seconds) begins in the records of each entity."""
        found = self._begins.get(tail)
        if found is None:
            outside = self._starts < tail
            found = self._first + np.add.reduceat(outside, self._first, dtype=np.int64)
            self._begins[tail] = found
        return found

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what is made once for all windows."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def field(self, place: int) -> Array | None:
        """Returns the values of a field, None where all are 0."""
        name = f"f{place}"
        if place < 0 or name not in (self._array.dtype.names or ()):
            return None
        return self.once(("field", place), lambda: np.ascontiguousarray(self._array[name]))  # type: ignore[no-any-return]

    def present(self, part: FoldPart) -> Ints:
        """Returns how many values each record has."""

        def make() -> Ints:
            rows, nulls = self.field(part.rows), self.field(part.nulls)
            if rows is None:
                return np.zeros(len(self._starts), dtype=np.int64)
            found = rows.astype(np.int64)
            return found if nulls is None else found - nulls

        found: Ints = self.once(("present", part.rows, part.nulls), make)
        return found

    def counts(self, part: FoldPart, begins: Ints) -> Ints:
        """Returns how many values are in a window of each entity."""
        before: Ints = self.once(("before", part.rows, part.nulls), lambda: _prefix(self.present(part)))
        return before[self.ends] - before[begins]

    def sums(self, part: FoldPart, begins: Ints) -> Array:
        """Returns the exact sums of floats in a window of each entity, rounded once."""
        sums, rests = self.field(part.field), self.field(part.rest)
        if sums is None:
            return np.zeros(len(begins))
        width = 1 if rests is None else 2

        def make() -> ExactSums:
            both = sums if rests is None else np.stack([sums, rests], axis=1).reshape(-1)
            return ExactSums(both, width * int((self.ends - self._first).max()))

        exact: ExactSums = self.once(("sums", part.field), make)
        return exact.over(width * begins, width * self.ends)

    def extremes(self, part: FoldPart, begins: Ints) -> Array:
        """Returns the least or greatest values; anything where there is none."""
        column = self.field(part.field)
        greatest = part.spec.function == "maximum"

        def make() -> Array:
            values = np.zeros(len(self._starts)) if column is None else column
            if column is None and part.spec.column_dtype != "float":
                values = values.astype(np.int64)
            is_there = self.present(part) > 0
            if values.dtype.kind == "f":
                neutral: Any = -np.inf if greatest else np.inf
            else:
                limits = np.iinfo(values.dtype)
                neutral = limits.min if greatest else limits.max
            masked = values if is_there.all() else np.where(is_there, values, values.dtype.type(neutral))
            # A window may be empty at the end of all.
            return np.append(masked, masked.dtype.type(neutral))

        values: Array = self.once(("extremes", part.field, greatest), make)
        bounds = np.stack([begins, self.ends], axis=1).reshape(-1)
        pick = np.maximum if greatest else np.minimum
        found: Array = pick.reduceat(values, bounds)[::2]
        return found

    def ends_of(self, part: FoldPart, begins: Ints, *, first: bool) -> Array:
        """Returns the first or last values; anything where there is none."""
        is_there = self.present(part) > 0
        column = self.field(part.field)
        if column is None:
            column = np.zeros(len(self._starts), dtype=float if part.spec.column_dtype == "float" else np.int64)
        if is_there.all():
            places = np.minimum(begins, len(column) - 1) if first else self.ends - 1
            return column[places]
        places = np.arange(len(column))
        bounds = np.stack([begins, self.ends], axis=1).reshape(-1)
        if first:
            found = np.minimum.reduceat(np.append(np.where(is_there, places, len(column)), 0), bounds)[::2]
        else:
            found = np.maximum.reduceat(np.append(np.where(is_there, places, -1), 0), bounds)[::2]
        return column[np.clip(found, 0, len(column) - 1)]


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
        InvalidRowsError: If a total is greater than its dtype can hold.
        OverflowError: If a sum is greater than any float.
    """
    size = HEADER.size
    headers = np.frombuffer(b"".join([raw[:size] for raw in raws]), dtype=_HEADER)
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    columns: list[list[Any]] = [[None] * len(raws) for _ in fold.parts]
    left: list[int] = []
    forms, of_form = np.unique(headers["fields"], return_inverse=True)
    for number, bits in enumerate(forms.tolist()):
        members = np.flatnonzero(of_form.reshape(-1) == number)
        form = numpy_form(fold.schema, bits)
        tiles = headers["tiles"][members].astype(np.int64)
        plain = (lengths[members] == size + form.itemsize * tiles) & (tiles > 0)
        left += members[~plain].tolist()
        members, tiles = members[plain], tiles[plain]
        if not len(members):
            continue
        array = np.frombuffer(b"".join([raws[place][size:] for place in members.tolist()]), dtype=form)
        joined = _Joined(fold, array, tiles, headers["base"][members], at)
        places = members.tolist()
        for column, part in zip(columns, fold.parts, strict=True):
            found = _values(part, joined)
            if len(places) == len(raws):
                column[:] = found
            else:
                for place, value in zip(places, found, strict=True):
                    column[place] = value
    return columns, left


def _values(part: FoldPart, joined: _Joined) -> list[Any]:
    begins = joined.begins(part.spec.extent.tails(joined.at) // SECOND_MICROS)
    counts = joined.counts(part, begins)
    name = part.spec.function
    if name == "count":
        return counts.tolist()
    found: list[Any]
    if name == "mean" and part.rest >= 0:
        found = (joined.sums(part, begins) / np.maximum(counts, 1)).tolist()
    elif name == "total" and part.rest >= 0:
        found = joined.sums(part, begins).tolist()
    elif name in {"mean", "total"}:
        found = _of_whole(part, joined, begins, counts)
    elif name == "age":
        last = joined.ends_of(part, begins, first=False)
        found = ((joined.at - last) / UNITS[part.spec.unit or "seconds"]).tolist()
    else:
        of_values = joined.extremes if name in {"minimum", "maximum"} else None
        values = joined.ends_of(part, begins, first=name == "first") if of_values is None else of_values(part, begins)
        found = values.tolist()
        if part.dtype.name == "bool":
            found = [bool(value) for value in found]
        elif part.dtype.name not in {"float", "int"}:
            found = [user_value(v, part.dtype) if n else None for v, n in zip(found, counts.tolist(), strict=True)]
    for place in np.flatnonzero(counts == 0).tolist():
        found[place] = part.spec.empty(part.dtype)
    return found


def _of_whole(part: FoldPart, joined: _Joined, begins: Ints, counts: Ints) -> list[Any]:
    """Returns means or totals of integers, or of decimals."""
    column = joined.field(part.field)
    whole = np.zeros(int(joined.ends[-1]), dtype=np.int64) if column is None else column
    if part.spec.function == "total":
        try:
            totals = sums_of_whole(whole, begins, joined.ends).tolist()
        except OverflowError:
            pairs = zip(begins.tolist(), joined.ends.tolist(), strict=True)
            totals = [sum(whole[begin:end].tolist()) for begin, end in pairs]
        return [total_of_whole(total, part.dtype) for total in totals]
    # The sum of tiles is a mean of as many values as they have.
    scale = scale_of(part.spec)
    if abs(int(whole.max(initial=0))) + abs(int(whole.min(initial=0))) < 2**40 and scale == 1:
        sums = sums_of_whole(whole, begins, joined.ends)
        if (np.abs(sums) < 2**53).all():
            return (sums / np.maximum(counts, 1)).tolist()  # type: ignore[no-any-return]
    pairs = zip(begins.tolist(), joined.ends.tolist(), counts.tolist(), strict=True)
    return [sum(whole[begin:end].tolist()) / (count * scale) if count else None for begin, end, count in pairs]


def _prefix(column: Ints) -> Ints:
    found = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(column, out=found[1:])
    return found
