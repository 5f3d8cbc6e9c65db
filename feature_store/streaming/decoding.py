"""From messages to events: typed, one frame per batch; what cannot be read is told one by one, with the reason.

Whatever the bytes are, the outcome is an event or a reason. Nothing that a message holds raises from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import polars as pl

from feature_store.clock import EARLIEST, LATEST, to_micros
from feature_store.definitions.dtypes import FLOAT, TIMESTAMP, Dtype
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.values import value_of
from feature_store.errors import DecodingOutageError
from feature_store.rows.polars_schema import polars_type, series_of_values
from feature_store.streaming.changes_in_messages import Change, read_envelope
from feature_store.streaming.payloads import ValueReader, shortened
from feature_store.transform.bad_events import GONE

VERSION_HEADER = "schema-version"
_INT64 = range(-(2**63), 2**63)
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}


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
        events: One row per event of a good message, in order, with the stream's columns and `_gone`.
        positions: Position of each row's message in the batch.
        rejected: Position of each bad message, and why it is bad.
    """

    events: pl.DataFrame
    positions: list[int]
    rejected: dict[int, str]


class EventDecoder:
    """Reads the messages of one stream.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._dtypes = stream.dtypes
        self._wire = _wire_type(stream)
        self._values = ValueReader(stream, self._wire)
        self._many = msgspec.json.Decoder(list[self._wire])  # type: ignore[name-defined]
        self._scales = {name: _MICROS[unit] for name, unit in stream.epochs.items()}

    def decode(self, payloads: Sequence[Payload]) -> DecodedEvents:
        """Reads messages; bad ones are rejected one by one, the others stay."""
        if self._values.is_plain_json:
            try:
                return self._all_at_once(payloads)
            except Exception:  # noqa: BLE001, S110 - whatever it is, it is found and named message by message
                pass
        rows: list[tuple[Any, ...]] = []
        positions: list[int] = []
        gone: list[bool] = []
        rejected = {}
        for position, payload in enumerate(payloads):
            try:
                changes = self._changes(payload)
                found = [self._row(change.event) for change in changes]
            except DecodingOutageError:
                raise
            except Exception as error:  # noqa: BLE001 - a message is as foreign as can be; so is a hook
                rejected[position] = _reason(error)
            else:
                rows += found
                positions += [position] * len(found)
                gone += [change.is_gone for change in changes]
        return DecodedEvents(self._frame(rows, gone), positions, rejected)

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
        columns = zip(*map(msgspec.structs.astuple, events), strict=True)
        frame = pl.DataFrame(
            [
                self._times(name, values) if dtype == TIMESTAMP else _series(name, values, dtype)
                for (name, dtype), values in zip(self._dtypes.items(), columns, strict=True)
            ]
        )
        return DecodedEvents(frame.with_columns(pl.lit(value=False).alias(GONE)), list(range(len(events))), {})

    def _changes(self, payload: Payload) -> list[Change]:
        if payload.value is None:
            raise ValueError("The message has no value.")
        if self._stream.envelope is None:
            return [Change(self._values.event(payload.value, payload.version))]
        return read_envelope(self._values.record(payload.value, payload.version), self._wire)

    def _row(self, event: msgspec.Struct) -> tuple[Any, ...]:
        """Returns the values of one event as its frame takes them."""
        row: list[Any] = []
        for (name, dtype), value in zip(self._dtypes.items(), msgspec.structs.astuple(event), strict=True):
            if value is not None and dtype == TIMESTAMP:
                row.append(self._micros(name, value))
                continue
            if type(value) is int and value not in _INT64:
                raise ValueError(f"Field {name!r} holds {shortened(value)}: it is no int64.")
            if type(value) is str:
                value.encode()  # a lone surrogate is no text
            if dtype.name in _PLAIN:
                row.append(float(value) if type(value) is int and dtype == FLOAT else value)
                continue
            try:
                row.append(value_of(dtype, value))
            except ValueError as error:
                raise ValueError(f"Field {name!r} is a {dtype}, {shortened(str(error))}.") from None
        return tuple(row)

    def _times(self, name: str, values: Sequence[Any]) -> pl.Series:
        # Aware or naive, each with its own zone: naive is UTC.
        micros = [None if value is None else self._micros(name, value) for value in values]
        return pl.Series(name, micros, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))

    def _micros(self, name: str, value: Any) -> int:
        is_number = isinstance(value, (int, float))
        if is_number and not math.isfinite(value):
            raise ValueError(f"Field {name!r} holds {value}: it is no time.")
        micros = round(value * self._scales[name]) if is_number else to_micros(value)
        first = _EARLIEST_EVENT if name == EVENT_TIMESTAMP else EARLIEST
        if not first <= micros <= LATEST:
            since = f" {self._stream.epochs[name]} since 1970" if is_number else ""
            told = "1900 to 9999" if name == EVENT_TIMESTAMP else "1 to 9999"
            raise ValueError(f"Field {name!r} holds {shortened(str(value))}{since}: no time of the years {told}.")
        return micros

    def _frame(self, rows: Sequence[tuple[Any, ...]], gone: Sequence[bool]) -> pl.DataFrame:
        columns = zip(*rows, strict=True) if rows else [()] * len(self._dtypes)
        series = [
            pl.Series(name, values, dtype=pl.Int64, strict=True).cast(polars_type(dtype))
            if dtype == TIMESTAMP
            else series_of_values(name, values, dtype)
            for (name, dtype), values in zip(self._dtypes.items(), columns, strict=True)
        ]
        return pl.DataFrame([*series, pl.Series(GONE, gone, dtype=pl.Boolean)])


def _series(name: str, values: Sequence[Any], dtype: Dtype) -> pl.Series:
    if dtype.name in _PLAIN:
        return pl.Series(name, values, dtype=polars_type(dtype), strict=True)
    return series_of_values(name, [value_of(dtype, value) for value in values], dtype)


_PLAIN = frozenset({"float", "int", "string", "bool"})

_EARLIEST_EVENT = -2_208_988_800_000_000
"""1900-01-01: an event time before it is a zero or a sentinel, and would pull the look-back out of the calendar."""


def _wire_type(stream: EventStream) -> type[msgspec.Struct]:
    """Returns the type that values are read as: the stream's own, with numbers where times may come as numbers."""
    epochs = stream.epochs
    if not epochs:
        return stream.schema
    fields: list[Any] = []
    for declared in msgspec.structs.fields(stream.schema):
        kind = declared.type | int | float if declared.encode_name in epochs else declared.type
        name = msgspec.field(name=declared.encode_name)
        if declared.default is not msgspec.NODEFAULT:
            name = msgspec.field(default=declared.default, name=declared.encode_name)
        elif declared.default_factory is not msgspec.NODEFAULT:
            name = msgspec.field(default_factory=declared.default_factory, name=declared.encode_name)
        fields.append((declared.name, kind, name))
    return msgspec.defstruct(stream.schema.__name__, fields, kw_only=True)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The message is nested too deeply to be read."
    text = str(error) or type(error).__name__
    if not isinstance(error, (msgspec.MsgspecError, ValueError, OverflowError)):
        text = f"{type(error).__name__}: {text}"
    return shortened(text, 1000)


def encode_events(events: pl.DataFrame) -> list[bytes]:
    """Returns events as JSON, one object each: what `EventDecoder` reads.

    Args:
        events: Columns of text, numbers, booleans and UTC timestamps.
    """
    times = [name for name, dtype in events.schema.items() if isinstance(dtype, pl.Datetime)]
    texts = events.with_columns(pl.col(times).dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"))
    encoder = msgspec.json.Encoder()
    return [encoder.encode(row) for row in texts.iter_rows(named=True)]
