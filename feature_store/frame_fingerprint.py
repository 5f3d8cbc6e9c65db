"""Fingerprints of frames: equal for equal rows in equal order, whatever computed them.

The serializations of frames at hand do not promise that: they hold the bytes that happen to lie beneath nulls, and
change with their version. What is digested here is documented below and depends on values alone.
"""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl

from feature_store.errors import InvalidRequestError

_LENGTHS = pl.UInt64()


def fingerprint(frame: pl.DataFrame) -> str:
    """Returns a digest (SHA-256, hexadecimal) of a frame's column names, dtypes and values, in order.

    Of each column go in: its name and dtype, which rows are null, and the values that are not: numbers and times as
    little-endian bytes, texts as their lengths and UTF-8, lists as their lengths and elements.

    Raises:
        InvalidRequestError: If a column holds Python objects.
    """
    digest = hashlib.sha256()
    for series in frame:
        if series.dtype == pl.Object():
            raise InvalidRequestError(
                f"Column {series.name!r} holds Python objects, which have no lasting form: cast it to a Polars dtype."
            )
        digest.update(f"{series.name}\0{series.dtype}\0{len(series)}\0".encode())
        _add(digest, series)
    return digest.hexdigest()


def _add(digest: Any, series: pl.Series) -> None:
    digest.update(series.is_null().cast(pl.UInt8).to_numpy().tobytes())
    dtype = series.dtype
    values = series.drop_nulls()
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Decimal | pl.Int128 | pl.UInt128):
        values = values.cast(pl.String)
    elif isinstance(dtype, pl.Array):
        values = values.arr.to_list()
    match values.dtype:
        case pl.Null():
            pass
        case pl.String():
            _add_binary(digest, values.cast(pl.Binary))
        case pl.Binary():
            _add_binary(digest, values)
        case pl.List():
            digest.update(values.list.len().cast(_LENGTHS).to_numpy().tobytes())
            _add(digest, values.filter(values.list.len() > 0).explode())
        case pl.Struct():
            for field in values.struct.fields:
                digest.update(f"{field}\0".encode())
                _add(digest, values.struct.field(field))
        case pl.Boolean():
            digest.update(values.cast(pl.UInt8).to_numpy().tobytes())
        case _:
            digest.update(values.to_physical().to_numpy().tobytes())


def _add_binary(digest: Any, values: pl.Series) -> None:
    digest.update(values.bin.size().cast(_LENGTHS).to_numpy().tobytes())
    digest.update(b"".join(values))
