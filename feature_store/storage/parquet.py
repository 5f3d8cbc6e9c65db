"""Parquet files wherever they lie, as Polars scans them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from feature_store.storage.location import storage_of

if TYPE_CHECKING:
    from feature_store.storage.location import Location


def scan_files(files: Location | Sequence[Location], **options: Any) -> pl.LazyFrame:
    """Returns the rows of Parquet files, lazily, without giving their paths a meaning.

    Args:
        files: The files, all in one place: local ones, or objects of one bucket.
        options: Arguments of `polars.scan_parquet`.
    """
    paths = [files] if not isinstance(files, Sequence) else files
    texts = [str(path) for path in paths]
    return pl.scan_parquet(texts, glob=False, hive_partitioning=False, **scan_options(paths), **options)


def scan_options(paths: Iterable[Location]) -> dict[str, Any]:
    """Returns the arguments of a scanner of Polars by which it reaches some files, all in one place."""
    return next((dict(storage_of(path).scan_options(path)) for path in paths), {})
