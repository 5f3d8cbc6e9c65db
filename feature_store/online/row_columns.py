"""Whole batches of rows in the row layout: Polars columns to bytes and back, no field at a time.

Only who writes, or reads into a frame, imports this; single rows are read by `row_layout`, without NumPy and Polars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from feature_store.catalog import Feature
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import nan_as_null
from feature_store.online.layout import RowAheadError
from feature_store.online.row_format import RowFormat
from feature_store.online.values import text_expression, text_reader
from feature_store.rows.forms import forms_of
from feature_store.rows.polars_schema import polars_type, series_of_values


def encode_rows(row_format: RowFormat, rows: pl.DataFrame) -> list[bytes]:
    """Returns rows as protocol bulk strings.

    Args:
        row_format: Their format.
        rows: `event_timestamp` and `ingested_at` (integers, microseconds since 1970) and the features' columns.
    """
    inner = row_format.array_dtype()
    start, stop = b"$%d\r\n" % inner.itemsize, b"\r\n"
    framed = np.zeros(rows.height, [("start", f"V{len(start)}"), ("row", inner), ("stop", "V2")])
    framed["start"], framed["stop"] = np.void(start), np.void(stop)
    array = framed["row"]
    array["head"] = np.void(row_format.head)
    array["event"] = rows[EVENT_TIMESTAMP].to_numpy()
    array["ingested"] = rows[INGESTED_AT].to_numpy()
    features = row_format.schema.features
    types = rows.schema
    values = rows.select(nan_as_null(pl.col(ref.column), types[ref.column]) for ref, _ in features)
    valid = np.empty((rows.height, len(features)), np.bool_)
    texts = rows.select(
        text_expression(ref.column, dtype).alias(ref.column) for ref, dtype in features if forms_of(dtype).has_text
    )
    ends = np.zeros(rows.height, np.uint32)
    for position, (ref, dtype) in enumerate(features):
        column = values[ref.column]
        valid[:, position] = column.is_not_null().to_numpy()
        if forms_of(dtype).has_text:
            ends = ends + texts[ref.column].str.len_bytes().to_numpy()
            array[f"f{position}"] = ends
        else:
            array[f"f{position}"] = _slots(column, dtype)
    array["bitmap"] = np.packbits(valid, axis=1, bitorder="little")
    if row_format.has_texts:
        joined = texts.select(pl.concat_str(pl.all()).cast(pl.Binary)).to_series()
        sizes = (ends + inner.itemsize).tolist()
        fixed = np.ascontiguousarray(array).view(f"V{inner.itemsize}").tolist()
        return [
            b"$%d\r\n%b%b\r\n" % (size, head, text)
            for size, head, text in zip(sizes, fixed, joined.to_list(), strict=True)
        ]
    encoded: list[bytes] = framed.view(f"V{framed.itemsize}").tolist()
    return encoded


def _slots(column: pl.Series, dtype: Dtype) -> np.ndarray[Any, Any]:
    """Returns a column's slots; zeros where it is null."""
    if dtype.name == "embedding":
        nothing = pl.Series([[0.0] * dtype.dimension], dtype=column.dtype)
        # An element that is null is a NaN in the slot.
        flat = column.zip_with(column.is_not_null(), nothing).explode(empty_as_null=False).fill_null(float("nan"))
        return flat.to_numpy().reshape(-1, dtype.dimension)
    if dtype.name == "bool":
        return column.fill_null(value=False).to_numpy()
    return column.to_physical().fill_null(0).to_numpy()


class RowColumns:
    """Gathers the requested features of rows, schema by schema, into columns.

    Args:
        features: What is asked for.
        ttls: Their times to live, in microseconds.
        height: Number of entities, of which some may have no row.
        now: The store's present, microseconds since 1970.
    """

    def __init__(self, features: Sequence[Feature], ttls: Sequence[int], height: int, now: int) -> None:
        self._features = features
        self._ttls = ttls
        self._height = height
        self._now = now
        self._positions: list[int] = []
        self._columns = [[pl.Series(feature.ref.column, [], polars_type(feature.dtype))] for feature in features]

    def add(self, row_format: RowFormat, rows: Sequence[bytes], positions: Sequence[int]) -> None:
        """Adds rows of one schema.

        Args:
            row_format: Their format.
            rows: The rows.
            positions: Each row's place among the entities.

        Raises:
            RowAheadError: If a row lies ahead of `now`.
            ValueError: If a row is shorter or longer than it says.
            polars.exceptions.ComputeError: If a text is not UTF-8.
        """
        array = _fixed_parts(row_format, rows)
        event = array["event"]
        if (event > self._now).any():
            raise RowAheadError
        valid = np.unpackbits(array["bitmap"], axis=1, bitorder="little").astype(np.bool_)
        for feature, ttl, column in zip(self._features, self._ttls, self._columns, strict=True):
            name, slot = feature.ref.column, row_format.schema.positions.get(feature.ref)
            if slot is None:
                column.append(pl.Series(name, [None] * len(rows), polars_type(feature.dtype)))
                continue
            values = _values(row_format, array, slot, rows).alias(name)
            visible = valid[:, slot] & (event + ttl > self._now)
            if not visible.all():
                nothing = pl.Series(name, [None], values.dtype)
                values = values.zip_with(pl.Series(visible), nothing)
            column.append(values)
        self._positions += positions

    def series(self) -> list[pl.Series]:
        """Returns one series per feature, an element per entity, in order."""
        columns = [pl.concat(parts, rechunk=True) for parts in self._columns]
        if self._positions == list(range(self._height)):
            return columns
        places: list[int | None] = [None] * self._height
        for place, position in enumerate(self._positions):
            places[position] = place
        order = pl.Series(places, dtype=pl.UInt32)
        return [column.gather(order) for column in columns]


def _fixed_parts(row_format: RowFormat, rows: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Returns rows without the bytes of their texts, after a look at their lengths."""
    dtype = row_format.array_dtype()
    size = dtype.itemsize
    sizes = list(map(len, rows))
    last = row_format.text_before(len(row_format.schema.features))
    if min(sizes) >= size:
        array = np.frombuffer(b"".join([row[:size] for row in rows]), dtype)
        expected = [size] * len(rows) if last is None else (array[f"f{last}"].astype(np.int64) + size).tolist()
        if sizes == expected:
            return array
    raise ValueError("a row has another length than its schema says")


def _values(row_format: RowFormat, array: np.ndarray[Any, Any], slot: int, rows: Sequence[bytes]) -> pl.Series:
    """Returns the values in one slot, whatever the bitmap says of them."""
    dtype = row_format.schema.features[slot][1]
    field = np.ascontiguousarray(array[f"f{slot}"])
    if dtype.name in {"timestamp", "date"}:
        return pl.Series(field).cast(polars_type(dtype))
    if dtype.name == "embedding":
        vectors = pl.Series(field, dtype=polars_type(dtype))
        if np.isnan(field).any():
            elements = vectors.to_frame("v").select(pl.col("v").arr.to_list().list.eval(pl.element().fill_nan(None)))
            vectors = elements.to_series().list.to_array(dtype.dimension)
        return vectors
    if forms_of(dtype).has_text:
        before = row_format.text_before(slot)
        begin = np.zeros(len(array), np.int64) if before is None else array[f"f{before}"].astype(np.int64)
        places = pl.DataFrame(
            {"row": pl.Series(rows, dtype=pl.Binary), "begin": begin + array.dtype.itemsize, "size": field - begin}
        )
        texts = places.select(pl.col("row").bin.slice("begin", "size").cast(pl.String)).to_series()
        if dtype.element is None:
            return texts.replace("", None).cast(polars_type(dtype)) if dtype.name == "decimal" else texts
        read = text_reader(dtype)
        return series_of_values("", [read(text.encode()) if text else None for text in texts], dtype)
    return pl.Series(field)
