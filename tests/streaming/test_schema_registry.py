"""Values in a registry's frames, against a registry that answers over HTTP."""

from __future__ import annotations

import io
import json
import struct
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastavro import parse_schema, schemaless_writer

from feature_store.definitions.event_stream import EventStream
from feature_store.errors import DecodingOutageError, DefinitionError
from feature_store.streaming.decoding import EventDecoder, Payload
from feature_store.streaming.registry import SchemaRegistry
from tests.orders import CUSTOMER, START
from tests.streaming.pipeline import Order, no_files

AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "customer", "type": "string"},
        {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": ["null", "long"]},
    ],
}
MOMENT = START + timedelta(microseconds=1)
JSON = json.dumps({"customer": "c1", "event_timestamp": MOMENT.isoformat(), "amount": 3}).encode()


@contextmanager
def registry():
    """Serves an Avro schema as 1, a JSON Schema as 2, a Protobuf one as 3, and notes what was asked for."""
    kinds = {1: ("AVRO", AVRO), 2: ("JSON", {"type": "object"}), 3: ("PROTOBUF", "message")}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            kind, schema = kinds.get(int(self.path.rsplit("/", 1)[1]), (None, None))
            self.send_response(200 if kind else 404)
            content = json.dumps(schema)
            if self.path.startswith("/schemas"):
                content = json.dumps({"schemaType": kind, "schema": content})
            else:
                self.send_header("X-Registry-ArtifactType", kind or "")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def avro() -> bytes:
    body = io.BytesIO()
    schemaless_writer(body, parse_schema(AVRO), {"customer": "c1", "event_timestamp": MOMENT, "amount": 3})
    return body.getvalue()


@pytest.mark.parametrize(("frame", "layout"), [("confluent", ">bI"), ("apicurio", ">bQ")])
def test_values_of_each_kind_are_read_and_each_schema_asked_for_once(frame, layout):
    with registry() as (url, asked):
        reader = SchemaRegistry(url, frame=frame, user="alice", password="s3cret")
        decoder = EventDecoder(EventStream(no_files(), Order, CUSTOMER, decode=reader))
        good = [struct.pack(layout, 0, 1) + avro(), struct.pack(layout, 0, 2) + JSON] * 3
        bad = {
            struct.pack(layout, 0, 3) + b"x": "PROTOBUF",
            struct.pack(layout, 0, 9) + b"x": "id 9 is unknown",
            b"{}": "zero byte",
            struct.pack(layout, 0, 1) + avro() + b"x": "longer",
            struct.pack(layout, 0, 1) + avro()[:-1]: "cannot be read",
        }
        decoded = decoder.decode([Payload(value) for value in [*good, *bad]])
    assert decoded.events.select("customer", "event_timestamp", "amount").unique().rows() == [("c1", MOMENT, 3)]
    assert decoded.positions == list(range(len(good)))
    for position, reason in enumerate(bad.values(), len(good)):
        assert reason in decoded.rejected[position]
    assert len([path for path, _ in asked if path.endswith(("/1", "/2"))]) == 2
    assert {login is not None for _, login in asked} == {True}
    assert "s3cret" not in repr(reader)


def test_a_registry_that_is_away_makes_no_dead_letters():
    with registry() as (url, _):
        pass
    decoder = EventDecoder(EventStream(no_files(), Order, CUSTOMER, decode=SchemaRegistry(url)))
    with pytest.raises(DecodingOutageError, match="does not answer"):
        decoder.decode([Payload(struct.pack(">bI", 0, 1) + avro())])


def test_a_password_in_the_url_is_rejected_and_not_shown():
    with pytest.raises(DefinitionError) as raised:
        SchemaRegistry("https://alice:s3cret@registry")
    assert "s3cret" not in str(raised.value)
