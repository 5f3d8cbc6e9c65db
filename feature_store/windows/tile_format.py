"""The bytes of an entity's tiles; `docs/tile-layout.md` describes them for readers in other languages.

A value is a header, a record of fixed width for each tile, and a variable part in msgpack. Everything is little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC = b"\xf5\x02"
"""First bytes of every value: a byte that no UTF-8 text begins with, and the version of the format."""

HEAD_BYTES = 10
"""Magic and fingerprint."""

HEADER = struct.Struct("<2s8s8sqqqQII")
VERSION_AT = HEAD_BYTES
VERSION_BYTES = 8


class Header(NamedTuple):
    """What a value begins with.

    Attributes:
        magic: `MAGIC`.
        fingerprint: Of the tiles' schema.
        version: Another one each time that the value is set.
        event: Time of the latest event that is in a tile, microseconds since 1970; 0 where there is no tile.
        ingested: When the latest row was ingested or withdrawn that the value was made of, likewise.
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
    base: int
    fields: int
    tiles: int
    instants: int


def header_of(raw: bytes) -> Header:
    """Returns the header of a value.

    Raises:
        ValueError: If the bytes are none.
    """
    if len(raw) < HEADER.size or raw[:2] != MAGIC:
        raise ValueError("these are no tiles of a format that this version knows")
    return Header._make(HEADER.unpack_from(raw))
