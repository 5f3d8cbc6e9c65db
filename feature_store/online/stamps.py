"""Stamps: the times of the row that an entity's values come from, and which features that row has.

A stamp is text of 54 characters, `{event_timestamp}:{ingested_at}:{fingerprint}`. The times are microseconds since
0001-01-01T00:00:00Z in 18 digits. Counted from the year 1 they are never negative, so that the first 37 characters
compare as text in the order of (event_timestamp, ingested_at), in any locale and without floating point: that
comparison, made inside the server, is "newest wins". The fingerprint is that of the row's schema, in hexadecimal.
What is visible is decided elsewhere.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from feature_store.clock import EARLIEST, EPOCH
from feature_store.online.schemas import FINGERPRINT_BYTES

if TYPE_CHECKING:
    import polars as pl

WIDTH = 18
TIMES_WIDTH = 2 * WIDTH + 1
STAMP_WIDTH = TIMES_WIDTH + 1 + 2 * FINGERPRINT_BYTES


def stamp_expression(event: pl.Expr, ingested: pl.Expr, fingerprint: bytes) -> pl.Expr:
    """Returns the stamps of two integer columns of microseconds since 1970."""
    import polars as pl

    digits = [(micros - EARLIEST).cast(pl.String).str.zfill(WIDTH) for micros in (event, ingested)]
    return pl.concat_str(*digits, pl.lit(fingerprint.hex()), separator=":")


def stamp_times(event: int, ingested: int) -> bytes:
    """Returns the times of a stamp, of microseconds since 1970."""
    return b"%018d:%018d" % (event - EARLIEST, ingested - EARLIEST)


def parse_stamp(raw: bytes) -> tuple[int, int, bytes]:
    """Returns event time and ingestion time of a stamp, in microseconds since 1970, and its schema's fingerprint.

    Raises:
        ValueError: If the bytes are no stamp.
    """
    if len(raw) != STAMP_WIDTH:
        raise ValueError(f"a stamp has {STAMP_WIDTH} bytes, not {len(raw)}")
    times = int(raw[:WIDTH]) + EARLIEST, int(raw[WIDTH + 1 : TIMES_WIDTH]) + EARLIEST
    return *times, bytes.fromhex(raw[TIMES_WIDTH + 1 :].decode("ascii"))


def to_datetime(micros: int) -> datetime:
    """Returns microseconds since 1970 as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=micros)
