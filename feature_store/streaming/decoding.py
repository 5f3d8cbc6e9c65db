"""From messages to events: typed, one frame per batch; what cannot be read is told one by one, with the reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import polars as pl

from feature_store.clock import to_micros
from feature_store.definitions.event_stream import EventStream
from feature_store.extras import needs_extra

VERSION_HEADER = "schema-version"
_FRAME = struct.Struct(">bI")
_INT64 = range(-(2**63), 2**63)


class Payload(NamedTuple):
    """What a message carries.

    Attributes:
        value: Its bytes; None for a message without any.
        version: The header `schema-version`; None where there is none.
    """

    value: bytes | None
    version: bytes | None = None


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """A batch of messages, read.

    Attributes:
        events: One row per good message, in order, with the stream's columns.
        positions: Position of each row's message in the batch.
        refused: Position of each bad message, and why it is bad.
    """

    events: pl.DataFrame
    positions: list[int]
    refused: dict[int, str]


class EventDecoder:
    """Reads the messages of one stream.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._columns = stream.columns
        self._one = msgspec.json.Decoder(stream.schema)
        self._many = msgspec.json.Decoder(list[stream.schema])  # type: ignore[name-defined]
        self._avro: dict[int, Any] = {}
        if stream.payload == "avro":
            with needs_extra("stream", "An Avro payload"):
                from fastavro import parse_schema
            self._avro = {version: parse_schema(dict(schema)) for version, schema in stream.avro_schemas.items()}

    def decode(self, payloads: Sequence[Payload]) -> DecodedEvents:
        """Reads messages; bad ones are refused one by one, the others stay."""
        if self._stream.payload == "json":
            try:
                return self._all_at_once(payloads)
            except (msgspec.MsgspecError, TypeError, OverflowError, UnicodeDecodeError):
                pass
        events, positions, refused = [], [], {}
        for position, payload in enumerate(payloads):
            try:
                event = self._event(payload)
                self._check_range(event)
            except (msgspec.MsgspecError, ValueError, OverflowError) as error:
                refused[position] = str(error) or type(error).__name__
            else:
                events.append(event)
                positions.append(position)
        return DecodedEvents(self._frame(events), positions, refused)

    def _all_at_once(self, payloads: Sequence[Payload]) -> DecodedEvents:
        first = self._stream.versions[0]
        if any(payload.version is not None and payload.version != b"%d" % first for payload in payloads):
            raise TypeError("Some are of another version.")
        # A value that is no JSON by itself could make a whole with its neighbours: only objects may stand side by side.
        values = [payload.value.strip() for payload in payloads]  # type: ignore[union-attr]
        if not all(value[:1] == b"{" and value[-1:] == b"}" for value in values):
            raise TypeError("Some are no objects.")
        events = self._many.decode(b"[" + b",".join(values) + b"]")
        if len(events) != len(values):
            raise TypeError("Some hold several objects.")
        return DecodedEvents(self._frame(events), list(range(len(events))), {})

    def _event(self, payload: Payload) -> msgspec.Struct:
        if payload.value is None:
            raise ValueError("The message has no value.")
        known = self._stream.versions
        if self._stream.payload == "json":
            version = payload.version.decode("ascii", "replace") if payload.version is not None else str(known[0])
            if version not in map(str, known):
                raise ValueError(f"Schema version {version!r} is unknown, known are {list(known)}.")
            return self._one.decode(payload.value)
        return self._avro_event(payload.value)

    def _avro_event(self, value: bytes) -> msgspec.Struct:
        from fastavro import schemaless_reader

        if len(value) < _FRAME.size or value[0] != 0:
            raise ValueError("The Avro message does not begin with a zero byte and its schema version.")
        _, version = _FRAME.unpack_from(value)
        if version not in self._avro:
            raise ValueError(f"Schema version {version} is unknown, known are {sorted(self._avro)}.")
        body = io.BytesIO(value[_FRAME.size :])
        try:
            record = schemaless_reader(body, self._avro[version], None)
        except Exception as error:  # noqa: BLE001 - the library raises whatever its parts do
            raise ValueError(f"The Avro record cannot be read: {type(error).__name__}: {error}") from None
        if body.read(1):
            raise ValueError("The Avro record is longer than its schema.")
        return msgspec.convert(record, self._stream.schema)

    def _check_range(self, event: msgspec.Struct) -> None:
        for name, value in zip(self._columns, msgspec.structs.astuple(event), strict=True):
            if type(value) is int and value not in _INT64:
                raise ValueError(f"Field {name!r} holds {value}: it is no int64.")
            if type(value) is str:
                value.encode()  # a lone surrogate is no text

    def _frame(self, events: Sequence[msgspec.Struct]) -> pl.DataFrame:
        rows = zip(*map(msgspec.structs.astuple, events), strict=True) if events else [()] * len(self._columns)
        return pl.DataFrame(
            [_series(name, values, dtype) for (name, dtype), values in zip(self._columns.items(), rows, strict=True)]
        )


def _series(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Datetime):
        # Aware or naive, each with its own zone: naive is UTC.
        micros = [None if value is None else to_micros(value) for value in values]
        return pl.Series(name, micros, dtype=pl.Int64).cast(dtype)
    return pl.Series(name, values, dtype=dtype, strict=True)


def encode_events(events: pl.DataFrame) -> list[bytes]:
    """Returns events as JSON, one object each: what `EventDecoder` reads.

    Args:
        events: Columns of text, numbers, booleans and UTC timestamps.
    """
    times = [name for name, dtype in events.schema.items() if isinstance(dtype, pl.Datetime)]
    texts = events.with_columns(pl.col(times).dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"))
    encoder = msgspec.json.Encoder()
    return [encoder.encode(row) for row in texts.iter_rows(named=True)]
