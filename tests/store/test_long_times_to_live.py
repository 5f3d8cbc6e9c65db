"""A time to live may be as long as a timedelta can say: every call answers, and none of them overflows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_store.clock import SystemClock
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.training_set import TrainingSet, every_entity
from feature_store.offline.snapshots import write_snapshots
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.cli.conftest import run_command, table
from tests.orders import CUSTOMER, START, Orders, orders

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
NOW = datetime(2024, 3, 10, tzinfo=UTC)
EVENT = NOW - 3 * DAY
LENGTHS = {
    "3000 years": timedelta(days=365 * 3000),
    "all that there is": timedelta.max - timedelta(microseconds=timedelta.max.microseconds),
}


class Scores(FeatureSchema):
    score: float = feature("A score that is good for ever")
    brief: int = feature("A count that is not", ttl=DAY)


@pytest.fixture(params=LENGTHS)
def ttl(request):
    return LENGTHS[request.param]


@pytest.fixture(params=["feature", "row"])
def layout(request):
    return request.param


@pytest.fixture
def group(ttl, layout):
    @feature_group(
        entity=CUSTOMER,
        source=Orders(orders()),
        schema=Scores,
        owner="team@example.com",
        ttl=ttl,
        online_layout=layout,
    )
    def scores(events: pl.LazyFrame) -> pl.LazyFrame:
        """Scores."""
        return events.select("customer", "event_timestamp", score=pl.lit(1.0), brief=pl.lit(1))

    return scores


def rows(event=EVENT, score=1.5):
    return pl.DataFrame([{"customer": "c1", "event_timestamp": event, "score": score, "brief": 7}])


@pytest.fixture
def filled(store, group):
    store.apply([group])
    assert store.ingest(group, rows()).online.written == 1
    return store


@pytest.fixture(params=["sweep", "duckdb"])
def with_engine(request, filled, tmp_path, redis_url, clock):
    """The same store, with another engine of point-in-time reads."""
    places = {"offline": tmp_path / "offline", "online": redis_url, "registry": f"sqlite:///{tmp_path / 'registry.db'}"}
    with FeatureStore(**places, engine=request.param, clock=clock) as store:
        yield store


def labels():
    times = [EVENT - timedelta(microseconds=1), EVENT, EVENT + DAY, NOW]
    return pl.LazyFrame({"customer": ["c1"] * 4, "event_timestamp": times})


def test_online_reads_answer(filled):
    assert filled.get_online_features("c1", ["scores"]) == {"score": 1.5, "brief": None}
    assert filled.get_online_statuses(["c1"], ["scores"])[0]["score"].status == "present"
    assert filled.get_online_features_frame(["c1", "c2"], ["scores"])["score"].to_list() == [1.5, None]


def test_keys_outlive_the_server_clock(open_store, group):
    store = open_store(SystemClock())
    store.apply([group])
    assert store.ingest(group, rows(datetime.now(UTC) - timedelta(hours=1))).online.written == 1
    assert store.get_online_features("c1", ["scores"]) == {"score": 1.5, "brief": 7}


def test_offline_reads_answer(filled, group, with_engine):
    times = labels().collect()["event_timestamp"].to_list()
    for _ in range(2):
        found = with_engine.get_offline_features(["c1"] * 4, ["scores"], times)
        assert found["score"].to_list() == [None, 1.5, 1.5, 1.5]
        assert found["brief"].to_list() == [None, 7, None, None]
        late = with_engine.get_offline_features(["c1"], ["scores"], [NOW])
        assert late.select("score", "brief").rows() == [(1.5, None)]
        # Once more, from a snapshot.
        [snapshot] = write_snapshots(filled.offline, filled.registered(group), [(EVENT + DAY).date()])
        assert snapshot.rows == 1


def test_what_redis_lost_is_seen_and_pushed_again(filled, redis_server):
    with redis_server.client() as client:
        client.flushall()
    assert filled.sample_online("scores").lost == 1
    assert filled.push_online("scores").written == 1
    assert filled.sample_online("scores").lost == 0


def test_monitoring_looks_at_them(filled, group, redis_server):
    assert filled.check_consistency("scores").passed
    assert filled.run_monitor(group).entities == 1
    with redis_server.client() as client:
        client.flushall()
    assert not filled.check_consistency("scores").passed
    assert filled.repair_online("scores").written.written == 1
    assert filled.check_consistency("scores").passed


def test_explanations_are_told(filled, ttl):
    found = filled.explain("c1", "score")
    assert (found.status, found.value, found.online.agrees) == ("present", 1.5, True)
    assert found.ttl_seconds == ttl // timedelta(seconds=1)
    assert found.ttl_left_seconds == (ttl - 3 * DAY) / timedelta(seconds=1)
    within = ttl == LENGTHS["3000 years"]
    assert found.expires_at == (EVENT + ttl if within else None)
    at_first = filled.explain("c1", "score", datetime.min.replace(tzinfo=UTC))
    at_last = filled.explain("c1", "score", datetime.max.replace(tzinfo=UTC))
    assert (at_first.status, at_last.status) == ("missing", "expired" if within else "present")
    assert filled.explain("c1", "brief").status == "expired"


def test_training_sets_are_built_and_verified(with_engine, group):
    whole = TrainingSet("whole", labels, ["scores"], "team@example.com")
    assert with_engine.write_training_set(whole).scan().collect()["score"].to_list() == [None, 1.5, 1.5, 1.5]
    assert with_engine.verify_training_set("whole").passed
    assert not with_engine.write_training_set(whole).created
    daily = TrainingSet(
        "daily",
        every_entity(group, start=START),
        ["scores"],
        "team@example.com",
        partitioning=Partitioning.DAILY,
        start=START,
    )
    written = with_engine.write_training_set(daily)
    assert written.scan().collect()["event_timestamp"].to_list() == [EVENT, EVENT + DAY, EVENT + 2 * DAY]
    assert with_engine.verify_training_set("daily").passed
    # A late row, of which no label sees anything but the first.
    with_engine.ingest(group, rows(EVENT - DAY, 0.5))
    again = with_engine.write_training_set(whole)
    assert (again.version, again.scan().collect()["score"].to_list()) == (2, [0.5, 1.5, 1.5, 1.5])


def test_the_command_line_shows_them(filled, ttl, monkeypatch, tmp_path, redis_url):
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", str(tmp_path / "offline"))
    monkeypatch.setenv("FEATURE_STORE_ONLINE", redis_url)
    monkeypatch.setenv("FEATURE_STORE_REGISTRY", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("FEATURE_STORE_CLOCK", NOW.isoformat())
    monkeypatch.setenv("COLUMNS", "200")
    [score, brief] = table(run_command("get", "c1", "scores"))
    assert (score["value"], brief["ttl left"]) == ("1.5", "0s")
    left = json.loads(run_command("get", "c1", "score", "--json").stdout)["features"][0]["ttl_left_seconds"]
    assert timedelta(seconds=left) == ttl - 3 * DAY
    assert "time to live left" in run_command("explain", "c1", "score").stdout
    for command in (["list"], ["list", "--json"], ["show", "scores"], ["show", "score"]):
        run_command(*command)
