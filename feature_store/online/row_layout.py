"""The row layout: one key per entity and group, which holds the whole row in a compact binary form.

The bytes themselves are `row_format`'s; which rows are written is the writer's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.clock import EARLIEST
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import DecodedRow, EncodedRows, GroupRead, GroupWrite, RowAheadError, Status, foreign
from feature_store.online.resp import bulk
from feature_store.online.row_format import HEAD_BYTES, HEADER_BYTES, MAGIC, RowFormat, row_times
from feature_store.online.schemas import LayoutSchema, Schemas
from feature_store.online.stamps import to_datetime
from feature_store.online.values import text_reader
from feature_store.rows.forms import forms_of
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    import polars as pl

Fields = tuple[Any, ...]
Getter = Callable[[Fields, bytes], Any]

_EVENT, _INGESTED, _BITMAP, _SLOTS = 2, 3, 4, 5
"""Positions in what `RowFormat.fixed` reads."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TIMES = struct.Struct("<qq")
_LENGTH = struct.Struct("<I")

_BROKEN = (struct.error, ValueError, OverflowError)
"""What decoding a row raises that does not hold what its header promises."""


class RowLayout:
    """One key per entity and group."""

    def reading(
        self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas
    ) -> GroupRead:
        """Returns what reads some features of a group."""
        return _RowRead(keys, group, features, schemas)

    def writing(self, keys: KeySpace, group: RegisteredGroup) -> GroupWrite:
        """Returns what writes rows of a group."""
        return _RowWrite(keys, group)


class _RowRead:
    width = 1

    def __init__(self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas) -> None:
        self._group = group.name
        self._schemas = schemas
        self._shape = keys.row(group.name)
        self._prefix, self._suffix = self._shape
        self._nearby = keys.nearby(group.name)
        self._features = features
        visibility = Visibility.of(features)
        self._ttls, self._shortest = visibility.ttls, visibility.shortest
        self._nothing = [None] * len(features)
        # By the first ten bytes of a row. Most rows are of the catalog's own schema.
        own = _RowDecoder(RowFormat.of(LayoutSchema.of(group.features)), features)
        self._decoders = {own.format.head: own}

    def keys(self, entity_id: str) -> list[str]:
        return [self._prefix + entity_id + self._suffix]

    def values(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> Sequence[Any]:
        raw = replies[0]
        if raw is None:
            return self._nothing
        decoder = self._decoders.get(raw[:HEAD_BYTES]) or self._learned(entity_id, raw)
        try:
            fields = decoder.fields(raw)
            event = fields[_EVENT]
            if event <= now < event + self._shortest and fields[_BITMAP] == decoder.complete:
                return decoder.all_values(fields, raw)
            return self._row(decoder, fields, raw, now).values
        except _BROKEN:
            raise self._foreign(entity_id) from None

    def row(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> DecodedRow:
        raw = replies[0]
        if raw is None:
            return DecodedRow(self._nothing, ["missing"] * len(self._features), None, None)
        decoder = self._decoders.get(raw[:HEAD_BYTES]) or self._learned(entity_id, raw)
        try:
            fields = decoder.fields(raw)
            return self._row(decoder, fields, raw, now)
        except _BROKEN:
            raise self._foreign(entity_id) from None

    def columns(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[pl.Series]:
        from polars.exceptions import ComputeError

        from feature_store.online.row_columns import RowColumns

        by_head: dict[bytes, list[int]] = {}
        for position, raw in enumerate(replies):
            if raw is not None:
                by_head.setdefault(raw[:HEAD_BYTES], []).append(position)
        columns = RowColumns(self._features, self._ttls, len(replies), now)
        for head, positions in by_head.items():
            decoder = self._decoders.get(head) or self._learned(entity_ids[positions[0]], head)
            rows = [raw for position in positions if (raw := replies[position]) is not None]
            try:
                columns.add(decoder.format, rows, positions)
            except (ValueError, ComputeError):
                # One of the rows is broken: name it.
                for position in positions:
                    self.row(entity_ids[position], [replies[position]], now)
                raise
        return columns.series()

    def is_ahead(self, replies: Sequence[bytes | None], now: int) -> bool:
        raw = replies[0]
        return raw is not None and _event(raw) > now

    def nearby_key(self, entity_id: str) -> str:
        return self._nearby.of(entity_id)

    def nearby_times(self, raw: bytes) -> list[datetime]:
        return [to_datetime(row_times(row)[1]) for row in _nearby_rows(raw)]

    def nearby(self, entity_id: str, raw: bytes | None, now: int) -> list[bytes | None]:  # noqa: ARG002
        come = [row for row in _nearby_rows(raw or b"") if _event(row) <= now]
        return [max(come, key=row_times, default=None)]

    def _row(self, decoder: _RowDecoder, fields: Fields, raw: bytes, now: int) -> DecodedRow:
        event = fields[_EVENT]
        if event > now:
            raise RowAheadError
        bitmap = int.from_bytes(fields[_BITMAP], "little")
        values: list[Any] = []
        statuses: list[Status] = []
        for slot, getter, ttl in zip(decoder.slots, decoder.getters, self._ttls, strict=True):
            value = None
            status: Status = "missing"
            if slot is not None and getter is not None:
                if event + ttl <= now:
                    status = "expired"
                else:
                    status = "null"
                    if bitmap >> slot & 1:
                        value = getter(fields, raw)
                        status = "present"
            values.append(value)
            statuses.append(status)
        return DecodedRow(values, statuses, event, fields[_INGESTED])

    def _learned(self, entity_id: str, raw: bytes) -> _RowDecoder:
        head = raw[:HEAD_BYTES]
        if len(head) < HEAD_BYTES or not head.startswith(MAGIC):
            raise self._foreign(entity_id)
        schema = self._schemas.get(self._group, head[len(MAGIC) :])
        decoder = self._decoders[head] = _RowDecoder(RowFormat.of(schema), self._features)
        return decoder

    def _foreign(self, entity_id: str) -> OnlineStoreError:
        return foreign(self._shape.of(entity_id), "a row in a format that this version knows", self._group)


def _nearby_rows(raw: bytes) -> list[bytes]:
    """Returns the rows that one value holds, each behind its length."""
    rows = []
    at = 0
    while at < len(raw):
        (size,) = _LENGTH.unpack_from(raw, at)
        rows.append(raw[at + _LENGTH.size : at + _LENGTH.size + size])
        at += _LENGTH.size + size
    return rows


def _event(raw: bytes) -> int:
    # What is shorter than a row lies ahead of nobody; decoding says what is wrong with it.
    return row_times(raw)[0] if len(raw) >= HEADER_BYTES else EARLIEST


class _RowDecoder:
    """Takes the requested features out of rows of one schema.

    Attributes:
        format: The rows' format.
        complete: The bitmap of rows whose values are all present; None where a requested feature is not in the schema.
        slots: Position of each requested feature in the schema, None where it has none.
        getters: For each requested feature what makes its value of the fields and the row.
    """

    def __init__(self, row_format: RowFormat, features: Sequence[Feature]) -> None:
        self.format = row_format
        positions = row_format.schema.positions
        self.slots = [positions.get(feature.ref) for feature in features]
        self.getters = [None if slot is None else _getter(row_format, slot) for slot in self.slots]
        self.complete = None if None in self.slots else row_format.complete
        # Numbers and booleans are what the struct reads: where nothing else is asked for, no feature is touched.
        self._plain = all(slot is not None and _is_plain(row_format.schema.features[slot][1]) for slot in self.slots)
        self._picked = [_SLOTS + slot for slot in self.slots if slot is not None]
        self._in_order = self._picked == list(range(_SLOTS, _SLOTS + len(row_format.schema.features)))
        self._last_text = row_format.text_before(len(row_format.schema.features))

    def fields(self, raw: bytes) -> Fields:
        """Returns the fixed part of a row.

        Raises:
            struct.error: If it is shorter.
            ValueError: If the row is shorter or longer than it says.
        """
        if self._last_text is None:
            return self.format.fixed.unpack(raw)
        fields = self.format.fixed.unpack_from(raw)
        if self.format.fixed.size + fields[_SLOTS + self._last_text] != len(raw):
            raise ValueError("the texts end elsewhere")
        return fields

    def all_values(self, fields: Fields, raw: bytes) -> Sequence[Any]:
        """Returns the values of a row without nulls."""
        if self._in_order and self._plain:
            return fields[_SLOTS:]
        if self._plain:
            return [fields[position] for position in self._picked]
        return [getter(fields, raw) for getter in self.getters if getter is not None]


def _is_plain(dtype: Dtype) -> bool:
    return dtype.name in {"float", "int", "bool"}


def _getter(row_format: RowFormat, slot: int) -> Getter:
    dtype = row_format.schema.features[slot][1]
    place = _SLOTS + slot
    if dtype.name == "timestamp":
        return lambda fields, _: to_datetime(fields[place])
    if dtype.name == "date":
        return lambda fields, _: date.fromordinal(_EPOCH_DAY + fields[place])
    if dtype.name == "embedding":
        vector = struct.Struct(f"<{dtype.dimension}f")
        # A NaN stands for an element that is null: it is the only value that differs from itself.
        return lambda fields, _: [None if x != x else x for x in vector.unpack(fields[place])]  # noqa: PLR0124
    if forms_of(dtype).has_text:
        before = row_format.text_before(slot)
        start = None if before is None else _SLOTS + before
        size = row_format.fixed.size
        read = text_reader(dtype)

        def value(fields: Fields, raw: bytes) -> Any:
            begin = size if start is None else size + fields[start]
            return read(raw[begin : size + fields[place]])

        return value
    return lambda fields, _: fields[place]


class _RowWrite:
    preamble: tuple[str, ...] = ()
    keys_per_row = 1
    arguments_per_row = 2
    rows_per_call = 16
    rows_per_chunk = 4096

    def __init__(self, keys: KeySpace, group: RegisteredGroup) -> None:
        self.script = files("feature_store.online").joinpath("row_newest_wins.lua").read_text("utf-8")
        self.schema = LayoutSchema.of(group.features)
        self._format = RowFormat.of(self.schema)
        self._shape = keys.row(group.name)
        self._longest = Visibility.of(group.features).longest

    def times(self, event: int, ingested: int) -> bytes:
        return _TIMES.pack(event, ingested)

    def recent(self, event: int) -> bytes:
        return _TIMES.pack(event, 0)[:8]

    def keys_of(self, entity_id: str) -> bytes:
        return b"".join(bulk(shape.of(entity_id).encode()) for shape in [self._shape])

    def nothing(self) -> bytes:
        return b"$0\r\n\r\n" * self.arguments_per_row

    def encode(self, rows: pl.DataFrame, now: datetime, expire_after: datetime | None) -> EncodedRows:  # noqa: ARG002
        import polars as pl

        from feature_store.online.expiry import expiry_expression
        from feature_store.online.protocol import bulk_strings, bulk_strings_of_keys
        from feature_store.online.row_columns import encode_rows

        expiry = expiry_expression(pl.col(EVENT_TIMESTAMP) + self._longest, expire_after)
        encoded = rows.select(
            bulk_strings_of_keys(pl.col(ENTITY_ID), [self._shape]).cast(pl.Binary).alias("keys"),
            bulk_strings([expiry]).cast(pl.Binary).alias("expiries"),
        )
        values = encode_rows(self._format, rows)
        arguments = list(map(bytes.__add__, encoded["expiries"].to_list(), values))
        return EncodedRows(encoded["keys"].to_list(), arguments)
