"""Digests of what files hold, by which equal inputs are recognized. Whether a file is sound is not judged here."""

from __future__ import annotations

import hashlib

import polars as pl

from feature_store.definitions.names import INGESTED_AT
from feature_store.offline.footers import metadata_of
from feature_store.offline.layout import PartitionFile
from feature_store.storage.location import file_digest

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
    metadata = metadata_of(file)
    digest = metadata.get(CONTENT)
    if digest is None:
        return file_digest(file.path)
    return f"{digest}@{metadata.get(INGESTED_AT)}" if with_time else digest
