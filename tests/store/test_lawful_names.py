"""A name that a definition takes, all parts take: features, join keys, groups and training sets of awkward names."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.conformance import check_conformance
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.splits import split_by_time
from feature_store.definitions.training_set import TrainingSet, every_entity
from feature_store.errors import DefinitionError
from feature_store.monitoring.request_log import RequestLog
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from feature_store.streaming.rows import RowCodec
from tests.orders import Orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_store.clock import FixedClock

WORDS = Path(__file__).with_name("lawful_names.txt").read_text().split()
KINDS: dict[type, list[Any]] = {
    str: ["a", "b", None, "a"],
    bool: [True, None, False, True],
    int: [1, 2, None, 1],
    float: [1.5, None, float("inf"), 1.5],
}
NO_ASSETS = {"and", "as", "bool", "class", "config", "context", "def", "else", "features", "float", "from", "in"}
NO_ASSETS |= {"int", "is", "lambda", "not", "or", "str", "type", "with"}
"""Words that Dagster takes for no asset: no group has them for a name (see definitions/test_group_names.py)."""
USER = Entity("user_of_words", {"user_id": str})
MORE_FEATURES = [
    pytest.param(kind, layout, marks=pytest.mark.slow)
    for kind, layout in ((bool, "feature"), (int, "feature"), (float, "row"))
]
START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PASSED = [START + timedelta(hours=hour) for hour in (1, 30, 31, 55)]


def same(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as they are."""
    return events


def schema_of(names: list[str], kind: type) -> type[FeatureSchema]:
    members = {"__annotations__": dict.fromkeys(names, kind), "__module__": __name__}
    return type("Words", (FeatureSchema,), members | {name: feature("A word.") for name in names})


def group_of(
    name: str, entity: Entity, schema: type[FeatureSchema], events: pl.DataFrame, **given: Any
) -> FeatureGroup:
    more = {"owner": "team", "description": "Words.", "lookback": timedelta(0), "partitioning": Partitioning.DAILY}
    source = Orders(events, landed=date(2024, 3, 9), name=f"source_of_{name}")
    more |= {"default_ttl": 30 * DAY, "start": START, "snapshot_every": DAY, "freshness": 30 * DAY}
    return FeatureGroup(name=name, entity=entity, schema=schema, source=source, transform=same, **(more | given))


def features_of_words(kind: type, layout: str) -> FeatureGroup:
    values = KINDS[kind]
    events = pl.DataFrame({"user_id": ["u", "v", "u", "w"], "event_timestamp": PASSED}).with_columns(
        pl.Series(word, values, {str: pl.String, bool: pl.Boolean, int: pl.Int64, float: pl.Float64}[kind])
        for word in WORDS
    )
    return group_of("words", USER, schema_of(WORDS, kind), events, online_layout=layout)


def keys_of_words(kind: type, layout: str) -> FeatureGroup:
    keys = {str: "a", int: 7}
    events = pl.DataFrame({"event_timestamp": PASSED, "word_value": [1, 2, 3, 4]}).with_columns(
        pl.lit(keys[kind]).alias(word) for word in WORDS
    )
    events = events.with_columns(pl.Series("user", [keys[kind]] * 4))
    entity = Entity("words_of_keys", dict.fromkeys(WORDS, kind))
    return group_of("keyed", entity, schema_of(["word_value"], int), events, online_layout=layout)


def drive(store: FeatureStore, group: FeatureGroup, open_duckdb: Callable[[], FeatureStore]) -> None:
    """Sends a group through every part."""
    store.apply([group])
    store.materialize(group, "2024-03-01", "2024-03-03")
    columns = [spec.ref.column for spec in group.features]
    last = group.source.events.tail(1)
    store.ingest(group, last.with_columns(pl.col("event_timestamp") + timedelta(hours=1)))
    span = Partitioning.DAILY.span("2024-03-01", "2024-03-03")
    assert [each.detail for each in check_conformance(group, span) if each.passed is False] == []

    entity_id = group.entity.entity_id(**last.select(list(group.entity.join_keys)).to_dicts()[0])
    expected = last.select(columns).to_dicts()[0]
    assert store.get_online_features(entity_id, [group.name]) == expected
    assert store.get_online_features_frame([entity_id], columns).select(columns).to_dicts() == [expected]
    assert {name: state.value for name, state in store.get_online_statuses([entity_id], columns)[0].items()} == expected
    assert asyncio.run(_aread(store, entity_id, columns)) == [expected]
    now = store.clock.now()
    of_duckdb = open_duckdb()
    for reader in (store, of_duckdb):
        assert reader.get_offline_features([entity_id], columns, [now]).select(columns).to_dicts() == [expected]
    assert store.explain(entity_id, f"{columns[0]}:v1").value == expected[columns[0]]

    assert len(list(store.writes.snapshots(group))) == 3
    assert store.get_offline_features([entity_id], columns, [now]).select(columns).to_dicts() == [expected]
    assert store.check_consistency(group.name).passed
    assert store.repair_online(group.name).removed == 0
    store.push_online(group)
    assert not store.sample_online(group).lost
    assert store.monitor.check_freshness(group).passed
    store.run_monitor(group)
    monitor = store.monitor.partitions(group, START)
    done = store.materialize(group, "2024-03-01", "2024-03-03")
    monitor.judge([(part.window, part.profile) for part in done.partitions])
    assert store.replay_requests().passed

    registered = store.registered(group)
    stored = store.offline.scan(registered).collect()
    codec = RowCodec(registered)
    assert_frame_equal(codec.decode(codec.encode(stored)[1]), stored.select(list(codec.schema)))
    with duckdb.connect() as connection:
        store.offline.connect_views(store.catalog(), connection)
        for column in columns:
            view = f'SELECT "{column}" FROM "{group.name}" ORDER BY event_timestamp'
            assert [value for (value,) in connection.execute(view).fetchall()] == stored.sort("event_timestamp")[
                column
            ].to_list()
        values = len(columns) * stored.height
        assert connection.execute("SELECT count(*) FROM feature_value").fetchall() == [(values,)]
    train(store, group, columns, stored)


async def _aread(store: FeatureStore, entity_id: str, columns: list[str]) -> list[dict[str, Any]]:
    answers = await store.aget_online_features_batch([entity_id], columns)
    await store.online.aclose()
    return answers


def train(store: FeatureStore, group: FeatureGroup, columns: list[str], stored: pl.DataFrame) -> None:
    keys = list(group.entity.join_keys)
    labels = stored.select(*keys, (pl.col("event_timestamp") + timedelta(minutes=1)).alias("moment"))
    splits = split_by_time({"train": START + DAY, "test": None})
    definition = TrainingSet("set_of_words", labels.lazy, columns, "team", as_of="moment", splits=splits)
    version = store.write_training_set(definition).version
    assert store.verify_training_set("set_of_words").passed
    assert store.training_sets.rebuild("set_of_words", version, definition=definition).same_bytes
    assert not store.compare_training_sets("set_of_words:v1", "set_of_words").features_changed
    every = every_entity(group, every=DAY, start=START)
    store.write_training_set(TrainingSet("words_every_day", every, columns, "team"))
    assert store.verify_training_set("words_every_day").passed


@pytest.fixture
def open_named(tmp_path, redis_url, clock: FixedClock):
    """Opens stores on the same parts; the first logs all requests."""
    opened = []

    def open_one(engine: str = "sweep") -> FeatureStore:
        log = None if opened else RequestLog(tmp_path / "log", clock, rate=1)
        registry = f"sqlite:///{tmp_path / 'registry.db'}"
        given = {"clock": clock, "engine": engine, "request_log": log, "registry": registry}
        opened.append(FeatureStore(tmp_path / "offline", redis_url, **given))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layout"), [(str, "row"), *MORE_FEATURES])
def test_features_of_any_lawful_name(open_named, clock, kind, layout):
    clock.set(START + 5 * DAY)
    drive(open_named(), features_of_words(kind, layout), lambda: open_named("duckdb"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layout"), [pytest.param(str, "feature", marks=pytest.mark.slow), (int, "row")])
def test_join_keys_of_any_lawful_name(open_named, clock, kind, layout):
    clock.set(START + 5 * DAY)
    drive(open_named(), keys_of_words(kind, layout), lambda: open_named("duckdb"))


@pytest.mark.slow
def test_groups_of_any_lawful_name(open_named, clock):
    clock.set(START + 5 * DAY)
    store = open_named()
    groups, names = [], [word for word in WORDS if word not in NO_ASSETS]
    for number, word in enumerate(names):
        events = pl.DataFrame({"user_id": ["u"], "event_timestamp": PASSED[:1], f"{word}_x": [number]})
        layout = ("feature", "row")[number % 2]
        groups.append(group_of(word, USER, schema_of([f"{word}_x"], int), events, online_layout=layout))
    store.apply(groups)
    for group in groups:
        store.ingest(group, group.source.events)
    expected = {f"{word}_x": number for number, word in enumerate(names)}
    assert store.get_online_features("u", names) == expected
    offline = store.get_offline_features(["u"], names, [clock.now()])
    assert offline.select(list(expected)).to_dicts() == [expected]


@pytest.mark.parametrize("name", ["validate", "specs", "empty", "to_schema", "as_of_timestamp", "date"])
def test_names_of_the_store_and_of_every_schema_are_refused_for_features(name):
    with pytest.raises(DefinitionError, match="cannot name a feature"):
        schema_of([name], float).specs()


@pytest.mark.parametrize("name", ["as_of_timestamp", "event_timestamp", "ingested_at", "entity_id", "date"])
def test_names_of_the_store_are_refused_for_join_keys(name):
    with pytest.raises(DefinitionError, match="cannot be a join key"):
        Entity("user", {name: str})


def test_a_version_of_a_feature_may_not_have_the_name_of_a_join_key():
    with pytest.raises(DefinitionError, match=r"\['user_id'\] are join keys"):
        group_of("words", USER, schema_of(["user_id_v2"], float), pl.DataFrame())
