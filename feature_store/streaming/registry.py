"""Values in the frames of a schema registry: Confluent's (a zero byte and a 4-byte id) and Apicurio's (8 bytes)."""

from __future__ import annotations

import base64
import io
import json
import struct
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Literal

from feature_store.errors import DecodingOutageError, DefinitionError
from feature_store.extras import needs_extra

_FRAMES = {"confluent": struct.Struct(">bI"), "apicurio": struct.Struct(">bQ")}
_PATHS = {"confluent": "schemas/ids/{}", "apicurio": "apis/registry/v2/ids/globalIds/{}"}
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class SchemaRegistry:
    """Reads values whose schema lies in a registry: the `decode=` of an `EventStream`.

    Each schema is asked for once. JSON Schema and Avro (with its logical types) are read. While the registry does not
    answer the stream waits, and no message becomes a dead letter for it.

    Attributes:
        url: Where the registry answers, `https://registry.example.com`.
        frame: `confluent` or `apicurio`.
        user: Name to log in with, None for none.
        password: Its password; it is shown nowhere.
        timeout_seconds: How long an answer may take.
    """

    url: str
    frame: Literal["confluent", "apicurio"] = "confluent"
    user: str | None = None
    password: str = field(default="", repr=False)
    timeout_seconds: float = 5.0
    _schemas: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise DefinitionError(
                "The URL of a schema registry is http:// or https:// and a host; name and password are given as user= "
                "and password=."
            )
        if self.frame not in _FRAMES:
            raise DefinitionError(f"frame={self.frame!r}: it is one of {list(_FRAMES)}.")

    def __call__(self, value: bytes) -> Any:
        """Returns what a value holds.

        Raises:
            ValueError: If it has no frame, or a schema that is unknown or not read here.
            DecodingOutageError: If the registry does not answer.
        """
        frame = _FRAMES[self.frame]
        if len(value) < frame.size or value[0] != 0:
            raise ValueError(f"The message does not begin with a zero byte and a {frame.size - 1}-byte schema id.")
        _, number = frame.unpack_from(value)
        schema = self._schemas.get(number)
        if schema is None:
            schema = self._schemas[number] = self._asked_for(number)
        body = value[frame.size :]
        if schema == "JSON":
            return json.loads(body)
        return avro_record(body, schema)

    def _asked_for(self, number: int) -> Any:
        """Returns `JSON`, or a parsed Avro schema."""
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{_PATHS[self.frame].format(number)}")  # noqa: S310
        if self.user is not None:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:  # noqa: S310 - http, see above
                content = answer.read().decode()
                kind = answer.headers.get("X-Registry-ArtifactType", "")
        except urllib.error.HTTPError as error:
            if error.code == _NOT_FOUND:
                raise ValueError(f"Schema id {number} is unknown to the registry at {self.url}.") from None
            told = "rejects the login" if error.code in {401, 403} else f"answers {error.code}"
            raise DecodingOutageError(f"The schema registry at {self.url} {told}.") from None
        except OSError as error:
            raise DecodingOutageError(f"The schema registry at {self.url} does not answer: {error}.") from None
        if self.frame == "confluent":
            told = json.loads(content)
            kind, content = told.get("schemaType", "AVRO"), told["schema"]
        if kind.upper() == "JSON":
            return "JSON"
        if kind.upper() not in {"AVRO", ""}:
            raise ValueError(f"Schema id {number} is of type {kind}: JSON and AVRO are read.")
        with needs_extra("stream", "An Avro payload"):
            from fastavro import parse_schema
        return parse_schema(json.loads(content))


def avro_record(body: bytes, schema: Any) -> Any:
    """Returns the record that some bytes are, all of them.

    Raises:
        ValueError: If they are none.
    """
    from fastavro import schemaless_reader

    reader = io.BytesIO(body)
    try:
        record = schemaless_reader(reader, schema, None)
    except Exception as error:  # noqa: BLE001 - the library raises whatever its parts do
        raise ValueError(f"The Avro record cannot be read: {type(error).__name__}: {error}") from None
    if reader.read(1):
        raise ValueError("The Avro record is longer than its schema.")
    return record
