"""Whatever a message holds, it is read right or it is one dead letter whose reason names the thing."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_store.definitions.event_stream import EventStream
from feature_store.streaming.dead_letters import HEAD_BYTES, letter_messages
from feature_store.streaming.decoding import EventDecoder, Payload
from feature_store.streaming.delivery import Delivery
from feature_store.streaming.payloads import KeyReader
from feature_store.transform.bad_events import GONE
from tests.orders import CUSTOMER
from tests.streaming.pipeline import no_files


class Wide(msgspec.Struct):
    customer: str
    event_timestamp: datetime
    amount: int | None = None
    share: float | None = None
    valid_to: datetime | None = None


SOURCE = no_files()
MOST_REASON = 1_100
AVRO = {
    1: {
        "type": "record",
        "name": "Wide",
        "fields": [
            {"name": "customer", "type": "string"},
            {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
}
GOOD = b'{"customer": "c1", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 1}'

times = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.sampled_from(
        [
            *("0001-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+14:00"),
            *("10000-01-01T00:00:00Z", "-0044-03-15T12:00:00Z", "2016-12-31T23:59:60Z", "2024-02-30T00:00:00Z"),
            *(
                "infinity",
                "-infinity",
                "2024-W10-2",
                "2024-065",
                "5784-01-01",
                "令和6年3月5日",
                "2024-03-05T12:00:00+99:99",
            ),
            *("2024-03-05 12:00:00", "2024-03-05T12:00:00.123456789Z", "1709640000", ""),
        ]
    ),
)
numbers = st.one_of(
    st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([10**400, 2**63, -(2**63) - 1, 1e308])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), times)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "customer": st.one_of(st.text(max_size=10), anything),
        "event_timestamp": st.one_of(times, numbers, anything),
        "amount": st.one_of(st.integers(), anything),
        "share": st.one_of(st.floats(), st.integers(), anything),
        "valid_to": st.one_of(times, anything),
        "foreign": anything,
    },
)


def deep(depth: int) -> bytes:
    return GOOD[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


json_values = st.one_of(
    fields.map(lambda event: json.dumps(event).encode()),
    st.tuples(fields, fields).map(
        lambda two: json.dumps(two[0]).encode()[:-1] + b"," + json.dumps(two[1]).encode()[1:]
    ),
    st.fixed_dictionaries(
        {"op": st.sampled_from(["c", "u", "d", "r", "t", None, 1])},
        optional={"before": anything | fields, "after": anything | fields},
    ).map(lambda envelope: json.dumps(envelope).encode()),
)
values = st.one_of(
    st.none(),
    st.binary(max_size=60),
    json_values,
    st.tuples(json_values, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
    st.integers(0, 20_000).map(deep),
    st.tuples(st.integers(0, 3), st.binary(max_size=40)).map(lambda frame: struct.pack(">bI", 0, frame[0]) + frame[1]),
    st.sampled_from(
        [GOOD, b'{"customer": "\\ud800", "event_timestamp": "2024-03-05T12:00:00Z"}', b"\xef\xbb\xbf" + GOOD, GOOD * 2]
    ),
)


def hook(value: bytes) -> object:
    """A user's own decoder, as careless as can be."""
    text = value.decode()
    return {
        "customer": text[0],
        "event_timestamp": datetime.fromtimestamp(int(text[1:]), UTC),
        "amount": 1 // len(text[2:]),
    }


STREAMS = {
    "json": EventStream(SOURCE, Wide, CUSTOMER),
    "epochs": EventStream(SOURCE, Wide, CUSTOMER, epoch="ms"),
    "debezium": EventStream(SOURCE, Wide, CUSTOMER, envelope="debezium", identity=("amount",), epoch="us"),
    "avro": EventStream(SOURCE, Wide, CUSTOMER, payload="avro", avro_schemas=AVRO),
    "hook": EventStream(SOURCE, Wide, CUSTOMER, decode=hook),
}


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=15, deadline=None)
@given(messages=st.lists(values, min_size=1, max_size=6))
@example(messages=[deep(100_000), GOOD])
@example(messages=[b'{"customer": "c", "event_timestamp": ' + b"9" * 5000 + b"}", GOOD])
def test_every_message_is_an_event_or_one_reason(name, messages):
    decoder = EventDecoder(STREAMS[name])
    decoded = decoder.decode([Payload(value) for value in messages])
    assert set(decoded.positions) | set(decoded.rejected) == set(range(len(messages)))
    assert not set(decoded.positions) & set(decoded.rejected)
    assert decoded.events.height == len(decoded.positions)
    for reason in decoded.rejected.values():
        assert reason.strip()
        assert len(reason) < MOST_REASON
        reason.encode()
    # Python can show what is held, and what stands beside a message changes nothing.
    rows = decoded.events.rows()
    for position, value in enumerate(messages):
        alone = decoder.decode([Payload(value)])
        assert alone.rejected.get(0) == decoded.rejected.get(position)
        assert alone.events.rows() == [row for row, at in zip(rows, decoded.positions, strict=True) if at == position]


@settings(max_examples=60, deadline=None)
@given(value=json_values)
def test_what_is_read_is_what_another_reader_reads(value):
    decoded = EventDecoder(STREAMS["json"]).decode([Payload(value)])
    for row in decoded.events.drop(GONE).iter_rows(named=True):
        read = json.loads(value)
        assert row["customer"] == read["customer"]
        for name in ("event_timestamp", "valid_to"):
            if read.get(name) is None:
                assert row[name] is None
                continue
            moment = datetime.fromisoformat(read[name])
            assert row[name] == (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        assert row["amount"] == read.get("amount")
        assert row["share"] == read.get("share")


@settings(max_examples=20, deadline=None)
@given(
    keys=st.lists(st.none() | st.binary(max_size=20) | anything.map(lambda key: json.dumps(key).encode()), max_size=5)
)
def test_a_key_names_an_entity_or_none(keys):
    for key_format in ("id", "json", json.loads):
        found = KeyReader(EventStream(SOURCE, Wide, CUSTOMER, key_format=key_format)).entity_ids(keys)
        assert len(found) == len(keys)
        assert all(isinstance(entity_id, str) for entity_id in found)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(0, 3_000_000), key=st.integers(0, 2_000_000), most=st.sampled_from([1_000, 100_000, 900_000]))
def test_a_letter_fits_and_says_what_was_cut(size, key, most):
    message = Delivery("orders", 2, 7, 0, b"k" * key, b"v" * size, [("trace", b"t" * 50)])
    ((value, name, headers),) = letter_messages([message], {0: "bad"}, "v1", most)
    whole = size + key + sum(len(key) + len(text) for key, text in headers)
    told = dict(headers)
    assert (told["dead-letter.topic"], told["dead-letter.partition"], told["dead-letter.offset"]) == (
        b"orders",
        b"2",
        b"7",
    )
    if "dead-letter.size" not in told:
        assert (value, name) == (message.value, message.key)
        assert whole <= most
        return
    assert int(told["dead-letter.size"]) == size
    assert message.value.startswith(value)
    assert len(value) <= HEAD_BYTES
    assert len(value) + len(name or b"") + sum(len(key) + len(text) for key, text in headers) <= most
