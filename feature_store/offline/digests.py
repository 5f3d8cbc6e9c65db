"""Digests of what files hold, by which equal inputs are recognized. Whether a file is sound is not judged here."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl

from feature_store.definitions.names import INGESTED_AT
from feature_store.offline.footers import metadata_of
from feature_store.offline.layout import PartitionFile
from feature_store.storage.location import storage_of

CONTENT = "content"
"""Key of the digest in a file's metadata."""


def content_digest(rows: pl.DataFrame) -> str:
    """Returns a digest of rows, in their order, without `ingested_at`.

    Equal rows have equal digests, however they were computed: what memory holds behind a null, in the last byte of a
    column of bits, and where it holds a long text, are no part of it.
    """
    values = rows.drop(INGESTED_AT, strict=False)
    digest = hashlib.sha256(str(values.schema).encode())
    nested = [column for column in values if isinstance(column.dtype, pl.List)]
    _add(digest, values.drop(column.name for column in nested))
    for column in nested:
        _add_lists(digest, column)
    return digest.hexdigest()


def _add(digest: Any, values: pl.DataFrame) -> None:
    columns = []
    for column in values:
        if column.null_count():
            columns.append(column.is_null().cast(pl.UInt8).alias(f"{column.name} is null"))
        filled = column.fill_null(_nothing(column.dtype)) if column.null_count() else column
        columns.append(filled.cast(pl.UInt8) if column.dtype == pl.Boolean() else filled)
    frame = pl.DataFrame(columns).rechunk()
    digest.update(frame.write_ipc(None, compression="uncompressed", compat_level=pl.CompatLevel.oldest()).getbuffer())


def _add_lists(digest: Any, column: pl.Series) -> None:
    """Adds how long each list is, and all elements as a table of their own."""
    _add(digest, column.list.len().to_frame())
    elements = column.filter(column.list.len() > 0).explode()
    _add(digest, elements.struct.unnest() if isinstance(elements.dtype, pl.Struct) else elements.to_frame())


def content_of(file: PartitionFile, *, with_time: bool) -> str:
    """Returns the digest that a file was written with; of a file that names none, that of its bytes.

    Args:
        file: The file.
        with_time: Whether to add when its pass began.
    """
    metadata = metadata_of(file)
    digest = metadata.get(CONTENT)
    if digest is None:
        return storage_of(file.path).digest(file.path)
    return f"{digest}@{metadata.get(INGESTED_AT)}" if with_time else digest


def _nothing(dtype: pl.DataType) -> pl.Expr:
    """Returns the value that is digested where a null is."""
    nothing = [0.0] * dtype.size if isinstance(dtype, pl.Array) else 0
    return pl.lit(nothing).cast(dtype)
