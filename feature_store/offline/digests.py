"""Digests of what files hold, by which equal inputs are recognized. Whether a file is sound is not judged here."""

from __future__ import annotations

import hashlib

import polars as pl

from feature_store.definitions.names import INGESTED_AT
from feature_store.offline.footers import file_metadata
from feature_store.offline.layout import PartitionFile

CONTENT = "content"
"""Key of the digest in a file's metadata."""


def content_digest(rows: pl.DataFrame) -> str:
    """Returns a digest of rows, in their order, without `ingested_at`."""
    plain = rows.drop(INGESTED_AT).rechunk().write_ipc(None, compression="uncompressed")
    return hashlib.sha256(plain.getbuffer()).hexdigest()


def content_of(file: PartitionFile, *, with_time: bool) -> str:
    """Returns the digest that a file was written with; of a file that names none, that of its bytes.

    Args:
        file: The file.
        with_time: Whether to add when its pass began.
    """
    metadata = file_metadata(file.path)
    digest = metadata.get(CONTENT)
    if digest is None:
        with file.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    return f"{digest}@{metadata.get(INGESTED_AT)}" if with_time else digest
