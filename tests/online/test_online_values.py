"""Values survive the store bit for bit, under any entity id, and any client can read them."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.crc import key_slot

from feature_store.clock import FixedClock
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, Dtype, embedding
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.errors import InvalidRequestError, InvalidRowsError, OnlineStoreError
from feature_store.online.keys import KeySpace
from feature_store.online.store import OnlineStore
from feature_store.rows.polars_schema import polars_type
from tests.online.deployments import Deployment
from tests.online.groups import DAY, LayoutName, at, catalog, frame, group

pytestmark = pytest.mark.slow

ANY_BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0])
FLOATS = ANY_BITS | st.floats() | st.sampled_from([0.0, -0.0, 5e-324, float("inf"), float("-inf"), 1e22, 0.1])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
UTC_DATETIMES = st.datetimes(timezones=st.just(UTC))
VALUES: dict[str, tuple[Dtype, st.SearchStrategy[Any]]] = {
    "float": (FLOAT, FLOATS),
    "int": (INT, st.integers(-(2**63), 2**63 - 1)),
    "string": (STRING, TEXTS | st.sampled_from(["null", '"', "\\", "\x00", "\u2028", "1e999"])),
    "bool": (BOOL, st.booleans()),
    "timestamp": (TIMESTAMP, UTC_DATETIMES),
    "embedding": (embedding(3), st.lists(st.none() | st.floats(width=32), min_size=3, max_size=3)),
}


def without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return None if any(element != element for element in value) else value  # noqa: PLR0124
    return None if value != value else value  # noqa: PLR0124


def exact(value: Any) -> Any:
    """Returns what tells two values apart even where `==` does not: 0.0 and -0.0, 1 and 1.0 and True."""
    if isinstance(value, list):
        return [exact(element) for element in value]
    return (type(value), struct.pack("d", value) if isinstance(value, float) else value)


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_survive_bit_for_bit(
    server: Deployment, redis: Redis, store: OnlineStore, layout: LayoutName, kind: str, data: st.DataObject
) -> None:
    dtype, strategy = VALUES[kind]
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=40))
    of = group({"before": (STRING, DAY), "x": (dtype, DAY), "after": (STRING, DAY)}, layout=layout)
    rows = [
        {"user_id": str(n), "event_timestamp": at(0), "before": "é" * n, "x": value, "after": None}
        for n, value in enumerate(values)
    ]
    ids = [row["user_id"] for row in rows]
    redis.flushall()
    store.write(of, frame(of, rows))
    prepared = store.prepare(catalog(of).select(["x", "before"]), catalog(of))
    answers = prepared.values(ids)
    states = prepared.states(ids)
    columns = prepared.read("frame", ids)
    expected = [without_nan(value) for value in values]
    for given_back in (
        [answer["x"] for answer in answers],
        [row[0] for row in prepared.read("rows", ids)],
        [state["x"].value for state in states],
        [value if kind != "embedding" or value is None else list(value) for value in columns["x"].to_list()],
    ):
        assert [exact(value) for value in given_back] == [exact(value) for value in expected]
    assert columns["before"].to_list() == ["é" * n for n in range(len(values))]
    assert columns.schema["x"] == polars_type(dtype)
    if layout == "row":
        return
    # Any client: the JSON says the same to a parser that is not ours.
    parsed = [json.loads(redis.get(f"feature:x:v1:{server.tagged(entity_id)}")) for entity_id in ids]
    if kind == "timestamp":
        parsed = [text if text is None else datetime.fromisoformat(text) for text in parsed]
    assert [exact(value) for value in parsed] == [exact(value) for value in expected]


EVERY_BYTE = "".join(map(chr, range(0x80))) + "".join(map(chr, range(0x80, 0x10FFFF, 0x2F40))).replace("\ud8c0", "")
"""All bytes that occur in UTF-8: all ASCII, and leading and continuing bytes of every kind."""

IDS = TEXTS | st.sampled_from(
    ["", " ", "a b", "a:b", "{a}", "}{", "a|b\\", "feature:x:v1:u", "\r\n", "é" * 127, "u" * 255, EVERY_BYTE]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(IDS, min_size=1, max_size=12, unique=True))
def test_any_text_is_an_entity_id(
    server: Deployment, redis: Redis, store: OnlineStore, layout: LayoutName, ids: list[str]
) -> None:
    ids = [entity_id for entity_id in ids if server.takes(entity_id)]
    of = group({"x": (INT, DAY), "y": (FLOAT, DAY)}, layout=layout)
    rows = [{"user_id": entity, "event_timestamp": at(0), "x": n, "y": n / 3} for n, entity in enumerate(ids)]
    redis.flushall()
    store.write(of, frame(of, rows))
    answers = store.read(ids[::-1], catalog(of).select(["activity"]), catalog(of))
    assert answers == [{"x": row["x"], "y": row["y"]} for row in rows[::-1]]
    for n, entity in enumerate(ids):
        if layout == "feature":
            assert redis.get(f"feature:x:v1:{server.tagged(entity)}") == str(n).encode()
        else:
            assert redis.exists(f"feature_row:activity:{server.tagged(entity)}")


def test_int_keys_and_composite_keys(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    flight = Entity("flight", {"number": int, "origin": str})
    of = group({"x": (INT, DAY)}, entity=flight, layout=layout)
    keys: list[tuple[int, str]] = [(-(2**63), "a|b"), (7, "\\"), (7, "|"), (2**63 - 1, "é")]
    rows = [{"number": n, "origin": o, "event_timestamp": at(0), "x": i} for i, (n, o) in enumerate(keys)]
    ids = [flight.entity_id(number=n, origin=o) for n, o in keys]
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        store.write(of, frame(of, rows))
        assert store.read(ids, catalog(of).select(["x"]), catalog(of)) == [{"x": i} for i in range(4)]
        with pytest.raises(InvalidRequestError, match="entity 'flight' has 2"):
            store.read(["7"], catalog(of).select(["x"]), catalog(of))


def test_large_reads_keep_order_and_duplicates(
    server: Deployment, redis: Redis, nodes: list[Redis], layout: LayoutName
) -> None:
    first = group({f"f{n}": (INT, DAY) for n in range(30)}, name="first", layout=layout)
    second = group({"g": (INT, DAY), "g_v2": (INT, DAY)}, name="second")
    both = catalog(first, second)
    users = [f"u{n}" for n in range(60)]
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        for of in (first, second):
            columns = [feature.ref.column for feature in of.features]
            rows = [
                {"user_id": user, "event_timestamp": at(0)} | dict.fromkeys(columns, n) for n, user in enumerate(users)
            ]
            store.write(of, frame(of, rows))
        asked = ["g", *(f"f{n}" for n in range(30)), "g:v1"]
        ids = [*users[::-1], "unknown", *users[:5]]
        answers = store.read(ids, both.select(asked), both)
        assert store.read([], both.select(asked), both) == []
        prepared = store.prepare(both.select(asked), both)
        columns = prepared.read("frame", ids)
        assert columns.drop("entity_id").to_dicts() == answers
        assert columns["entity_id"].to_list() == ids
        assert prepared.read("rows", ids) == [list(answer.values()) for answer in answers]
        assert prepared.read("frame", []).schema == columns.schema

        async def together() -> list[list[dict]]:
            try:
                return await asyncio.gather(*(prepared.aread("values", ids) for _ in range(5)))
            finally:
                await store.aclose()

        assert asyncio.run(together()) == [answers] * 5
    assert all(node.dbsize() for node in nodes), "a cluster spreads its keys over all nodes"
    assert [list(answer) for answer in answers] == [asked] * len(ids)
    numbers: Sequence[int | None] = [*range(59, -1, -1), None, *range(5)]
    assert [set(answer.values()) for answer in answers] == [{number} for number in numbers]


def test_ten_thousand_features_in_one_request(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    groups = [group({f"g{g}_f{n}": (INT, DAY) for n in range(2500)}, name=f"wide{g}", layout=layout) for g in range(4)]
    known = catalog(*groups)
    names = [feature.ref.name for of in groups for feature in of.features][::-1]
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        for of in groups:
            columns = {feature.ref.column: number for number, feature in enumerate(of.features)}
            store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), **columns}]))
        answers = store.read(["u", "w"], known.select(names), known)
    assert answers == [{name: int(name.partition("_f")[2]) for name in names}, dict.fromkeys(names)]
    assert list(answers[0]) == names


def test_missing_null_and_expired_are_told_apart(server: Deployment, redis: Redis, layout: LayoutName) -> None:
    of = group({"brief": (FLOAT, 10), "long": (FLOAT, 100), "void": (FLOAT, 100)}, layout=layout)
    row = {"user_id": "u", "event_timestamp": at(0), "ingested_at": at(3), "brief": 1.0, "long": 2.0, "void": None}
    with OnlineStore.connect(server.url, FixedClock(at(9))) as store:
        store.write(of, frame(of, [row]))
    with OnlineStore.connect(server.url, FixedClock(at(10))) as store:
        known, unknown = store.read_states(["u", "w"], catalog(of).select(["activity"]), catalog(of))
        assert {label: state.status for label, state in known.items()} == {
            "brief": "expired",
            "long": "present",
            "void": "null",
        }
        assert {(state.event_timestamp, state.ingested_at) for state in known.values()} == {(at(0), at(3))}
        assert {(state.status, state.event_timestamp) for state in unknown.values()} == {("missing", None)}
        if layout == "row":
            return
        redis.delete(f"feature:long:v1:{server.tagged('u')}")
        assert store.read_states(["u"], catalog(of).select(["long"]), catalog(of))[0]["long"].status == "missing"
        redis.set(f"feature:long:v1:{server.tagged('w')}", "1.0")
        assert store.read(["w"], catalog(of).select(["long"]), catalog(of)) == [{"long": None}], "no event time known"


@pytest.mark.parametrize(
    ("name", "junk"),
    [
        ("feature:x:v1", "seven"),
        ("feature:x:v1", '"7"'),
        ("feature:x:v1", b"\xff"),
        ("feature_stamp:activity", "7"),
    ],
)
def test_what_others_wrote_is_not_served(server: Deployment, redis: Redis, name: str, junk: str) -> None:
    of = group({"x": (INT, DAY)})
    key = f"{name}:{server.tagged('u')}"
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "x": 7}]))
        redis.set(key, junk)
        with pytest.raises(OnlineStoreError, match=f"'{re.escape(key)}'.*Delete the key and materialize"):
            store.read(["u"], catalog(of).select(["x"]), catalog(of))


def test_rows_that_cannot_be_stored_are_refused_entirely(server: Deployment, redis: Redis) -> None:
    of = group({"x": (FLOAT, DAY), "when": (TIMESTAMP, DAY)})
    good = frame(of, [{"user_id": str(n), "event_timestamp": at(0), "x": 1.0, "when": at(0)} for n in range(3)])
    far = 300_000_000_000_000_000
    cases = {
        "column 'x' is missing": good.drop("x"),
        "column 'x' holds String, declared is float": good.with_columns(good["user_id"].alias("x")),
        "column 'user_id' holds Float64, declared is string": good.with_columns(good["x"].alias("user_id")),
        "column 'ingested_at' holds Float64, not timestamps": good.with_columns(good["x"].alias("ingested_at")),
        r"1 row\(s\) have no entity_id": good.with_columns(user_id=good["user_id"].replace("1", None)),
        r"3 row\(s\) have no ingested_at": good.with_columns(ingested_at=good["ingested_at"].clear(3)),
        r"3 value\(s\) of 'when' lie outside": good.with_columns(when=good["when"].to_physical() * 0 + far).cast(
            {"when": good.schema["when"]}
        ),
    }
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        for message, rows in cases.items():
            with pytest.raises(InvalidRowsError, match=message):
                store.write(of, rows)
    assert list(redis.scan_iter()) == []


def test_entity_ids_that_are_no_list_of_texts_are_refused(server: Deployment) -> None:
    of = group()
    selected = catalog(of).select(["clicks"])
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        for ids in ("u1", [1], [None], ["ok", "\ud800"]):
            with pytest.raises(InvalidRequestError):
                store.read(ids, selected, catalog(of))  # type: ignore[arg-type]


@given(entity_id=TEXTS.filter(lambda text: text and not text.startswith("}")))
def test_on_a_cluster_all_keys_of_an_entity_share_a_slot(entity_id: str) -> None:
    keys = KeySpace(hash_tags=True)
    keys.check([entity_id])
    shapes = [keys.feature(FeatureRef("clicks_7d", 2)), keys.feature(FeatureRef("x", 1)), keys.stamp("activity")]
    assert shapes[0].of(entity_id) == f"feature:clicks_7d:v2:{{{entity_id}}}"
    assert len({key_slot(shape.of(entity_id).encode()) for shape in shapes}) == 1


@pytest.mark.parametrize("entity_id", ["", "}x"])
def test_on_a_cluster_ids_that_would_scatter_are_refused(entity_id: str) -> None:
    KeySpace().check([entity_id])
    with pytest.raises(InvalidRequestError, match="Prefix the id"):
        KeySpace(hash_tags=True).check([entity_id])
