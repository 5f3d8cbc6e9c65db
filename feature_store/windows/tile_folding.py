"""Folding the tiles of one entity: the values of its windows at an instant, in plain Python."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_functions import UNITS
from feature_store.definitions.window_spec import WindowSpec
from feature_store.windows.extents import SECOND_MICROS, Extent
from feature_store.windows.states import StateKey, merged, total_of_whole, user_value, value_of_state
from feature_store.windows.tile_format import Tiles, with_instants
from feature_store.windows.tile_schema import Field, TileSchema, fields_of

_PLAIN = frozenset({"float", "int"})


class FoldPart(NamedTuple):
    """How one window is folded: from which fields, or from which states."""

    spec: WindowSpec
    dtype: Dtype
    rows: int
    nulls: int
    field: int
    rest: int
    key: StateKey | None
    place: int
    fold: _Fold | None


class TileFold:
    """Folds windows from tiles of one schema.

    Args:
        schema: What the tiles hold.
        windows: The windows, and the dtypes of their values.
        longest: The longest window of the group.

    Attributes:
        parts: How each window is folded.
        extents: The extents that windows have.
        extent_of: For each window the place of its own.

    Raises:
        LookupError: If the tiles lack what a window is folded from.
    """

    def __init__(self, schema: TileSchema, windows: Sequence[tuple[WindowSpec, Dtype]], longest: Extent) -> None:
        self.schema = schema
        self._longest = longest
        self.parts = [_part(schema, spec, dtype) for spec, dtype in windows]
        self.extents = list(dict.fromkeys(spec.extent for spec, _ in windows))
        self.extent_of = [self.extents.index(spec.extent) for spec, _ in windows]

    def last_event(self, tiles: Tiles, at: int) -> int | None:
        """Returns when the last event was that a reader has reached; None where the longest window holds none.

        Of events that are in tiles already, readers have reached all.
        """
        tail = self._longest.tails(at)
        for time, _ in reversed(tiles.instants):
            if time <= at:
                return time if time > tail else None
        if not tiles.starts or tiles.starts[-1] * SECOND_MICROS < tail:
            return None
        return tiles.header.event

    def values(self, tiles: Tiles, at: int) -> list[Any]:
        """Returns the value of each window for a reader at an instant (microseconds since 1970).

        Raises:
            WindowOverflowError: If a total is greater than its dtype can hold.
            OverflowError: If a sum is greater than any float.
        """
        if tiles.instants:
            tiles = with_instants(self.schema, tiles, at)
        starts = tiles.starts
        begins = [bisect_left(starts, extent.tails(at) // SECOND_MICROS) for extent in self.extents]
        found = []
        counted: dict[tuple[int, int, int], int] = {}
        memo: Memo = {}
        fields = tiles.fields
        for part, extent in zip(self.parts, self.extent_of, strict=True):
            begin = begins[extent]
            if part.key is not None:
                state = merged(part.key, tiles.states[part.place][begin:])
                found.append(value_of_state(part.spec, part.dtype, state, at))
                continue
            view = (part.rows, part.nulls, begin)
            count = counted.get(view)
            if count is None:
                rows = fields[part.rows]
                count = 0 if rows is None else sum(rows[begin:])
                if part.nulls >= 0:
                    nulls = fields[part.nulls]
                    count -= 0 if nulls is None else sum(nulls[begin:])
                counted[view] = count
            if part.fold is None:
                found.append(count)
            elif count:
                found.append(part.fold(part, tiles, begin, count, at, memo))
            else:
                found.append(part.spec.empty(part.dtype))
        return found


def _part(schema: TileSchema, spec: WindowSpec, dtype: Dtype) -> FoldPart:
    needed = fields_of(spec)
    positions = schema.positions
    if not needed or not all(field in positions for field in needed):
        key = StateKey.of(spec)
        return FoldPart(spec, dtype, -1, -1, -1, -1, key, schema.key_positions[key], None)
    by_kind: dict[str, Field] = {field.kind: field for field in needed}
    main = [kind for kind in by_kind if kind not in {"rows", "nulls", "rest"}]
    return FoldPart(
        spec,
        dtype,
        positions[by_kind["rows"]],
        positions[by_kind["nulls"]] if "nulls" in by_kind else -1,
        positions[by_kind[main[0]]] if main else -1,
        positions[by_kind["rest"]] if "rest" in by_kind else -1,
        None,
        -1,
        _FOLDS[spec.function],
    )


def _sum(part: FoldPart, tiles: Tiles, begin: int, memo: Memo) -> float:
    known = memo.get((part.field, begin))
    if known is not None:
        return known  # type: ignore[no-any-return]
    sums, rests = tiles.fields[part.field], tiles.fields[part.rest]
    parts: list[float] = [] if sums is None else list(sums[begin:])
    if rests is not None:
        parts += rests[begin:]
    for place, tile, more in tiles.sums:
        if place == part.field and tile >= begin:
            parts += more
    found = memo[part.field, begin] = math.fsum(parts)
    return found


def _whole(part: FoldPart, tiles: Tiles, begin: int) -> int:
    sums = tiles.fields[part.field]
    return 0 if sums is None else sum(sums[begin:])


def _total(part: FoldPart, tiles: Tiles, begin: int, count: int, at: int, memo: Memo) -> Any:
    del count, at
    if part.rest >= 0:
        return _sum(part, tiles, begin, memo)
    return total_of_whole(_whole(part, tiles, begin), part.dtype)


def _mean(part: FoldPart, tiles: Tiles, begin: int, count: int, at: int, memo: Memo) -> Any:
    del at
    if part.rest >= 0:
        return _sum(part, tiles, begin, memo) / count
    return _whole(part, tiles, begin) / (count * scale_of(part.spec))


def scale_of(spec: WindowSpec) -> int:
    """Returns how many units of the last digit of a window's column make one."""
    dtype = Dtype.parse(spec.column_dtype or "float")
    return 10**dtype.scale if dtype.name == "decimal" else 1


def _present(part: FoldPart, tiles: Tiles, memo: Memo) -> Sequence[int] | None:
    """Returns how many values each tile has; None where each has some."""
    key = ("present", part.rows, part.nulls)
    if key not in memo:
        rows = tiles.fields[part.rows]
        nulls = tiles.fields[part.nulls] if part.nulls >= 0 else None
        found = rows or ()
        if nulls is not None:
            found = [a - b for a, b in zip(found, nulls, strict=True)]
        memo[key] = None if all(found) else found
    return memo[key]  # type: ignore[no-any-return]


def _end(part: FoldPart, tiles: Tiles, begin: int, count: int, at: int, memo: Memo) -> Any:
    """Returns the extreme, first or last value: of tiles that have one."""
    del count, at
    values = tiles.fields[part.field]
    if values is None:
        values = [0.0 if part.spec.column_dtype == "float" else 0] * len(tiles.starts)
    present = _present(part, tiles, memo)
    name = part.spec.function
    found: Any
    if name == "last":
        found = values[-1] if present is None else values[_last(present)]
    elif name == "first":
        place = begin if present is None else next(at for at in range(begin, len(present)) if present[at])
        found = values[place]
    else:
        held = values[begin:]
        if present is not None:
            held = [value for value, is_there in zip(held, present[begin:], strict=True) if is_there]
        found = (min if name == "minimum" else max)(held)
    dtype = part.dtype
    if dtype.name in _PLAIN:
        return found
    return bool(found) if dtype.name == "bool" else user_value(found, dtype)


def _age(part: FoldPart, tiles: Tiles, begin: int, count: int, at: int, memo: Memo) -> Any:
    del begin, count
    present = _present(part, tiles, memo)
    times = tiles.fields[part.field]
    place = -1 if present is None else _last(present)
    last = 0 if times is None else times[place]
    return (at - last) / UNITS[part.spec.unit or "seconds"]


def _last(present: Sequence[int]) -> int:
    return next(place for place in range(len(present) - 1, -1, -1) if present[place])


Memo = dict[Any, Any]
"""What several windows of one fold share."""

_Fold = Callable[[FoldPart, Tiles, int, int, int, Memo], Any]
_FOLDS: dict[str, _Fold | None] = {
    "count": None,
    "total": _total,
    "mean": _mean,
    "minimum": _end,
    "maximum": _end,
    "first": _end,
    "last": _end,
    "age": _age,
}
