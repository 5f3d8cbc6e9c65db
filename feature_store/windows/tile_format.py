"""The bytes of an entity's tiles; `docs/tile-layout.md` describes them for readers in other languages.

A value is a header, a record of fixed width for each tile, and, where it is needed, a variable part in msgpack:
`[states, sums, instants]`. Everything is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import Columns, expansion, state_of
from feature_store.windows.tile_schema import Field, TileSchema

MAGIC = b"\xf5\x02"
"""First bytes of every value: a byte that no UTF-8 text begins with, and the version of the format."""

HEAD_BYTES = 10
"""Magic and fingerprint."""

HEADER_FIELDS = (
    ("magic", "2s"),
    ("fingerprint", "8s"),
    ("version", "8s"),
    ("event", "q"),
    ("ingested", "q"),
    ("written", "q"),
    ("base", "q"),
    ("fields", "Q"),
    ("tiles", "I"),
    ("instants", "I"),
)
HEADER = struct.Struct("<" + "".join(code for _, code in HEADER_FIELDS))
_unpack_header = HEADER.unpack_from


class Header(NamedTuple):
    """What a value begins with.

    Attributes:
        magic: `MAGIC`.
        fingerprint: Of the tiles' schema.
        version: Another one each time that the value is set.
        event: Time of the latest event that is in a tile, microseconds since 1970; 0 where there is no tile.
        ingested: When the latest row was ingested that the value was made of, likewise.
        written: The instant of who wrote it, likewise.
        base: Second since 1970 that starts of tiles are counted from.
        fields: Which fields the records have, bit by bit; the others are 0 in all of them.
        tiles: How many records there are.
        instants: How many events the variable part has.
    """

    magic: bytes
    fingerprint: bytes
    version: bytes
    event: int
    ingested: int
    written: int
    base: int
    fields: int
    tiles: int
    instants: int


class Tiles(NamedTuple):
    """An entity's tiles, decoded.

    Attributes:
        header: The header.
        starts: Where the tiles begin, seconds since 1970, in order.
        fields: For each field of the schema its values, None where they are all 0.
        states: For each key of the schema the states of the tiles.
        sums: What is missing of sums that two floats do not hold: place of the field, of the tile, and floats.
        instants: Times and columns of the events that are kept one by one, in order.
    """

    header: Header
    starts: list[int]
    fields: list[Sequence[Any] | None]
    states: list[list[Any]]
    sums: list[tuple[int, int, list[float]]]
    instants: list[tuple[int, Columns]]


def header_of(raw: bytes) -> Header:
    """Returns the header of a value.

    Raises:
        ValueError: If the bytes are none.
    """
    if len(raw) < HEADER.size or raw[:2] != MAGIC:
        raise ValueError("these are no tiles of a format that this version knows")
    return Header._make(_unpack_header(raw))


def decode_tiles(schema: TileSchema, raw: bytes) -> Tiles:
    """Returns the tiles of a value of a schema.

    Raises:
        ValueError: If the bytes are none.
    """
    header = header_of(raw)
    record, places = schema.record(header.fields)
    begin = HEADER.size
    end = begin + record.size * header.tiles
    fields: list[Sequence[Any] | None] = [None] * len(schema.fields)
    starts: list[int] = []
    try:
        if header.tiles:
            columns = list(zip(*record.iter_unpack(raw[begin:end]), strict=True))
            base = header.base
            starts = [base + offset for offset in columns[0]]
            for place, column in zip(places, columns[1:], strict=True):
                fields[place] = column
            if len(starts) != header.tiles:
                raise ValueError("there are fewer tiles than the header says")
        if len(raw) == end:
            return Tiles(header, starts, fields, [[] for _ in schema.keys], [], [])
        states, sums, single = msgspec.msgpack.decode(raw[end:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from None
    instants: list[tuple[int, Columns]] = [
        (time, dict(zip(schema.columns, values, strict=True))) for time, *values in single
    ]
    return Tiles(header, starts, fields, states, sums, instants)


def variable_part(
    schema: TileSchema,
    states: Sequence[Sequence[Any]],
    sums: Sequence[tuple[int, int, list[float]]],
    instants: Sequence[tuple[int, Columns]],
) -> bytes:
    """Returns the bytes behind the records; none where nothing is to be said."""
    if not schema.keys and not sums and not instants:
        return b""
    single = [[time, *(columns[name] for name in schema.columns)] for time, columns in instants]
    return msgspec.msgpack.encode([states, sums, single])


def with_instants(schema: TileSchema, tiles: Tiles, at: int) -> Tiles:
    """Returns tiles with the events that are kept one by one as tiles of one second, as far as a reader has come.

    Args:
        schema: What the tiles hold.
        tiles: The tiles.
        at: The reader's instant, microseconds since 1970.
    """
    by_time: dict[int, list[tuple[int, Columns]]] = {}
    for event in tiles.instants:
        if event[0] <= at:
            by_time.setdefault(event[0], []).append(event)
    if not by_time:
        return tiles
    count = len(tiles.starts)
    starts = list(tiles.starts)
    fields: list[list[Any]] = [
        [field.zero] * count if column is None else list(column)
        for field, column in zip(schema.fields, tiles.fields, strict=True)
    ]
    states = [list(column) for column in tiles.states]
    sums = list(tiles.sums)
    for time, events in by_time.items():
        for place, value in enumerate(record_of(schema.fields, time, [columns for _, columns in events])):
            if isinstance(value, list):
                sums.append((place, len(starts), value))
                value = 0.0  # noqa: PLW2901
            fields[place].append(value)
        for column, key in zip(states, schema.keys, strict=True):
            column.append(state_of(key, events))
        # The second that ends at the event, or holds it: tails lie on whole seconds.
        starts.append((time - 1) // SECOND_MICROS)
    return Tiles(tiles.header, starts, list(fields), states, sums, tiles.instants)


def record_of(fields: Sequence[Field], time: int, events: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Returns the fields of the events of one instant; a sum of floats is a list of floats."""
    found: list[Any] = []
    for field in fields:
        kind, column, dtype, condition = field
        counted = [event for event in events if condition is None or event[condition]]
        if kind == "rows":
            found.append(len(counted))
            continue
        values = [] if column is None else [event[column] for event in counted if event[column] is not None]
        if kind == "nulls":
            found.append(len(counted) - len(values))
        elif kind == "time":
            found.append(time if (values if column is not None else counted) else 0)
        elif kind == "rest":
            found.append(0.0)
        elif kind == "sum":
            found.append(expansion(values) if dtype == "float" else sum(values))
        else:
            pick = min if kind in {"minimum", "first"} else max
            found.append(pick(values) if values else field.zero)
    return found
