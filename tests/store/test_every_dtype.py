"""Every dtype through every door: what was given comes back from both stores, bit for bit, however it is read."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Partitioning
from feature_store.serving.app import FeatureServer
from feature_store.serving.auth import Tokens
from feature_store.serving.limits import Limits
from feature_store.serving.logs import JsonLog
from feature_store.store import FeatureStore
from feature_store.streaming.rows import RowCodec
from tests.orders import Orders
from tests.store.values import Column, bits, columns, of_frame, of_json, schema_of

USER = Entity("user_of_values", {"user_id": str})
EVENT = datetime(2024, 3, 9, 12, tzinfo=UTC)
IDS = ["a", "b|c", "é"]
_NUMBERS = itertools.count(1)

Values = dict[str, list[Any]]


def same(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as they are."""
    return events


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Column]:
    count = draw(st.integers(1, 4))
    prefix = f"v{next(_NUMBERS)}"
    return {f"{prefix}_{place}": draw(columns(len(IDS))) for place in range(count)}


def frame_of(features: Mapping[str, Column]) -> pl.DataFrame:
    given_values = [pl.Series(name, column.given, dtype=column.polars) for name, column in features.items()]
    times = pl.Series("event_timestamp", [EVENT] * len(IDS), dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame([pl.Series("user_id", IDS), times, *given_values])


def group_of(features: Mapping[str, Column], layout: str) -> FeatureGroup:
    frame = frame_of(features)
    return FeatureGroup(
        name=f"group_{next(iter(features))}",
        entity=USER,
        schema=schema_of(features),
        source=Orders(frame, name=f"source_{next(iter(features))}"),
        transform=same,
        owner="team",
        description="Values.",
        lookback=timedelta(0),
        partitioning=Partitioning.DAILY,
        default_ttl=timedelta(days=30),
        start=datetime(2024, 3, 1, tzinfo=UTC),
        online_layout=layout,
    )


def expected_of(features: Mapping[str, Column]) -> Values:
    """What readers get: the default for null, and for an entity that is unknown."""
    return {
        name: [column.declared.get("default") if value is None else value for value in (*column.answers, None)]
        for name, column in features.items()
    }


def check(way: str, found: Values, expected: Values) -> None:
    for name, values in expected.items():
        assert bits(found[name]) == bits(values), (way, name, found[name], values)


def of_rows(rows: list[dict[str, Any]]) -> Values:
    return {name: [row[name] for row in rows] for name in rows[0]}


def of_answer(frame: pl.DataFrame, features: Mapping[str, Column]) -> Values:
    return {name: of_frame(frame[name].to_list(), column) for name, column in features.items()}


async def posted(app: FeatureServer, path: str, body: Any) -> Any:
    """Returns the answer of a server that has no socket."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1", "client": ("test", 1)}
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    assert sent[0]["status"] == 200, answer
    return json.loads(answer)


async def by_http(store: FeatureStore, features: Mapping[str, Column], ids: list[str]) -> Values:
    log = JsonLog(io.BytesIO())
    app = FeatureServer(store, None, tokens=Tokens({}), limits=Limits(), log=log)
    answer = await posted(app, "/v1/online-features", {"entity_ids": ids, "features": list(features)})
    names = [f"group_{next(iter(features))}:{name}" for name in features]
    feast = await posted(app, "/get-online-features", {"entities": {"user_id": ids}, "features": names})
    await store.aclose()
    plain = {}
    for place, (name, column) in enumerate(features.items()):
        values = [row[place] for row in answer["values"]]
        plain[name] = [of_json(value, column) for value in values]
        if "datetime" not in str(column.annotation):  # Feast has whole seconds
            assert feast["results"][feast["metadata"]["feature_names"].index(name)]["values"] == values
    return plain


def drive(
    store: FeatureStore, open_another: Callable[..., FeatureStore], features: Mapping[str, Column], layout: str
) -> None:
    """Writes values and reads them by every way."""
    group = group_of(features, layout)
    store.apply([group])
    store.ingest(group, frame_of(features))
    names = list(features)
    expected = expected_of(features)
    ids = [*IDS, "nobody"]

    check("values", of_rows(store.get_online_features_batch(ids, names)), expected)
    check("one by one", of_rows([store.get_online_features(each, names) for each in ids]), expected)
    frame = store.get_online_features_frame(ids, names)
    check("frame", of_answer(frame, features), expected)
    states = store.get_online_statuses(ids, names)
    check("states", {name: [row[name].value for row in states] for name in names}, expected)
    assert {row[name].status for row in states for name in names} <= {"present", "null", "missing"}
    check("async", of_rows(asyncio.run(_aread(store, ids, names))), expected)
    with open_another() as served:
        check("http", asyncio.run(by_http(served, features, ids)), expected)

    at = [store.clock.now()] * len(ids)
    check("offline", of_answer(store.get_offline_features(ids, names, at), features), expected)
    labels = pl.DataFrame({"user_id": ids, "at": at}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    check("training set", of_answer(store.training_set(labels, names, as_of="at"), features), expected)
    with open_another(engine="duckdb") as by_sql:
        check("duckdb", of_answer(by_sql.training_set(labels, names, as_of="at"), features), expected)

    # Equal content in another layout is equal: nothing is written again.
    again = frame_of(features)
    assert store.ingest(group, again.to_arrow()).changed == 0
    store.materialize(group, "2024-03-09", "2024-03-09")
    assert store.ingest(group, again.reverse()).changed == 0
    assert store.check_consistency(group.name).passed
    for name, column in features.items():
        told = store.explain(IDS[0], name)
        assert bits(told.value) == bits(column.answers[0])
        assert bits(told.default) == bits(column.declared.get("default"))
        assert told.online.agrees
    codec = RowCodec(store.catalog().group(group.name))
    stored = store.offline.collect(store.catalog().group(group.name), lambda rows: rows)
    _, messages = codec.encode(stored)
    assert stored.equals(codec.decode(messages), null_equal=True)


async def _aread(store: FeatureStore, ids: list[str], names: list[str]) -> list[dict[str, Any]]:
    try:
        return await store.aget_online_features_batch(ids, names)
    finally:
        await store.aclose()


@pytest.fixture
def stores(
    open_store: Callable[..., FeatureStore], tmp_path: Path, redis_url: str
) -> tuple[FeatureStore, Callable[..., FeatureStore]]:
    """A store, and what opens the same one again in another way."""
    store = open_store()
    settings = {"offline": tmp_path / "offline", "registry": f"sqlite:///{tmp_path / 'registry.db'}"}
    return store, partial(FeatureStore, **settings, online=redis_url, clock=store.clock)


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("VALUES_EXAMPLES", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(features=tables(), layout=st.sampled_from(["feature", "row"]))
def test_what_was_given_is_read_by_every_way(
    stores: tuple[FeatureStore, Callable[..., FeatureStore]], features: dict[str, Column], layout: str
) -> None:
    drive(*stores, features, layout)
