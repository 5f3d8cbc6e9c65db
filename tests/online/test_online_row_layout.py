"""The row layout's bytes: as documented, small, and refused where they are not what they should be."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from feature_store.clock import FixedClock, to_micros
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.errors import OnlineStoreError
from feature_store.online.store import OnlineStore
from tests.online.deployments import Deployment
from tests.online.groups import DAY, LiveClock, at, catalog, frame, group

DOCUMENT = Path(__file__).parents[2] / "docs" / "row-layout.md"
EVERY_DTYPE = group(
    {
        "score": (FLOAT, 10),
        "name": (STRING, DAY),
        "count": (INT, 20),
        "taste": (embedding(3), DAY),
        "seen": (TIMESTAMP, DAY),
        "active": (BOOL, DAY),
        "city": (STRING, 30),
        "last": (INT, DAY),
        "ninth_v2": (FLOAT, DAY),
    },
    layout="row",
)
CATALOG = catalog(EVERY_DTYPE)
MOMENTS = st.datetimes(timezones=st.just(UTC))
ROWS = st.fixed_dictionaries(
    {
        "score": st.none() | st.floats(allow_nan=False),
        "name": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "taste": st.none() | st.lists(st.none() | st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
        "seen": st.none() | MOMENTS,
        "active": st.none() | st.booleans(),
        "city": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        "last": st.none() | st.integers(-5, 5),
        "ninth_v2": st.none() | st.floats(allow_nan=False),
    }
)


@pytest.fixture(scope="module")
def documented_reader() -> Callable[..., dict[str, Any]]:
    [code] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    reader = code[code.index("def read_row") :]
    assert len(reader.splitlines()) <= 30
    return names["read_row"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=ROWS, age=st.sampled_from([0, 9, 10, 20, 30, DAY - 1, DAY]))
def test_the_documented_reader_reads_what_the_store_reads(
    server: Deployment,
    redis: Redis,
    store: OnlineStore,
    clock: FixedClock,
    documented_reader: Callable[..., dict[str, Any]],
    row: dict[str, Any],
    age: int,
) -> None:
    clock.set(at(0))
    redis.flushall()
    store.write(EVERY_DTYPE, frame(EVERY_DTYPE, [{"user_id": "u:1", "event_timestamp": at(0), **row}]))
    clock.set(at(age))
    [answer] = store.read(["u:1"], CATALOG.select(["activity"]), CATALOG)
    ttls = {str(feature.ref): feature.online_ttl_seconds * 10**6 for feature in EVERY_DTYPE.features}
    values = documented_reader(redis.get, "activity", server.tagged("u:1"), ttls, to_micros(at(age)))
    assert documented_reader(redis.get, "activity", server.tagged("nobody"), ttls, 0) == {}
    if values["seen:v1"] is not None:
        values["seen:v1"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=values["seen:v1"])
    assert values == {str(feature.ref): answer[feature.ref.name] for feature in EVERY_DTYPE.features}


def test_a_row_is_the_bytes_of_the_document(server: Deployment, redis: Redis) -> None:
    of = group({"x": (INT, DAY), "s": (STRING, DAY), "gone": (FLOAT, DAY)}, layout="row")
    row = {"user_id": "u", "event_timestamp": at(0), "ingested_at": at(2), "x": -2, "s": "hé", "gone": None}
    with OnlineStore.connect(server.url, FixedClock(at(3))) as store:
        store.write(of, frame(of, [row]))
    key = f"feature_row:activity:{server.tagged('u')}"
    raw = redis.get(key)
    header = b"\xf5\x01" + raw[2:10] + struct.pack("<qq", to_micros(at(0)), to_micros(at(2)))
    assert raw == header + b"\x03" + struct.pack("<qId", -2, 3, 0.0) + "hé".encode()
    schema = redis.get(f"feature_schema:activity:{raw[2:10].hex()}")
    assert schema == b'[["x:v1","int"],["s:v1","string"],["gone:v1","float"]]'
    assert sorted(redis.scan_iter()) == [key.encode(), f"feature_schema:activity:{raw[2:10].hex()}".encode()]


def test_a_row_expires_with_its_longest_lived_feature(server: Deployment, redis: Redis) -> None:
    of = group({"brief": (FLOAT, 60), "long": (FLOAT, 600)}, layout="row")
    now = datetime.now(UTC).replace(microsecond=5_001)
    with OnlineStore.connect(server.url, LiveClock(now)) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": now, "brief": 1.0, "long": None}]))
    expected = int(now.replace(microsecond=0).timestamp()) * 1000 + 600_000 + 6
    assert redis.pexpiretime(f"feature_row:activity:{server.tagged('u')}") == expected


JUNK = {
    "text": lambda _: b"seven",
    "another version": lambda row: b"\xf5\x02" + row[2:],
    "a short row": lambda row: row[:-1],
    "a long row": lambda row: row + b"x",
    "a header alone": lambda row: row[:26],
    "less than a header": lambda row: row[:5],
    "strings that end beyond": lambda row: row[:35] + b"\xff" + row[36:],
    "no UTF-8": lambda row: row[:-3] + b"\xff\xff\xff",
}


@pytest.mark.parametrize("kind", JUNK)
def test_what_is_no_row_is_refused_by_name(server: Deployment, redis: Redis, kind: str) -> None:
    of = group({"x": (INT, DAY), "s": (STRING, DAY)}, layout="row")
    key = f"feature_row:activity:{server.tagged('u')}"
    rows = [{"user_id": user, "event_timestamp": at(0), "x": 7, "s": "abc"} for user in ("good", "u")]
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        store.write(of, frame(of, rows))
        redis.set(key, JUNK[kind](redis.get(key)))
        prepared = store.prepare(catalog(of).select(["activity"]), catalog(of))
        for form in ("values", "states", "frame"):
            with pytest.raises(OnlineStoreError, match=f"'{re.escape(key)}'.*Delete the key and materialize"):
                prepared.read(form, ["good", "u"])


@pytest.mark.parametrize("junk", [b"seven", b"\xf5\x02" + bytes(40), b"\xf5"])
def test_what_is_no_row_is_not_overwritten(server: Deployment, redis: Redis, junk: bytes) -> None:
    of = group(layout="row")
    key = f"feature_row:activity:{server.tagged('u')}"
    redis.set(key, junk)
    with (
        OnlineStore.connect(server.url, FixedClock(at(1))) as store,
        pytest.raises(OnlineStoreError, match=f"something else at the key '{re.escape(key)}'"),
    ):
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "clicks": 1.0}]))
    assert redis.get(key) == junk


def test_an_unknown_fingerprint_is_refused(server: Deployment, redis: Redis) -> None:
    of = group({"x": (INT, DAY), "y": (INT, DAY)}, layout="row")
    other = replace(of, features=of.features[::-1])
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "x": 1, "y": 2}]))
        [key] = redis.scan_iter("feature_schema:*")
        text = redis.getdel(key)
        for wrong, message in (
            (None, "explains"),
            (b"[]", "the schema of its name"),
            (b"junk", "the schema of its name"),
        ):
            if wrong is not None:
                redis.set(key, wrong)
            with pytest.raises(OnlineStoreError, match=message):
                store.read(["u"], catalog(other).select(["x"]), catalog(other))
        redis.set(key, text)
        assert store.read(["u"], catalog(other).select(["x"]), catalog(other)) == [{"x": 1}]


def test_a_layout_that_is_not_known_is_refused(server: Deployment) -> None:
    of = replace(group(), online_layout="column")  # type: ignore[arg-type]
    with (
        OnlineStore.connect(server.url, FixedClock(at(1))) as store,
        pytest.raises(OnlineStoreError, match="layout 'column', which this version does not know"),
    ):
        store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "clicks": 1.0}]))


def test_ten_floats_take_at_most_108_bytes_and_a_third_of_the_memory(
    server: Deployment, redis: Redis, nodes: list[Redis]
) -> None:
    def used_memory() -> int:
        return sum(node.info("memory")["used_memory_dataset"] for node in nodes)

    features = {f"f{n}": (FLOAT, DAY) for n in range(10)}
    used = {}
    for layout in ("feature", "row"):
        redis.flushall()
        of = group(features, layout=layout)
        before = used_memory()
        rows = [
            {"user_id": f"{n:05}", "event_timestamp": at(0)} | {f"f{i}": n / (i + 3) for i in range(10)}
            for n in range(4000)
        ]
        with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
            store.write(of, frame(of, rows))
        used[layout] = used_memory() - before
    assert redis.strlen(f"feature_row:activity:{server.tagged('00007')}") == 108
    assert used["row"] < used["feature"] / 3
