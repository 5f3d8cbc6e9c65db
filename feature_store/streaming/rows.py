"""Feature rows as messages of the topic `features.{group}`: JSON in, JSON out, every value exact.

One message per row, keyed by the entity id: an object with the join keys, `event_timestamp`, the features by column and
`ingested_at`. Timestamps are ISO in UTC with microseconds, dates ISO, decimals texts, maps objects, infinities the
texts "Infinity" and "-Infinity". A message with the header `kind: retraction` has keys and times alone: the row of that
entity and event time is no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.dtypes import TIMESTAMP, Dtype
from feature_store.definitions.names import ENTITY_ID
from feature_store.definitions.values import value_of
from feature_store.frames import entity_id_expression
from feature_store.rows.forms import MAP_VALUE, forms_of
from feature_store.rows.polars_schema import polars_schema, polars_type, python_rows, series_of_values
from feature_store.rows.schema import RowSchema

KIND = "kind"
RETRACTION = b"retraction"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_LONGEST = "2013-01-31T05:00:00.000000Z"
_INFINITIES = {"Infinity": float("inf"), "-Infinity": float("-inf")}


class RowCodec:
    """Writes and reads the rows of one group.

    Args:
        group: The group as it is registered.
    """

    def __init__(self, group: RegisteredGroup) -> None:
        self._group = group
        self._dtypes = RowSchema.of(group).stored
        self.schema = polars_schema(self._dtypes)
        # What a value of its kind is, is decided by what reads it; here they only have to be JSON of the right kind.
        fields: list[tuple[str, Any, Any]] = [
            (name, forms_of(dtype).message | None, None) for name, dtype in self._dtypes.items()
        ]
        self._decoder = msgspec.json.Decoder(list[msgspec.defstruct("Row", fields)])  # type: ignore[misc]

    def encode(self, rows: pl.DataFrame) -> tuple[list[bytes], list[bytes]]:
        """Returns keys and values of the messages of some rows (or retractions: rows without features)."""
        ids = rows.select(entity_id_expression(self._group.entity))[ENTITY_ID]
        spelled = [name for name in rows.columns if _is_spelled(self._dtypes[name], rows[name])]
        times = [name for name in spelled if self._dtypes[name] == TIMESTAMP]
        others = [name for name in spelled if self._dtypes[name] != TIMESTAMP]
        texts = rows.with_columns(pl.col(times).dt.to_string(_TIME_FORMAT))
        encoder = msgspec.json.Encoder()
        values = []
        for row in python_rows(texts, self._dtypes):
            for name in others:
                row[name] = _spelled(row[name])
            values.append(encoder.encode(row))
        return [entity_id.encode() for entity_id in ids], values

    def decode(self, values: Sequence[bytes]) -> pl.DataFrame:
        """Returns the rows of some messages; a feature that an older row lacks is null."""
        rows = self._decoder.decode(b"[" + b",".join(values) + b"]")
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else [()] * len(self.schema)
        return pl.DataFrame(
            [_series(name, column, self._dtypes[name]) for name, column in zip(self._dtypes, columns, strict=True)]
        )


def _series(name: str, values: Sequence[Any], dtype: Dtype) -> pl.Series:
    if dtype == TIMESTAMP:
        return (
            pl.Series(name, values, dtype=pl.String)
            .str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us")
            .dt.replace_time_zone("UTC")
        )
    if dtype.name in {"int", "string", "bool"}:
        return pl.Series(name, values, dtype=polars_type(dtype))
    return series_of_values(name, [value_of(dtype, _read(value, dtype)) for value in values], dtype)


def _is_spelled(dtype: Dtype, values: pl.Series) -> bool:
    """Tells whether values are texts in messages that JSON would spell in another way."""
    if not dtype.holds_floats:
        # Python spells small decimals with an exponent.
        return dtype.scalar == TIMESTAMP or dtype.scalar.name == "decimal"
    flat = values.explode() if values.dtype.is_nested() else values
    flat = flat.struct.field(MAP_VALUE) if isinstance(flat.dtype, pl.Struct) else flat
    return bool(flat.is_infinite().any())


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(len(_LONGEST), "0")
    return next((text for text, infinity in _INFINITIES.items() if value == infinity), value)


def _read(value: Any, dtype: Dtype) -> Any:
    if not dtype.holds_floats:
        return value
    if isinstance(value, list):
        return [_read(item, dtype) for item in value]
    if isinstance(value, dict):
        return {key: _read(item, dtype) for key, item in value.items()}
    return _INFINITIES[value] if isinstance(value, str) else value
