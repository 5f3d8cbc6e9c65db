"""Ranges of positions, looked at one by one: for windows whose values no prefix tells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.windows.views import Ranges

Ints = npt.NDArray[np.int64]

PAIRS_AT_ONCE = 4_000_000
"""Events that are looked at at a time."""


def in_chunks(ranges: Ranges, answer: Callable[[Ints, Ints, int], pl.Series]) -> pl.Series:
    """Returns what is answered for each range from its positions, some ranges at a time."""
    lengths = ranges.ends - ranges.begins
    pieces = []
    for start, end in chunks_of(lengths):
        some = lengths[start:end]
        readers = np.repeat(np.arange(end - start), some)
        pieces.append(answer(readers, positions_of(ranges.begins[start:end], some), end - start))
    return pl.concat(pieces) if pieces else answer(lengths[:0], lengths[:0], 0)


def chunks_of(lengths: Ints) -> list[tuple[int, int]]:
    """Returns spans of ranges that have few enough positions to be looked at together."""
    total = np.cumsum(lengths)
    spans = []
    start = 0
    while start < len(lengths):
        before = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, "right")))
        spans.append((start, end))
        start = end
    return spans


def positions_of(begins: Ints, lengths: Ints) -> Ints:
    """Returns all positions of ranges, one after another."""
    ends = np.cumsum(lengths)
    places: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - lengths), lengths)
    return places


def lengths_of(readers: pl.Series, count: int) -> Ints:
    """Returns how many rows each of `count` readers has."""
    found: Ints = np.bincount(readers.to_numpy(), minlength=count).astype(np.int64)
    return found
