"""Folding the tiles of one entity: the values of its windows at an instant, in plain Python."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import WindowSpec
from feature_store.windows.extents import SECOND_MICROS, Extent
from feature_store.windows.states import StateKey, merged, state_of, value_of_state
from feature_store.windows.tile_format import HEADER, header_of
from feature_store.windows.tile_schema import TileSchema


class Tiles(NamedTuple):
    """An entity's tiles, decoded.

    Attributes:
        last_of_tiles: Time of its latest event that is in a tile, microseconds since 1970.
        ingested: When the latest of its rows was ingested, likewise.
        starts: Where the tiles begin, microseconds since 1970, in order.
        states: For each key of the schema the states of the tiles.
        instants: Times and columns of the events that are kept one by one, in order.
    """

    last_of_tiles: int
    ingested: int
    starts: list[int]
    states: list[list[Any]]
    instants: list[tuple[int, dict[str, Any]]]


def decode_tiles(schema: TileSchema, raw: bytes) -> Tiles:
    """Returns the tiles of a value of a schema.

    Raises:
        ValueError: If the bytes are none.
    """
    header = header_of(raw)
    begin = HEADER.size
    end = begin + 8 * header.tiles
    try:
        offsets = struct.unpack_from(f"<{header.tiles}q", raw, begin)
        states, single = msgspec.msgpack.decode(raw[end:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from None
    starts = [(header.base + offset) * SECOND_MICROS for offset in offsets]
    instants = [(time, dict(zip(schema.columns, values, strict=True))) for time, *values in single]
    return Tiles(header.event, header.ingested, starts, states, instants)


class TileFold:
    """Folds windows from tiles of one schema.

    Args:
        schema: What the tiles hold.
        windows: The windows, and the dtypes of their values.
        longest: The longest window of the group.

    Raises:
        LookupError: If the tiles lack what a window is folded from.
    """

    def __init__(self, schema: TileSchema, windows: Sequence[tuple[WindowSpec, Dtype]], longest: Extent) -> None:
        self.schema = schema
        self._windows = windows
        self._places = []
        self._longest = longest
        for spec, _ in windows:
            key = StateKey.of(spec)
            if key not in schema.positions:
                raise LookupError(key)
            self._places.append(schema.positions[key])

    def last_event(self, tiles: Tiles, at: int) -> int | None:
        """Returns when the last event was that a reader has reached; None where the longest window holds none.

        Of events that are in tiles already, readers have reached all.
        """
        tail = self._longest.tails(at)
        for time, _ in reversed(tiles.instants):
            if time <= at:
                return time if time > tail else None
        if not tiles.starts or tiles.starts[-1] < tail:
            return None
        return tiles.last_of_tiles

    def values(self, tiles: Tiles, at: int) -> list[Any]:
        """Returns the value of each window for a reader at an instant (microseconds since 1970).

        Raises:
            InvalidRowsError: If a total is greater than its dtype can hold.
        """
        found = []
        reached = [event for event in tiles.instants if event[0] <= at]
        for (spec, dtype), place in zip(self._windows, self._places, strict=True):
            key = self.schema.keys[place]
            tail = spec.extent.tails(at)
            states = tiles.states[place][bisect_left(tiles.starts, tail) :]
            single = state_of(key, [event for event in reached if event[0] > tail]) if reached else None
            state = merged(key, states if single is None else [*states, single])
            found.append(value_of_state(spec, dtype, state, at))
        return found
