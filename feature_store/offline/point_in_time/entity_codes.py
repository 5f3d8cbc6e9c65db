"""Dense codes of the entities of a label frame: what a sweep computes with instead of join keys.

Any number of keys, texts and integers of the whole range, and as many entities as fit in memory. Codes are exact: a
hash only says where to look.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Codes = NDArray[np.int32]
"""Entity codes from 0; -1 for a key that no label has."""

FOREIGN = -1


class EntityCodes:
    """The distinct keys of a label frame, numbered.

    Args:
        keys: Join keys of labels, one column per key, int64 or text, without nulls.

    Attributes:
        of_labels: Code of each label's entity.
        count: Number of distinct entities.
    """

    def __init__(self, keys: pl.DataFrame) -> None:
        first, *others = keys.get_columns()
        self._columns = [_column_codes(first)]
        self._pairs: list[_IntCodes] = []
        codes, count = self._columns[0].find(first), self._columns[0].count
        for series in others:
            column = _column_codes(series)
            pairs = _pair(codes, column.find(series), column.count)
            combined = _IntCodes(pairs)
            self._columns.append(column)
            self._pairs.append(combined)
            codes, count = combined.find(pairs), combined.count
        self.of_labels = codes
        self.count = count

    def find(self, keys: pl.DataFrame) -> Codes:
        """Returns the codes of rows' entities, `FOREIGN` where no label has that key or a key is null.

        Args:
            keys: The columns that the codes were made from, in their order and dtypes.
        """
        series = keys.get_columns()
        codes = self._columns[0].find(series[0])
        for other, column, combined in zip(series[1:], self._columns[1:], self._pairs, strict=True):
            others = column.find(other)
            codes = np.where((codes >= 0) & (others >= 0), combined.find(_pair(codes, others, column.count)), FOREIGN)
        for key in series:
            if key.null_count():
                codes[key.is_null().to_numpy()] = FOREIGN
        return codes


def _pair(codes: Codes, others: Codes, others_count: int) -> NDArray[np.int64]:
    return codes.astype(np.int64) * others_count + others


def _column_codes(series: pl.Series) -> _IntCodes | _TextCodes:
    return _TextCodes(series) if series.dtype == pl.String() else _IntCodes(series.to_numpy())


class _IntCodes:
    """Codes of distinct integers."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self._table = _HashTable(_mixed(values))
        self.count = self._table.count

    def find(self, values: pl.Series | NDArray[np.int64]) -> Codes:
        if isinstance(values, pl.Series):
            values = values.fill_null(0).to_numpy()
        return self._table.find(_mixed(values))


class _TextCodes:
    """Codes of distinct texts."""

    def __init__(self, texts: pl.Series) -> None:
        self._seed = 0
        while True:
            self._table = _HashTable(self._hashes(texts))
            codes = self._table.find(self._hashes(texts))
            self.count = self._table.count
            any_row = np.empty(self.count, np.int64)
            any_row[codes] = np.arange(texts.len())
            self._texts = texts.gather(any_row)
            if (self._texts.gather(codes) == texts).all():
                break
            self._seed += 1  # two of the texts have one hash: others will have, under another seed

    def find(self, texts: pl.Series) -> Codes:
        codes = self._table.find(self._hashes(texts))
        found = np.flatnonzero(codes >= 0)
        if len(found) < len(codes):
            texts = texts.gather(found)
        differs = (self._texts.gather(codes[found]) != texts).fill_null(value=True)
        if differs.any():
            codes[found[differs.to_numpy()]] = FOREIGN
        return codes

    def _hashes(self, texts: pl.Series) -> NDArray[np.uint64]:
        return texts.hash(self._seed).to_numpy()


class _HashTable:
    """Finds 64-bit hashes among distinct ones, all at once.

    Sorted hashes are spread evenly: the leading bits tell where one stands, give or take a few places.

    Args:
        hashes: Any hashes, repeated ones too.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        ordered = np.sort(hashes)
        is_first = np.ones(len(ordered), bool)
        np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
        self._hashes = ordered[is_first]
        self.count = len(self._hashes)
        bits = max(1, (self.count - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        leading = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._starts = np.searchsorted(self._hashes, leading).clip(max=self.count - 1).astype(np.int32)

    def find(self, hashes: NDArray[np.uint64]) -> Codes:
        """Returns the rank of each hash among the distinct ones, `FOREIGN` if it is none of them."""
        # Sorted files repeat a key row after row: look up once per run.
        is_first = np.ones(len(hashes), bool)
        np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
        firsts = np.flatnonzero(is_first)
        runs = hashes[firsts]
        places = self._starts[runs >> self._shift]
        found = self._hashes[places]
        short = np.flatnonzero((found < runs) & (places < self.count - 1))
        while len(short):
            places[short] += 1
            candidates, wanted = self._hashes[places[short]], runs[short]
            found[short] = candidates
            short = short[(candidates < wanted) & (places[short] < self.count - 1)]
        places[found != runs] = FOREIGN
        if len(firsts) == len(hashes):
            return places
        return np.repeat(places, np.diff(firsts, append=len(hashes)))


def _mixed(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns distinct, evenly spread hashes of distinct integers (the finalizer of MurmurHash3, a bijection)."""
    mixed = values.view(np.uint64).copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed
