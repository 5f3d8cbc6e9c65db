"""The value of one message: JSON, Avro, or what a stream's own hook reads."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from feature_store.definitions.event_stream import EventStream
from feature_store.errors import DecodingOutageError
from feature_store.extras import needs_extra
from feature_store.streaming.registry import avro_record

_FRAME = struct.Struct(">bI")


class ValueReader:
    """Reads the values of one stream's messages.

    Args:
        stream: The stream.
        wire: What an event is read as.
    """

    def __init__(self, stream: EventStream, wire: type[msgspec.Struct]) -> None:
        self._stream = stream
        self._wire = wire
        self._one = msgspec.json.Decoder(wire)
        self._any = msgspec.json.Decoder()
        self._avro: dict[int, Any] = {}
        if stream.payload == "avro" and stream.decode is None:
            with needs_extra("stream", "An Avro payload"):
                from fastavro import parse_schema
            self._avro = {version: parse_schema(dict(schema)) for version, schema in stream.avro_schemas.items()}

    @property
    def is_plain_json(self) -> bool:
        """Whether each value is one event as a JSON object."""
        return self._stream.payload == "json" and self._stream.decode is None and self._stream.envelope is None

    def event(self, value: bytes, version: bytes | None) -> msgspec.Struct:
        """Returns the event that a value is.

        Raises:
            Exception: Whatever a hook or a decoder raises where it is none.
        """
        if self._stream.decode is None and self._stream.payload == "json":
            self._check_version(version)
            return self._one.decode(value)
        return msgspec.convert(self.record(value, version), self._wire, from_attributes=True)

    def record(self, value: bytes, version: bytes | None) -> Any:
        """Returns what a value holds, whatever it is.

        Raises:
            Exception: Whatever a hook or a decoder raises.
        """
        if self._stream.decode is not None:
            return self._stream.decode(value)
        if self._stream.payload == "json":
            self._check_version(version)
            return self._any.decode(value)
        return self._avro_record(value)

    def _check_version(self, version: bytes | None) -> None:
        known = self._stream.versions
        told = version.decode("ascii", "replace") if version is not None else str(known[0])
        if told not in map(str, known):
            raise ValueError(f"Schema version {told!r} is unknown, known are {list(known)}.")

    def _avro_record(self, value: bytes) -> Any:
        if len(value) < _FRAME.size or value[0] != 0:
            raise ValueError("The Avro message does not begin with a zero byte and its schema version.")
        _, version = _FRAME.unpack_from(value)
        if version not in self._avro:
            raise ValueError(f"Schema version {version} is unknown, known are {sorted(self._avro)}.")
        return avro_record(value[_FRAME.size :], self._avro[version])


class KeyReader:
    """Reads the keys of one stream's messages: the id of the entity that each names.

    Args:
        stream: A stream that has an entity.
    """

    def __init__(self, stream: EventStream) -> None:
        assert stream.entity is not None
        self._entity = stream.entity
        self._format = stream.key_format
        self._json = msgspec.json.Decoder()

    def entity_ids(self, keys: Sequence[bytes | None]) -> list[str]:
        """Returns the entity id that each key names; text that is the id of none where it names none."""
        if self._format == "id":
            return [(key or b"").decode("utf-8", "replace") for key in keys]
        known: dict[bytes, str] = {}
        return [known.get(key) or known.setdefault(key, self._entity_id(key)) for key in (key or b"" for key in keys)]

    def _entity_id(self, key: bytes) -> str:
        try:
            value = self._json.decode(key) if self._format == "json" else self._format(key)  # type: ignore[operator]
            if isinstance(value, Mapping) and set(value) == {"schema", "payload"}:
                value = value["payload"]
            columns = list(self._entity.join_keys)
            if not isinstance(value, Mapping) and len(columns) == 1:
                value = {columns[0]: value}
            return self._entity.entity_id(**{column: value[column] for column in columns})
        except DecodingOutageError:
            raise
        except Exception:  # noqa: BLE001 - a key is as foreign as a value, and so is what reads it
            return _NO_ENTITY


_NO_ENTITY = "\N{REPLACEMENT CHARACTER}"


def shortened(value: object, limit: int = 200) -> str:
    """Returns a value as text, cut where it is long."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - an integer of too many digits, or what a hook has returned
        text = f"a value of type {type(value).__name__} that cannot be shown"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
