"""Answers in the making: a column per feature, filled in label by label as rows are read piece by piece.

Values of fixed width go straight to their places, so that an answer is held once. Others are kept as they come and put
in order at the end.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.offline.point_in_time.date_sweep_match import Integers


class AnswerColumn(Protocol):
    """One column of an answer. Several threads may put pieces."""

    def put(self, piece: int, values: pl.Series, labels: Integers) -> None:
        """Takes over some values.

        Args:
            piece: Number of the piece; each is put once.
            values: The values.
            labels: For which label each is.
        """
        ...

    def finished(self, labels: NDArray[np.uint32], is_visible: pl.Series) -> pl.Series:
        """Returns the column; it may not be used any more.

        Args:
            labels: All labels that were put, piece after piece.
            is_visible: Whether each label has a value at all.
        """
        ...


def answer_column(dtype: pl.DataType, count: int) -> AnswerColumn:
    """Returns the column of a dtype for a number of labels, with nothing in it."""
    if dtype in {pl.Float64(), pl.Int64()} or isinstance(dtype, pl.Datetime):
        return _FixedWidthColumn(dtype, count)
    return _AnyColumn(dtype, count)


class _FixedWidthColumn:
    def __init__(self, dtype: pl.DataType, count: int) -> None:
        self._dtype = dtype
        self._values = np.zeros(count, np.float64 if dtype == pl.Float64() else np.int64)
        self._nulls: list[Integers] = []

    def put(self, piece: int, values: pl.Series, labels: Integers) -> None:
        del piece
        if values.null_count():
            self._nulls.append(labels[values.is_null().to_numpy()])
        array = values.rechunk().to_arrow()
        stored = np.frombuffer(array.buffers()[1], self._values.dtype)
        self._values[labels] = stored[array.offset : array.offset + len(array)]

    def finished(self, labels: NDArray[np.uint32], is_visible: pl.Series) -> pl.Series:
        del labels
        is_valid = is_visible.to_numpy(writable=True)
        for nulls in self._nulls:
            is_valid[nulls] = False
        validity = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
        arrow_type = pa.float64() if self._dtype == pl.Float64() else pa.int64()
        buffers = [validity, pa.py_buffer(self._values)]
        return pl.Series(pa.Array.from_buffers(arrow_type, len(self._values), buffers)).cast(self._dtype)


class _AnyColumn:
    def __init__(self, dtype: pl.DataType, count: int) -> None:
        self._dtype = dtype
        self._count = count
        self._pieces: dict[int, pl.Series] = {}

    def put(self, piece: int, values: pl.Series, labels: Integers) -> None:
        del labels
        self._pieces[piece] = values

    def finished(self, labels: NDArray[np.uint32], is_visible: pl.Series) -> pl.Series:
        values = pl.concat(
            [pl.Series([], dtype=self._dtype), *(self._pieces[number] for number in sorted(self._pieces))]
        )
        places = np.zeros(self._count, np.uint32)
        places[labels] = np.arange(len(labels), dtype=np.uint32)
        return values.gather(pl.Series(places).zip_with(is_visible, pl.Series([None], dtype=pl.UInt32)))
