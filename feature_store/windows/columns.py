"""Columns of events as arrays that can be folded: numbers as they are, all else by its place in order.

A column that is no number is coded: its distinct values in order (texts by their bytes), and for each event the place
of its own. So extremes, lists and counts of any dtype are those of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_store.definitions.dtypes import Dtype
from feature_store.errors import WindowOverflowError
from feature_store.rows.polars_schema import polars_type

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Column:
    """A column of events without nulls.

    Attributes:
        dtype: What it holds.
        series: Its values.
    """

    dtype: Dtype
    series: pl.Series

    @cached_property
    def coded(self) -> tuple[Array, pl.Series | None]:
        """Numbers that are ordered as the values are, and the values that they are places of; None for numbers."""
        if self.dtype.name in {"float", "int"}:
            return self.series.to_numpy(), None
        distinct = self.series.unique().sort()
        codes = self.series.rank("dense").cast(pl.Int64).to_numpy() - 1
        return codes, distinct

    @cached_property
    def distinct(self) -> tuple[Ints, pl.Series]:
        """The place of each value among the distinct ones, and these, in order."""
        codes, distinct = self.coded
        if distinct is not None:
            return codes, distinct
        return self.series.rank("dense").cast(pl.Int64).to_numpy() - 1, self.series.unique().sort()

    @cached_property
    def floats(self) -> npt.NDArray[np.float64]:
        """The values as floats, for what is approximate."""
        if self.dtype.name == "decimal":
            # By way of Python: its division of integers is rounded once.
            scale = 10**self.dtype.scale
            return np.array([value / scale for value in self.whole.tolist()], dtype=np.float64)
        return self.series.cast(pl.Float64).to_numpy()

    @cached_property
    def whole(self) -> Ints:
        """Integers, and decimals as integers of their last digit.

        Raises:
            WindowOverflowError: If a decimal does not fit into 64 bits.
        """
        if self.dtype.name != "decimal":
            return self.series.to_numpy()
        raw = self.series.cast(pl.Decimal(38, self.dtype.scale)).to_arrow()
        if isinstance(raw, pa.ChunkedArray):
            raw = raw.combine_chunks()
        halves = np.frombuffer(raw.buffers()[1], dtype=np.int64)[2 * raw.offset : 2 * (raw.offset + len(raw))]
        low, high = halves[0::2], halves[1::2]
        if (high != low >> 63).any():
            value = self.series[int(np.flatnonzero(high != low >> 63)[0])]
            raise WindowOverflowError("", [f"the amount {value} does not fit into 64 bits"], "Use a smaller scale=.")
        return low.copy()

    def values(self, numbers: Array, is_there: npt.NDArray[np.bool_] | None = None) -> pl.Series:
        """Returns values from what `coded` makes of them.

        Args:
            numbers: The numbers.
            is_there: Where there is none, the answer is null; None for everywhere.
        """
        _, distinct = self.coded
        if distinct is None:
            found = pl.Series(numbers, dtype=polars_type(self.dtype))
            return found if is_there is None else masked(found, is_there)
        places = pl.Series(numbers if is_there is None else np.where(is_there, numbers, 0), dtype=pl.Int64)
        if distinct.is_empty():
            return pl.repeat(None, len(numbers), dtype=polars_type(self.dtype), eager=True)
        found = distinct.gather(places)
        return found if is_there is None else masked(found, is_there)


def masked(series: pl.Series, is_there: npt.NDArray[np.bool_]) -> pl.Series:
    """Returns a column with nulls where nothing is."""
    if is_there.all():
        return series
    return series.zip_with(pl.Series(is_there), pl.Series([None], dtype=series.dtype))


def decimals(whole: Ints, scale: int) -> pl.Series:
    """Returns decimals of integers of their last digit."""
    halves = np.empty(2 * len(whole), dtype=np.int64)
    halves[0::2], halves[1::2] = whole, whole >> 63
    raw = pa.Array.from_buffers(pa.decimal128(38, scale), len(whole), [None, pa.py_buffer(halves)])
    return pl.Series(raw).cast(pl.Decimal(38, scale))


def lists(lengths: Ints, values: pl.Series) -> pl.Series:
    """Returns lists of these lengths, of values that stand one after another."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    inner = values.rechunk().to_arrow()
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), inner)).cast(pl.List(values.dtype))
