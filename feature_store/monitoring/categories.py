"""Texts as categories: the commonest by name, all of them by hash, and the bins in which partitions are compared.

The commonest values of two samples are not the same values: where many are about equally common, which of them lead
is chance. So only what is common beyond doubt is a bin of its own; the rest is compared in buckets of its hash, which
count every value and are the same for every sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import polars as pl

BUCKETS = 10
"""Bins for what is not common."""

COMMON = 0.05
"""Share of the baseline from which a category has a bin of its own: at most 20 do, and each of them is among the 50
categories that a partition counts by name, unless its share has changed."""


def bucket(text: str) -> int:
    """Returns the bucket of a text: CRC-32 of its UTF-8 bytes, the same in every process and version."""
    return crc32(text.encode()) % BUCKETS


def bucket_column(texts: pl.Series) -> pl.Series:
    """Returns the bucket of each text, null for null."""
    names = texts.drop_nulls().unique()
    if names.is_empty():
        return pl.repeat(None, len(texts), dtype=pl.UInt8, eager=True)
    buckets = pl.Series(map(bucket, names), dtype=pl.UInt8)
    return texts.replace_strict(names, buckets, return_dtype=pl.UInt8)


def bucket_counts(counted: Mapping[str, int]) -> list[int]:
    """Returns how many values are in each bucket, by the counts of all categories."""
    counts = [0] * BUCKETS
    for name, count in counted.items():
        counts[bucket(name)] += count
    return counts


def common_names(categories: Mapping[str, int], values: int) -> list[str]:
    """Returns the categories that have a bin of their own, of a baseline of so many values."""
    return [name for name, count in categories.items() if count >= COMMON * values]


def category_counts(common: Sequence[str], categories: Mapping[str, int], buckets: Sequence[int]) -> list[float]:
    """Returns counts in the bins of a baseline: its common categories, then the buckets of all others.

    Args:
        common: The baseline's common categories.
        categories: Counts by name. What is not counted by name stays in its bucket.
        buckets: Counts of all values by bucket.
    """
    rest = np.asarray(buckets, dtype=np.float64)
    named = []
    for name in common:
        count = categories.get(name, 0)
        rest[bucket(name)] -= count
        named.append(float(count))
    return [*named, *rest.tolist()]
