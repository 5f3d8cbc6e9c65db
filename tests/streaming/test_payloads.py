"""Events and rows as bytes: typed, exact, and refused one by one."""

from __future__ import annotations

import io
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec
import polars as pl
import pytest
from fastavro import parse_schema, schemaless_writer

from feature_store.catalog import Catalog
from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import Embedding, FeatureSchema, Timestamp, feature
from feature_store.streaming.decoding import EventDecoder, Payload, encode_events
from feature_store.streaming.rows import RowCodec
from feature_store.transform.bad_events import GONE
from tests.orders import CUSTOMER, START
from tests.streaming.pipeline import Order, no_files, order_stream, random_orders

FIELDS = [
    {"name": "customer", "type": "string"},
    {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "amount", "type": ["null", "long"]},
]
AVRO = {
    3: {"type": "record", "name": "Order", "fields": FIELDS},
    4: {"type": "record", "name": "Order", "fields": [*FIELDS, {"name": "order_id", "type": "long"}]},
    5: {"type": "record", "name": "Order", "fields": [*FIELDS[:2], {"name": "amount", "type": "string"}]},
}


def avro(version: int, **record: object) -> bytes:
    body = io.BytesIO()
    schemaless_writer(body, parse_schema(AVRO[version]), record)
    return struct.pack(">bI", 0, version) + body.getvalue()


def test_json_reads_back_what_was_written():
    events = random_orders(200, customers=5)
    decoded = EventDecoder(order_stream(no_files())).decode([Payload(value) for value in encode_events(events)])
    assert decoded.events.drop(GONE).equals(events)
    assert decoded.rejected == {}


def test_times_of_any_zone_become_utc_and_naive_ones_are_utc():
    texts = ["2024-03-05T12:00:00", "2024-03-05T12:00:00Z", "2024-03-05T14:00:00+02:00"]
    values = [b'{"customer": "c", "event_timestamp": "%s", "amount": null, "later": [1]}' % t.encode() for t in texts]
    decoded = EventDecoder(order_stream(no_files())).decode(list(map(Payload, values)))
    assert decoded.events["event_timestamp"].unique().to_list() == [datetime(2024, 3, 5, 12, tzinfo=UTC)]


def test_a_value_that_is_whole_only_beside_its_neighbours_is_refused():
    values = [b'{"customer": "c", "event_timestamp": "2024-03-05T12:00:00Z", "amount": 1}'] * 2
    split = [b'{"customer": "c", "event_timestamp"', b': "2024-03-05T12:00:00Z", "amount": 1}']
    decoded = EventDecoder(order_stream(no_files())).decode(
        [Payload(value) for value in [values[0], *split, values[1]]]
    )
    assert decoded.positions == [0, 3]
    assert sorted(decoded.rejected) == [1, 2]


def test_avro_of_several_versions():
    stream = EventStream(no_files(), Order, CUSTOMER, payload="avro", avro_schemas=AVRO)
    when = START + timedelta(microseconds=1)
    good = [
        avro(3, customer="c1", event_timestamp=when, amount=None),
        avro(4, customer="c2", event_timestamp=when, amount=2**62, order_id=7),
    ]
    bad = {
        avro(5, customer="c1", event_timestamp=when, amount="ten"): "$.amount",
        struct.pack(">bI", 0, 9) + b"x": "version 9 is unknown",
        b"{}": "zero byte",
        good[0] + b"more": "longer",
        good[0][:-3]: "cannot be read",
    }
    decoded = EventDecoder(stream).decode([Payload(value) for value in [*good, *bad]])
    assert decoded.events.drop(GONE).rows() == [("c1", when, None, 0), ("c2", when, 2**62, 7)]
    for position, reason in enumerate(bad.values(), start=2):
        assert reason in decoded.rejected[position]


class Everything(FeatureSchema):
    number: float = feature("A float")
    count: int = feature("An int")
    text: str = feature("A text")
    flag: bool = feature("A bool")
    moment: Timestamp = feature("A time")
    profile: Embedding = feature("An embedding", dimension=3)


def test_rows_survive_the_topic_bit_for_bit():
    @feature_group(entity=CUSTOMER, source=no_files(), schema=Everything, owner="team@example.com")
    def everything(events: pl.LazyFrame) -> pl.LazyFrame:
        """All dtypes."""
        return events

    group = Catalog.of([everything]).group("everything")
    codec = RowCodec(group)
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), None]
    rows = pl.DataFrame(
        {
            "customer": ['a|b\\"', "", "é", "d", "e", "f", "g"],
            "event_timestamp": [START + timedelta(microseconds=n) for n in range(7)],
            "number": numbers,
            "count": [2**63 - 1, -(2**63), 0, None, 1, 2, 3],
            "text": ["\x00", "\u2028", "null", "", None, "a", "b"],
            "flag": [True, False, None] * 2 + [True],
            "moment": [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC), None] + [START] * 4,
            "profile": [[0.1, None, float("inf")], [1.0, 2.0, 3.0], None] + [[-0.0, 1e-45, 3e38]] * 4,
            "ingested_at": [START] * 7,
        },
        schema=codec.schema,
    )
    keys, values = codec.encode(rows)
    assert keys[0] == b'a|b\\"'
    found = codec.decode(values)
    assert found.schema == rows.schema
    assert list(map(repr, found.rows())) == list(map(repr, rows.rows()))
    assert codec.decode([]).schema == rows.schema
    assert codec.decode([b'{"customer": "x"}'])["number"].to_list() == [None]
    with pytest.raises(msgspec.ValidationError):
        codec.decode([b'{"count": "many"}'])


class Basket(msgspec.Struct):
    customer: str
    event_timestamp: datetime
    day: date
    paid: Decimal
    rate: Annotated[Decimal, msgspec.Meta(extra={"scale": 4})] | None = None
    items: list[str] = []
    prices: dict[str, Decimal] = {}
    times: list[datetime] | None = None


def basket(**fields: object) -> bytes:
    known = {"customer": "c", "event_timestamp": "2024-03-05T12:00:00Z", "day": "2024-03-05", "paid": "1.50"}
    return msgspec.json.encode({**known, **fields})


def test_events_hold_dates_decimals_lists_and_maps():
    stream = EventStream(no_files(), Basket)
    assert {name: str(dtype) for name, dtype in stream.dtypes.items()} == {
        "customer": "string",
        "event_timestamp": "timestamp",
        "day": "date",
        "paid": "decimal[2]",
        "rate": "decimal[4]",
        "items": "list[string]",
        "prices": "map[decimal[2]]",
        "times": "list[timestamp]",
    }
    good = basket(
        rate="0.1234", items=["b", "a"], prices={"b": "2.00", "a": "0.10"}, times=["2024-03-05T14:00:00+02:00"]
    )
    plain = basket(paid=7)
    for bad in ([], [basket(paid="1.505")]):  # read at once, and message by message
        decoded = EventDecoder(stream).decode([Payload(value) for value in (good, plain, *bad)])
        assert decoded.events.drop(GONE).to_dicts() == [
            {
                "customer": "c",
                "event_timestamp": datetime(2024, 3, 5, 12, tzinfo=UTC),
                "day": date(2024, 3, 5),
                "paid": Decimal("1.50"),
                "rate": Decimal("0.1234"),
                "items": ["b", "a"],
                "prices": [{"key": "a", "value": Decimal("0.10")}, {"key": "b", "value": Decimal("2.00")}],
                "times": [datetime(2024, 3, 5, 12, tzinfo=UTC)],
            },
            {
                "customer": "c",
                "event_timestamp": datetime(2024, 3, 5, 12, tzinfo=UTC),
                "day": date(2024, 3, 5),
                "paid": Decimal("7.00"),
                "rate": None,
                "items": [],
                "prices": [],
                "times": None,
            },
        ]
        assert list(decoded.rejected) == [2] * len(bad)
    assert "more digits than decimal[2]" in decoded.rejected[2]
