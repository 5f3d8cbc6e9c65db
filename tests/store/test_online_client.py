"""The light client: what a model server imports and needs, and by which catalog it reads."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import feature_store
from feature_store.clock import FixedClock
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.schema import Embedding, FeatureSchema, feature
from feature_store.errors import OnlineStoreError, SettingsError, UnknownFeatureError
from feature_store.online.published_catalog import decode_catalog, encode_catalog
from feature_store.online.store import OnlineStore
from feature_store.store import FeatureStore
from tests.orders import Orders, Spending, hourly_activity, orders, some_orders, spending
from tests.servers.redis import RedisServer, free_port

WHEN = datetime(2024, 3, 9, 12, tzinfo=UTC)
HEAVY = ["polars", "pandas", "pandera", "dagster", "sqlalchemy", "alembic", "pyarrow", "numpy", "duckdb"]
READ = """
import json, sys, time
started = time.perf_counter()
from feature_store import FeatureStore, FixedClock
imported = time.perf_counter() - started
early = [name for name in {heavy} + ["redis"] if name in sys.modules]
from datetime import datetime
store = FeatureStore(online=sys.argv[1], registry=sys.argv[2] or None, clock=FixedClock(datetime(2024, 3, 10)))
answer = store.get_online_features("c1", ["amount_3d", "spending"])
late = [name for name in {heavy} if name in sys.modules]
print(json.dumps([answer, early, late, imported]))
"""


def row(customer: str = "c1", amount: int = 10) -> dict:
    return {"customer": customer, "event_timestamp": WHEN, "orders_3d": 1, "amount_3d": amount, "last_amount": amount}


@pytest.fixture
def group(store):
    group = spending(Orders(some_orders()), online_layout="row")
    store.apply([group])
    store.ingest(group, pl.DataFrame([row("c1"), row("c2", 20)]))
    return group


@pytest.fixture
def online_only(redis_url, clock):
    with FeatureStore(online=redis_url, clock=clock) as reader:
        yield reader


@pytest.mark.parametrize("registry", ["", "sqlite:////nowhere/registry.db"])
def test_a_reader_needs_redis_alone(group, redis_url, registry):
    code = READ.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code, redis_url, registry], capture_output=True, text=True, check=True, timeout=60
    )
    answer, early, late, _ = json.loads(done.stdout)
    assert answer == {"amount_3d": 10, "orders_3d": 1, "last_amount": 10}
    assert early == late == []


def test_all_that_the_package_names_is_there():
    for name in feature_store.__all__:
        assert getattr(feature_store, name) is not None
    assert set(feature_store.__all__) <= set(dir(feature_store))
    with pytest.raises(AttributeError, match="no attribute 'Feature_store'"):
        _ = feature_store.Feature_store


def test_the_catalog_survives_its_json(store, group):
    class Shelf(FeatureSchema):
        taste_v3: Embedding = feature("Taste.", dimension=4)
        name: str = feature("Name.", ttl=timedelta(days=1), tags={"pii": "no"})

    @feature_group(
        entity=Entity("item", {"shop": str, "number": int}, "An item."),
        source=Orders(orders()),
        schema=Shelf,
        owner="team",
    )
    def shelf(events: pl.LazyFrame) -> pl.LazyFrame:
        return events

    store.apply([shelf, hourly_activity(Orders(orders()))])
    catalog = store.registry.catalog()
    assert decode_catalog(encode_catalog(catalog)) == catalog
    assert store.online.published().catalog == catalog


@pytest.mark.parametrize(
    ("text", "message"), [(b"{}", "does not hold a catalog"), (b'{"format":2,"groups":[]}', "of format 2")]
)
def test_a_catalog_that_cannot_be_read_is_named(group, online_only, redis_server, text, message):
    with redis_server.client() as plain:
        plain.set("feature_catalog", text)
    with pytest.raises(OnlineStoreError, match=f"'feature_catalog'.*{message}"):
        online_only.get_online_features("c1", ["amount_3d"])


def test_without_a_published_catalog_the_registry_is_asked(store, open_store, group, redis_server, online_only):
    with redis_server.client() as plain:
        plain.delete("feature_catalog")
    assert open_store().get_online_features("c1", ["amount_3d"]) == {"amount_3d": 10}
    with pytest.raises(OnlineStoreError, match=r"no catalog, and there is no registry.*feature-store apply"):
        online_only.get_online_features("c1", ["amount_3d"])


def test_a_reader_follows_apply_and_retire_within_seconds(store, group, online_only, monkeypatch):
    monkeypatch.setattr("feature_store.online.reading.following.CATALOG_SECONDS", 0.05)
    assert online_only.get_online_features("c2", ["spending"]) == {"orders_3d": 1, "amount_3d": 20, "last_amount": 20}
    unchanged = online_only.online_reads.catalog()
    store.apply([group])
    time.sleep(0.06)
    assert online_only.online_reads.catalog() is unchanged, "what has not changed is not read again"
    store.retire(FeatureRef("last_amount", 1))
    time.sleep(0.06)
    assert online_only.get_online_features("c2", ["spending"]) == {"orders_3d": 1, "amount_3d": 20}
    with pytest.raises(UnknownFeatureError, match="last_amount"):
        online_only.get_online_features("c2", ["last_amount"])


def test_a_shorter_time_to_live_counts_at_the_next_look(store, group, online_only, monkeypatch, clock):
    monkeypatch.setattr("feature_store.online.reading.following.CATALOG_SECONDS", 0.05)
    assert online_only.get_online_features("c1", ["amount_3d"]) == {"amount_3d": 10}

    class Briefer(Spending):
        amount_3d: int = feature("Amount", ttl=timedelta(hours=1))

    @feature_group(
        entity=group.entity,
        source=group.source,
        schema=Briefer,
        owner=group.owner,
        name="spending",
        online_layout="row",
        lookback=timedelta(days=3),
        ttl=timedelta(days=2),
    )
    def briefer(events: pl.LazyFrame) -> pl.LazyFrame:
        return events

    store.apply([briefer])
    time.sleep(0.06)
    assert online_only.get_online_features("c1", ["amount_3d", "last_amount"]) == {"amount_3d": None, "last_amount": 10}


def test_registering_does_not_wait_for_the_online_store(tmp_path, clock, caplog):
    registry = f"sqlite:///{tmp_path / 'registry.db'}"
    group = spending(Orders(orders()))
    with RedisServer() as server:
        url = server.url
        server.kill()
        with FeatureStore(tmp_path, url, registry, clock) as store, caplog.at_level(logging.WARNING):
            store.apply([group])
            assert "The catalog was not published" in caplog.text
            server.start()
            # The first write makes up for it.
            store.ingest(group, pl.DataFrame([row()]))
            with FeatureStore(online=url, clock=clock) as reader:
                assert reader.get_online_features("c1", ["amount_3d"]) == {"amount_3d": 10}


def test_a_store_that_lost_its_keys_gets_the_catalog_back_with_the_rows(store, group, redis_server, online_only):
    with redis_server.client() as plain:
        plain.flushall()
    store.push_online(group)
    assert online_only.get_online_features("c1", ["amount_3d"]) == {"amount_3d": 10}


def test_a_feature_that_was_not_published_is_looked_up_in_the_registry(store, open_store, group, redis_server):
    before = store.online.published().text
    store.apply([hourly_activity(Orders(orders()))])
    with redis_server.client() as plain:
        plain.set("feature_catalog", before)
    reader = open_store()
    assert reader.get_online_features("c1", ["orders_1h"]) == {"orders_1h": None}
    with pytest.raises(UnknownFeatureError, match="Did you mean"):
        reader.get_online_features("c1", ["orders_1x"])


def test_two_that_publish_at_once_leave_the_newest(store, open_store, group, monkeypatch):
    other = open_store()
    publish = OnlineStore.publish
    late = []

    def interrupted(online: OnlineStore, catalog) -> None:
        if online is store.online and not late:
            late.append(True)
            other.apply([hourly_activity(Orders(orders()))])
        publish(online, catalog)

    monkeypatch.setattr(OnlineStore, "publish", interrupted)
    store.current_catalog.publish()
    assert set(store.online.published().catalog.groups) == {"spending", "activity"}


def test_a_store_that_only_reads_says_what_it_lacks(online_only):
    with pytest.raises(SettingsError, match="without a registry"):
        online_only.apply([])
    with pytest.raises(SettingsError, match="without an offline store"):
        _ = online_only.offline


def test_an_answer_from_another_protocol_is_named(clock):
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Web(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"127.0.0.1:{server.server_port}"
    try:
        with FeatureStore(online=f"redis://user:secret@{address}", clock=FixedClock(WHEN)) as store:
            with pytest.raises(OnlineStoreError, match=f"{address} does not speak the Redis protocol") as caught:
                store.get_online_features("c1", ["amount_3d"])
            assert "secret" not in str(caught.value)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
