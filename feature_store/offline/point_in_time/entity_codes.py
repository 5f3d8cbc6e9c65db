"""Dense codes of the entities of a label frame: what a sweep computes with instead of join keys.

Any number of keys, texts and integers of the whole range, and as many entities as fit in memory. Codes are exact: a
hash only says where to look. They order as the keys do, so that a file sorted by key is sorted by code, and what is
kept by code is walked through in order.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import polars as pl
from numpy.typing import NDArray

Codes = NDArray[np.int32]
"""Entity codes from 0; -1 for a key that no label has."""

FOREIGN = -1

_SMALL = 1 << 20


class EntityCodes:
    """The distinct keys of a label frame, numbered in their order.

    Args:
        keys: Join keys of labels, one column per key, int64, text or date, without nulls.

    Attributes:
        of_labels: Code of each label's entity.
        count: Number of distinct entities.
    """

    def __init__(self, keys: pl.DataFrame) -> None:
        first, *others = keys.get_columns()
        column, self.of_labels = _column_codes(first)
        self.count = column.count
        self._columns = [column]
        self._pairs: list[_IntCodes] = []
        for series in others:
            column, codes = _column_codes(series)
            pairs = _pair(self.of_labels, codes, column.count)
            combined, self.of_labels = _IntCodes.numbered(pairs)
            self.count = combined.count
            self._columns.append(column)
            self._pairs.append(combined)

    def find(self, keys: pl.DataFrame) -> Codes:
        """Returns the codes of rows' entities, `FOREIGN` where no label has that key or a key is null.

        Args:
            keys: The columns that the codes were made from, in their order and dtypes.
        """
        series = keys.get_columns()
        codes = self._columns[0].find(series[0])
        for other, column, combined in zip(series[1:], self._columns[1:], self._pairs, strict=True):
            others = column.find(other)
            is_known = (codes >= 0) & (others >= 0)
            codes = np.where(is_known, combined.find_numbers(_pair(codes, others, column.count)), FOREIGN)
        for key in series:
            if key.null_count():
                codes[key.is_null().to_numpy()] = FOREIGN
        return codes


def _pair(codes: Codes, others: Codes, others_count: int) -> NDArray[np.int64]:
    return codes.astype(np.int64) * others_count + others


def _column_codes(series: pl.Series) -> tuple[_IntCodes | _TextCodes, Codes]:
    """Returns the codes of a column's distinct values, and the code of each of its values."""
    return _TextCodes.numbered(series) if series.dtype == pl.String() else _IntCodes.numbered(_integers(series))


def _integers(series: pl.Series) -> NDArray[np.int64]:
    """Returns integers, or dates as days since 1970; 0 for null."""
    return series.to_physical().cast(pl.Int64).fill_null(0).to_numpy()


class _IntCodes:
    """Codes of distinct integers."""

    def __init__(self, table: _HashTable) -> None:
        self._table = table
        self.count = table.count

    @classmethod
    def numbered(cls, values: NDArray[np.int64]) -> tuple[_IntCodes, Codes]:
        distinct = np.sort(pl.Series(values).unique().to_numpy())
        codes = cls(_HashTable(_mixed(distinct)))
        return codes, codes.find_numbers(values)

    def find(self, values: pl.Series) -> Codes:
        return self.find_numbers(_integers(values))

    def find_numbers(self, values: NDArray[np.int64]) -> Codes:
        return self._table.find(_mixed(values))


class _TextCodes:
    """Codes of distinct texts.

    Args:
        texts: One text per code.
        table: Their hashes.
        seed: What they were hashed with.
    """

    def __init__(self, texts: pl.Series, table: _HashTable, seed: int) -> None:
        self._texts = texts
        self._table = table
        self._seed = seed
        self.count = table.count

    @classmethod
    def numbered(cls, texts: pl.Series) -> tuple[_TextCodes, Codes]:
        distinct = texts.unique().sort()
        for seed in count():
            hashes = distinct.hash(seed)
            # Should two texts share a hash under one seed, they will not under another.
            if hashes.n_unique() == len(hashes):
                codes = cls(distinct, _HashTable(hashes.to_numpy()), seed)
                return codes, codes._table.find(texts.hash(seed).to_numpy())
        raise AssertionError

    def find(self, texts: pl.Series) -> Codes:
        codes = self._table.find(texts.hash(self._seed).to_numpy())
        differs = self._texts.gather(np.maximum(codes, 0)).ne_missing(texts)
        if differs.any():
            codes[differs.to_numpy()] = FOREIGN
        return codes


class _HashTable:
    """Finds 64-bit hashes among distinct ones, all at once.

    Sorted hashes are spread evenly: the leading bits tell where one stands, give or take a few places.

    Args:
        hashes: Distinct hashes.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        self._numbers = order.astype(np.int32)
        self.count = len(hashes)
        # With more places than hashes, most lookups end where they begin; the table is to stay in the cache.
        bits = max(1, (self.count - 1).bit_length() + (self.count < _SMALL))
        self._shift = np.uint64(64 - bits)
        leading = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._starts = np.searchsorted(self._hashes, leading).clip(max=self.count - 1).astype(np.int32)

    def find(self, hashes: NDArray[np.uint64]) -> Codes:
        """Returns the number of each hash among the distinct ones, `FOREIGN` if it is none of them."""
        # Sorted files repeat a key row after row: look up once per run.
        is_first = np.ones(len(hashes), bool)
        np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
        firsts = np.flatnonzero(is_first)
        runs = hashes[firsts]
        # Indices of 64 bits throughout: with others, numpy converts piece by piece.
        places = self._starts[(runs >> self._shift).view(np.int64)].astype(np.int64)
        found = self._hashes[places]
        short = np.flatnonzero((found < runs) & (places < self.count - 1))
        while len(short):
            advanced, wanted = places[short] + 1, runs[short]
            candidates = self._hashes[advanced]
            places[short] = advanced
            found[short] = candidates
            short = short[(candidates < wanted) & (advanced < self.count - 1)]
        codes = np.where(found == runs, self._numbers[places], np.int32(FOREIGN))
        if len(firsts) == len(hashes):
            return codes
        return np.repeat(codes, np.diff(firsts, append=len(hashes)))


def _mixed(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns distinct, evenly spread hashes of distinct integers (the finalizer of MurmurHash3, a bijection)."""
    mixed = values.view(np.uint64).copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed
