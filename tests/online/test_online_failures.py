"""A server that is dead, hung, full, read-only, locked or killed half-way: one clear error, no partial answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from feature_store.catalog import RegisteredGroup
from feature_store.clock import FixedClock
from feature_store.definitions.dtypes import FLOAT, INT
from feature_store.errors import OnlineStoreError, SettingsError
from feature_store.online.store import OnlineStore
from tests.online.deployments import Deployment
from tests.online.groups import DAY, LayoutName, at, catalog, frame, group
from tests.servers.redis import RedisServer, free_port

pytestmark = pytest.mark.slow

FEATURES = {"x": (INT, DAY), "y": (FLOAT, DAY)}
GROUP = group(FEATURES)
CATALOG = catalog(GROUP)
SELECTED = CATALOG.select(["activity"])
MANY = [{"user_id": f"u{n}", "event_timestamp": at(n / 1000), "x": n, "y": n / 3} for n in range(9000)]
CLOCK = FixedClock(at(100))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def cut_connections(nodes: list[Redis]) -> None:
    """Closes all connections to the servers but the given ones."""
    for node in nodes:
        node.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def assert_all_there(store: OnlineStore, of: RegisteredGroup) -> None:
    ids = [str(row["user_id"]) for row in MANY]
    assert store.read(ids, catalog(of).select(["activity"]), catalog(of)) == [
        {"x": row["x"], "y": row["y"]} for row in MANY
    ]


def test_a_dead_server_is_an_error_within_a_second() -> None:
    address = f"127.0.0.1:{free_port()}"
    with OnlineStore.connect(f"redis://user:secret@{address}/0", CLOCK) as store, within(1):
        with pytest.raises(OnlineStoreError, match=f"{address} does not answer.*FEATURE_STORE_ONLINE") as caught:
            store.read(["u"], SELECTED, CATALOG)
        assert "secret" not in str(caught.value)
        with pytest.raises(OnlineStoreError, match=address):
            store.ping()


def test_a_hung_server_is_an_error_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        address = f"127.0.0.1:{hung.getsockname()[1]}"
        with (
            OnlineStore.connect(f"redis://{address}", CLOCK) as store,
            within(2),
            pytest.raises(OnlineStoreError, match=f"{address} does not answer"),
        ):
            store.read(["u"], SELECTED, CATALOG)


def test_writing_to_a_dead_server_says_that_nothing_is_confirmed() -> None:
    with (
        OnlineStore.connect(f"redis://127.0.0.1:{free_port()}", CLOCK) as store,
        within(4),
        pytest.raises(OnlineStoreError, match=r"does not answer.* 0 rows are confirmed"),
    ):
        store.write(GROUP, frame(GROUP, MANY[:3]))


def test_wrong_credentials_are_named_without_the_password() -> None:
    with RedisServer(tcp=True, password="right") as server:
        with OnlineStore.connect(server.url, CLOCK) as store:
            store.ping()
        for secret in (":wrong-secret@", "alice:wrong-secret@", ""):
            with OnlineStore.connect(f"redis://{secret}{server.address}", CLOCK) as store:
                for call in (
                    store.ping,
                    lambda store=store: store.read(["u"], SELECTED, CATALOG),
                    lambda store=store: store.write(GROUP, frame(GROUP, MANY[:1])),
                ):
                    with pytest.raises(OnlineStoreError, match=f"{server.address} refused the credentials") as caught:
                        call()
                    assert "wrong-secret" not in str(caught.value)


def test_users_with_the_least_rights(layout: LayoutName) -> None:
    of = group(FEATURES, layout=layout)
    reading = ["~feature*", "+mget", "+ping"]
    writing = ["~feature*", "+evalsha", "+script|load", "+get", "+getrange", "+set", "+del"]
    with RedisServer(tcp=True) as server:
        with server.client() as plain:
            plain.execute_command("ACL", "SETUSER", "model", "on", ">pw", *reading)
            plain.execute_command("ACL", "SETUSER", "pipeline", "on", ">pw", *writing)
        with OnlineStore.connect(f"redis://pipeline:pw@{server.address}", CLOCK) as store:
            assert store.write(of, frame(of, MANY[1:2])).written == 1
        with OnlineStore.connect(f"redis://model:pw@{server.address}", CLOCK) as store:
            assert store.read(["u"], catalog(of).select(["activity"]), catalog(of)) == [{"x": None, "y": None}]
            with pytest.raises(OnlineStoreError, match=r"refused the credentials.*no permissions"):
                store.write(of, frame(of, MANY[:1]))


def test_a_replica_refuses_rows() -> None:
    with (
        RedisServer(options={"replicaof": f"127.0.0.1 {free_port()}"}) as server,
        OnlineStore.connect(server.url, CLOCK) as store,
        pytest.raises(OnlineStoreError, match="read-only replica"),
    ):
        store.write(GROUP, frame(GROUP, MANY[:3]))


def test_a_full_server_refuses_rows_and_keeps_none_in_part(
    server: Deployment, redis: Redis, nodes: list[Redis], layout: LayoutName
) -> None:
    of = group(FEATURES, layout=layout)
    with OnlineStore.connect(server.url, CLOCK) as store:
        store.write(of, frame(of, MANY[:10]))
        for node in nodes:
            node.config_set("maxmemory", "1")
        try:
            newer = [{**row, "event_timestamp": at(50), "x": -1} for row in MANY[:10]]
            with pytest.raises(OnlineStoreError, match="out of memory: raise its maxmemory"):
                store.write(of, frame(of, newer))
        finally:
            for node in nodes:
                node.config_set("maxmemory", "0")
        answers = store.read([f"u{n}" for n in range(10)], catalog(of).select(["activity"]), catalog(of))
    assert answers == [{"x": row["x"], "y": row["y"]} for row in MANY[:10]]


def test_a_connection_that_broke_while_idle_is_replaced(server: Deployment, redis: Redis, nodes: list[Redis]) -> None:
    with OnlineStore.connect(server.url, CLOCK) as store:
        store.write(GROUP, frame(GROUP, MANY[:1]))
        for _ in range(2):
            cut_connections(nodes)
            assert store.read(["u0"], SELECTED, CATALOG) == [{"x": 0, "y": 0.0}]
            store.write(GROUP, frame(GROUP, MANY[1:2]))


def test_a_write_survives_lost_connections_and_a_forgotten_script(
    server: Deployment, redis: Redis, nodes: list[Redis], layout: LayoutName
) -> None:
    of = group(FEATURES, layout=layout)

    def disturb(_: int) -> None:
        for node in nodes:
            node.script_flush()
        cut_connections(nodes)

    with OnlineStore.connect(server.url, CLOCK) as store:
        assert store.write(of, frame(of, MANY), progress=disturb).written == len(MANY)
        assert_all_there(store, of)


def test_a_server_killed_in_the_middle_of_a_write(layout: LayoutName) -> None:
    of = group(FEATURES, layout=layout)
    with RedisServer() as server, OnlineStore.connect(server.url, CLOCK) as store:
        confirmed: list[int] = []

        def kill(rows: int) -> None:
            confirmed.append(rows)
            if rows:
                server.kill()

        with pytest.raises(OnlineStoreError, match="does not answer") as caught:
            store.write(of, frame(of, MANY), progress=kill)
        assert f" {sum(confirmed)} rows are confirmed" in str(caught.value)
        with pytest.raises(OnlineStoreError, match="does not answer"):
            store.read(["u0"], catalog(of).select(["activity"]), catalog(of))
        server.start()
        store.write(of, frame(of, MANY))
        assert_all_there(store, of)


def test_a_server_that_comes_back_in_time_is_waited_for(layout: LayoutName) -> None:
    of = group(FEATURES, layout=layout)
    with RedisServer() as server, OnlineStore.connect(server.url, CLOCK) as store:

        def restart(rows: int) -> None:
            if rows:
                server.kill()
                server.start()

        assert store.write(of, frame(of, MANY[:5000]), progress=restart).written == 5000


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://x", "redis://:se/cret@h:port", "redis://h?db=secret", "redis://h?secret=1"]
)
def test_a_malformed_url_is_refused_at_once_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="FEATURE_STORE_ONLINE is not the URL") as caught:
        OnlineStore.connect(url, CLOCK)
    assert "cret" not in str(caught.value)


def test_replies_must_be_bytes() -> None:
    with pytest.raises(SettingsError, match="decode_responses"):
        OnlineStore.connect("redis://localhost?decode_responses=yes", CLOCK)
