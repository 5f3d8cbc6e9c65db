"""Rows of the offline store and of training sets as Arrow reads them, for who must not trust what has read them before.

No point-in-time engine is known here, nor anything that one is made of.
"""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.storage.location import Location, storage_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROS_PER_DAY = 86_400_000_000
_NEVER = -(2**63)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Observation(NamedTuple):
    """A row of the offline store. Of two, the later in this order wins: event time, ingestion, file, place in it."""

    event: int
    ingested: int
    file: int
    position: int
    number: int
    columns: Mapping[str, Sequence[Any]]

    def value(self, column: str) -> Any:
        """Returns a value; null where the row is older than the feature."""
        values = self.columns.get(column)
        return None if values is None else values[self.number]


def rows_by_entity(
    paths: Sequence[Location], keys: Sequence[str], columns: Collection[str], wanted: Collection[tuple[Any, ...]]
) -> Mapping[tuple[Any, ...], list[Observation]]:
    """Returns the rows of wanted entities in some files, in the order of files; an entity without one has none."""
    found: dict[tuple[Any, ...], list[Observation]] = defaultdict(list)
    for number, path in enumerate(paths):
        for entity, observation in _rows(path, number, keys, columns, wanted):
            found[entity].append(observation)
    return found


def _rows(
    path: Location, number: int, keys: Sequence[str], columns: Collection[str], wanted: Collection[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Observation]]:
    """Yields the rows of a file whose entity is wanted; the file is given its number in the order of files."""
    with storage_of(path).parquet_file(path) as file:
        present = [column for column in columns if column in file.schema_arrow.names]
        table = file.read(columns=[*keys, EVENT_TIMESTAMP, INGESTED_AT, *present], use_threads=False)
    key_type = table.schema.field(keys[0]).type
    first_keys = pa.array([entity[0] for entity in wanted])
    if pa.types.is_date(key_type):  # as times, dates are microseconds here
        first_keys = pc.divide(first_keys, MICROS_PER_DAY).cast(pa.int32())
    first_keys = first_keys.cast(key_type)
    rows = pc.indices_nonzero(pc.is_in(table.column(keys[0]), value_set=first_keys))
    table = table.take(rows)
    events = micros_of(table.column(EVENT_TIMESTAMP))
    ingested = [_NEVER if time is None else time for time in micros_of(table.column(INGESTED_AT))]
    values = {column: plain(table.column(column)) for column in present}
    entities = zip(*(plain(table.column(key)) for key in keys), strict=True)
    for row, (entity, position) in enumerate(zip(entities, rows.to_pylist(), strict=True)):
        # A row without a time is visible to nobody.
        if entity in wanted and events[row] is not None:
            yield entity, Observation(events[row], ingested[row], number, position, row, values)


def plain(column: Any) -> list[Any]:
    """Returns a column as Python values: times in microseconds, NaN as null, as the store knows it."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return micros_of(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_nested(column.type):
        values = list(map(_inner_micros, values))
    return [None if _holds_nan(value) else value for value in values]


def _holds_nan(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_nan, value))
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    return isinstance(value, float) and math.isnan(value)


def _inner_micros(value: Any) -> Any:
    """Returns a value with the times inside of it in microseconds."""
    if isinstance(value, list):
        return list(map(_inner_micros, value))
    if isinstance(value, dict):
        return {key: _inner_micros(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return (value - _EPOCH.date()).days * MICROS_PER_DAY if isinstance(value, date) else value


def default_of(feature: Mapping[str, Any]) -> Any:
    """Returns what a feature of a manifest declares in place of null, as Arrow would read it from the set."""
    if feature.get("default") is None:
        return None
    dtype, value = feature["dtype"], json.loads(feature["default"])
    if dtype.startswith("map["):
        return [{"key": key, "value": _scalar(dtype[4:-1], item)} for key, item in value.items()]
    if dtype.startswith("list["):
        return [_scalar(dtype[5:-1], item) for item in value]
    return _scalar(dtype, value)


def _scalar(dtype: str, value: Any) -> Any:
    if dtype == "float":
        return float(value)
    if dtype in {"timestamp", "date"}:
        moment = datetime.fromisoformat(value)
        return (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    return Decimal(value) if dtype.startswith("decimal[") else value


def micros_of(column: Any) -> list[Any]:
    """Returns times as microseconds since 1970 (UTC); what is finer is cut off."""
    if pa.types.is_date(column.type):
        return [
            None if day is None else day * MICROS_PER_DAY
            for day in column.cast(pa.date32()).cast(pa.int32()).to_pylist()
        ]
    per_second = _PER_SECOND[column.type.unit]
    ticks = column.cast(pa.int64()).to_pylist()
    return [None if tick is None else tick * 1_000_000 // per_second for tick in ticks]


def bits(value: Any) -> Any:
    """Returns what two values have in common if and only if they are the same to the bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list):
        return tuple(bits(element) for element in value)
    if isinstance(value, dict):
        return tuple((key, bits(item)) for key, item in value.items())
    return type(value), value


def date_of(path: str) -> date:
    """Returns the date of a file's folder, of its path below the root."""
    return date.fromisoformat(path.split("/")[1].removeprefix("date="))


def date_of_micros(micros: int) -> date:
    """Returns the UTC day of a time, or the nearest of the calendar."""
    return date(1970, 1, 1) + timedelta(days=min(max(micros // MICROS_PER_DAY, -719_162), 2_932_896))


def moment(micros: int) -> datetime:
    """Returns a time as people read it (UTC)."""
    return _EPOCH + timedelta(microseconds=micros)
