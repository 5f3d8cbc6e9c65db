"""Records as columns: of events, of tiles that stand, and what both come to in new tiles. For many entities at once.

An event is a record like a tile is: one row, its value as sum, least, greatest, first and last. So tiles are made of
events, and of finer tiles and later events, by one reduction, and the result depends on the set of events alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.windows.exact_sums import ExactSums, sums_of_whole
from feature_store.windows.states import expansion
from feature_store.windows.tile_schema import Field, TileSchema

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

NUMPY = {"I": "<u4", "q": "<i8", "d": "<f8", "i": "<i4", "b": "i1"}
"""Forms of fields as NumPy spells them."""

Extra = dict[tuple[int, int], list[float]]
"""What is missing of sums that two floats do not hold, by the field's place and the record's."""


class TotalOverflowError(Exception):
    """A sum of integers does not fit into 64 bits. It never leaves the building of tiles.

    Attributes:
        record: The record.
        field: The sum.
    """

    def __init__(self, record: int, field: Field) -> None:
        self.record = record
        self.field = field
        super().__init__(f"a total of {field.column!r} does not fit into 64 bits")


@dataclass(slots=True)
class Records:
    """Records of tiles or events.

    Attributes:
        fields: For each field of the schema one value per record.
        extra: What is missing of sums.
    """

    fields: list[Array]
    extra: Extra

    def joined(self, other: Records, count: int) -> Records:
        """Returns these records, of which there are `count`, and others behind them, which have nothing extra."""
        if not count:
            return other
        return Records([np.concatenate(pair) for pair in zip(self.fields, other.fields, strict=True)], self.extra)

    def at(self, places: Ints) -> Records:
        """Returns the records at some places."""
        extra: Extra = {}
        if self.extra:
            moved = {old: new for new, old in enumerate(places.tolist())}
            extra = {(field, moved[old]): more for (field, old), more in self.extra.items() if old in moved}
        return Records([column[places] for column in self.fields], extra)


@dataclass(frozen=True, slots=True)
class EventColumn:
    """A column of events: numbers, 0 where `is_there` says that there is none."""

    values: Array
    is_there: npt.NDArray[np.bool_]

    def at(self, places: Ints) -> EventColumn:
        """Returns the column of the events at some places."""
        return EventColumn(self.values[places], self.is_there[places])


def records_of_events(schema: TileSchema, codes: Ints, times: Ints, columns: Mapping[str, EventColumn]) -> Records:
    """Returns the records of events, sorted by entity and time.

    At one instant, first and last are those by value: the records of an instant hold its values in their order.

    Args:
        schema: What the records hold.
        codes: The entities.
        times: Microseconds since 1970.
        columns: The columns that its fields read.
    """
    same = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    tied = bool(same.any())
    fields: list[Array] = []
    for field in schema.fields:
        counts = np.ones(len(times), dtype=bool)
        if field.condition is not None:
            condition = columns[field.condition]
            counts = condition.is_there & (condition.values != 0)
        kind = field.kind
        if kind == "rows":
            fields.append(counts.astype(np.int64))
            continue
        column = None if field.column is None else columns[field.column]
        if column is not None and kind == "nulls":
            fields.append((counts & ~column.is_there).astype(np.int64))
            continue
        is_there = counts if column is None else counts & column.is_there
        if kind == "rest":
            fields.append(np.zeros(len(times)))
        elif kind == "time":
            fields.append(np.where(is_there, times, 0))
        else:
            assert column is not None
            fields.append(np.where(is_there, column.values, column.values.dtype.type(0)))
    found = Records(fields, {})
    if tied:
        _order_ties(schema, codes, times, found)
    return found


def _order_ties(schema: TileSchema, codes: Ints, times: Ints, records: Records) -> None:
    """Gives the first and last value of each instant to all of it, so that order inside of it does not count."""
    begins = np.flatnonzero(np.concatenate([[True], (codes[1:] != codes[:-1]) | (times[1:] != times[:-1])]))
    lengths = np.diff(np.append(begins, len(times)))
    for place, field in enumerate(schema.fields):
        if field.kind not in {"first", "last"}:
            continue
        is_there = present(schema, records, field) > 0
        greatest = field.kind == "last"
        best = _extremes(records.fields[place], is_there, begins, greatest=greatest)
        records.fields[place] = np.where(is_there, np.repeat(best, lengths), records.fields[place])


def present(schema: TileSchema, records: Records, field: Field) -> Ints:
    """Returns how many values a field's records have."""
    rows = records.fields[schema.positions[Field("rows", None, None, field.condition)]]
    if field.column is None:
        return rows
    return rows - records.fields[schema.positions[Field("nulls", field.column, field.dtype, field.condition)]]


def reduced(schema: TileSchema, records: Records, begins: Ints) -> Records:
    """Returns records of records: each of a range of them, in order of time.

    Args:
        schema: What they hold.
        records: The records.
        begins: Where the ranges begin; each ends where the next begins.

    Raises:
        TotalOverflowError: If a sum of integers does not fit into 64 bits.
        OverflowError: If a sum of floats is greater than any float.
    """
    count = len(records.fields[0]) if records.fields else 0
    if not len(begins):
        return Records([column[:0] for column in records.fields], {})
    if len(begins) == count and not records.extra:
        return records
    ends = np.append(begins[1:], count)
    made = Records([column[:0] for column in records.fields], {})
    for place, field in enumerate(schema.fields):
        if field.kind == "sum" and field.dtype == "float":
            rest = schema.positions[Field("rest", *field[1:])]
            both = _sums(records.fields[place], records.fields[rest], begins, ends, place, records.extra, made.extra)
            made.fields[place], made.fields[rest] = both[0], both[1]
        elif field.kind != "rest":
            made.fields[place] = _reduced_field(schema, records, field, begins, ends)
    return made


def _reduced_field(schema: TileSchema, records: Records, field: Field, begins: Ints, ends: Ints) -> Array:
    """Returns a field of records of records; sums of floats are `_sums`'s."""
    column = records.fields[schema.positions[field]]
    if field.kind in {"rows", "nulls"}:
        return np.add.reduceat(column, begins)
    if field.kind == "sum":
        try:
            return sums_of_whole(column, begins, ends)
        except OverflowError:
            raise TotalOverflowError(_first_too_great(column, begins, ends), field) from None
    is_there = present(schema, records, field) > 0
    if field.kind in {"minimum", "maximum", "time"}:
        return _extremes(column, is_there, begins, greatest=field.kind != "minimum")
    places = np.arange(len(column))
    if field.kind == "last":
        at = np.maximum.reduceat(np.where(is_there, places, -1), begins)
        return np.where(at >= 0, column[np.maximum(at, 0)], column.dtype.type(0))
    at = np.minimum.reduceat(np.where(is_there, places, len(column)), begins)
    return np.where(at < len(column), column[np.minimum(at, len(column) - 1)], column.dtype.type(0))


def _first_too_great(column: Ints, begins: Ints, ends: Ints) -> int:
    for place, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        if not -(2**63) <= sum(column[begin:end].tolist()) < 2**63:
            return place
    raise AssertionError


def _extremes(column: Array, is_there: npt.NDArray[np.bool_], begins: Ints, *, greatest: bool) -> Array:
    pick = np.maximum if greatest else np.minimum
    if is_there.all():
        return pick.reduceat(column, begins)
    if column.dtype.kind == "f":
        neutral = -np.inf if greatest else np.inf
    else:
        limits = np.iinfo(column.dtype)
        neutral = limits.min if greatest else limits.max
    found = pick.reduceat(np.where(is_there, column, column.dtype.type(neutral)), begins)
    any_there = np.add.reduceat(is_there.astype(np.int64), begins) > 0
    return np.where(any_there, found, column.dtype.type(0))


def _sums(
    sums: Array, rests: Array, begins: Ints, ends: Ints, place: int, known: Mapping[tuple[int, int], list[float]],
    extra: Extra,
) -> Array:  # fmt: skip
    """Returns exact sums of floats over ranges, as two rows of floats, largest first; what is left goes to `extra`."""
    found = np.zeros((2, len(begins)))
    found[0], found[1] = sums[begins], rests[begins]
    several = np.flatnonzero(ends - begins > 1)
    if len(several):
        found[:, several] = _expansions(sums, rests, begins[several], ends[several])
        left = np.flatnonzero(np.isnan(found[0]))
        for tile in left.tolist():
            _one_by_one(
                found, tile, [*sums[begins[tile] : ends[tile]], *rests[begins[tile] : ends[tile]]], place, extra
            )
    if known:
        by_tile: dict[int, list[float]] = {}
        for (field, record), more in known.items():
            if field == place:
                tile = int(np.searchsorted(begins, record, "right")) - 1
                by_tile.setdefault(tile, []).extend(more)
        for tile, more in by_tile.items():
            own = [*sums[begins[tile] : ends[tile]], *rests[begins[tile] : ends[tile]], *more]
            extra.pop((place, tile), None)
            _one_by_one(found, tile, own, place, extra)
    return found


def _one_by_one(found: Array, tile: int, values: Sequence[float], place: int, extra: Extra) -> None:
    parts = expansion([float(value) for value in values])
    found[0, tile], found[1, tile] = (*parts[:2], 0.0, 0.0)[:2]
    if len(parts) > 2:  # noqa: PLR2004
        extra[place, tile] = parts[2:]


def _expansions(sums: Array, rests: Array, begins: Ints, ends: Ints) -> Array:
    """Returns sums over ranges as two floats each; NaN where two are not enough."""
    lengths = ends - begins
    if not rests.any() and (lengths == 2).all():  # noqa: PLR2004
        # D. Knuth's TwoSum is exact.
        a, b = sums[begins], sums[begins + 1]
        total = a + b
        back = total - a
        return np.array([total, (a - (total - back)) + (b - back)])
    # Each range: sums, rests, and room for what is taken away again.
    width = 2 * lengths + 2
    bounds = np.concatenate([[0], np.cumsum(width)])
    starts, stops = bounds[:-1], bounds[1:]
    values = np.zeros(int(bounds[-1]))
    inner = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.repeat(begins, lengths) + inner
    values[np.repeat(starts, lengths) + inner] = sums[source]
    values[np.repeat(starts + lengths, lengths) + inner] = rests[source]
    parts = []
    for number in range(3):
        part = ExactSums(values, int(width.max())).over(starts, stops)
        parts.append(part)
        if number < 2:  # noqa: PLR2004
            if not part.any():
                parts += [part] * (2 - number)
                break
            values[stops - 1 - number] = -part
    top, rest, left = parts[:3]
    return np.array([np.where(left != 0, math.nan, top), rest])
