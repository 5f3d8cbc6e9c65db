"""Feature rows as messages of the topic `features.{group}`: JSON in, JSON out, every value exact.

One message per row, keyed by the entity id: an object with the join keys, `event_timestamp`, the features by column and
`ingested_at`. Timestamps are ISO in UTC with microseconds, infinities the texts "Infinity" and "-Infinity". A message
with the header `kind: retraction` has keys and times alone: the row of that entity and event time is no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import ENTITY_ID
from feature_store.frames import entity_id_expression
from feature_store.rows.forms import forms_of
from feature_store.rows.polars_schema import polars_schema
from feature_store.rows.schema import RowSchema

KIND = "kind"
RETRACTION = b"retraction"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_INFINITIES = {"Infinity": float("inf"), "-Infinity": float("-inf")}


class RowCodec:
    """Writes and reads the rows of one group.

    Args:
        group: The group as it is registered.
    """

    def __init__(self, group: RegisteredGroup) -> None:
        self._group = group
        stored = RowSchema.of(group).stored
        self.schema = polars_schema(stored)
        self._floats = [name for name, dtype in self.schema.items() if dtype.is_float() or isinstance(dtype, pl.Array)]
        # Polars is told the types; here they only have to be JSON of the right kind.
        fields: list[tuple[str, Any, Any]] = [
            (name, forms_of(dtype).message | None, None) for name, dtype in stored.items()
        ]
        self._decoder = msgspec.json.Decoder(list[msgspec.defstruct("Row", fields)])  # type: ignore[misc]

    def encode(self, rows: pl.DataFrame) -> tuple[list[bytes], list[bytes]]:
        """Returns keys and values of the messages of some rows (or retractions: rows without features)."""
        ids = rows.select(entity_id_expression(self._group.entity))[ENTITY_ID]
        times = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
        texts = rows.with_columns(pl.col(times).dt.to_string(_TIME_FORMAT))
        encoder = msgspec.json.Encoder()
        floats = [name for name in self._floats if name in rows.columns and _has_infinity(rows[name])]
        values = []
        for row in texts.iter_rows(named=True):
            for name in floats:
                row[name] = _spelled(row[name])
            values.append(encoder.encode(row))
        return [entity_id.encode() for entity_id in ids], values

    def decode(self, values: Sequence[bytes]) -> pl.DataFrame:
        """Returns the rows of some messages; a feature that an older row lacks is null."""
        rows = self._decoder.decode(b"[" + b",".join(values) + b"]")
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else [()] * len(self.schema)
        return pl.DataFrame(
            [_series(name, column, self.schema[name]) for name, column in zip(self.schema, columns, strict=True)]
        )


def _series(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Datetime):
        return (
            pl.Series(name, values, dtype=pl.String)
            .str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us")
            .dt.replace_time_zone("UTC")
        )
    if dtype.is_float() or isinstance(dtype, pl.Array):
        values = [_read(value) for value in values]
    return pl.Series(name, values, dtype=dtype)


def _has_infinity(series: pl.Series) -> bool:
    flat = series.explode() if series.dtype.is_nested() else series
    return bool(flat.is_infinite().any())


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return next((text for text, infinity in _INFINITIES.items() if value == infinity), value)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    return _INFINITIES[value] if isinstance(value, str) else value
