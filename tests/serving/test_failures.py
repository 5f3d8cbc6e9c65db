"""What breaks behind the server: Redis dead, stuck or strange, the registry gone, a server that is asked to end."""

from __future__ import annotations

import http.client
import signal
import threading
import time

import pytest

from tests.servers.redis import RedisServer
from tests.serving.servers import call_on, fill, open_shop

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"
ASK = {"entity_ids": ["c0"], "features": ["amount_3d"]}


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def own(environment, tmp_path):
    """The settings of a store of one's own, to be broken, and its Redis."""
    with RedisServer() as redis:
        settings = {
            **environment,
            "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
            "FEATURE_STORE_ONLINE": redis.url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        }
        with open_shop(settings) as store:
            fill(store)
        yield settings, redis


def test_a_dead_redis_is_a_quick_503_and_the_server_recovers(own, start):
    settings, redis = own
    server = start(**{**settings, "FEATURE_STORE_DEFINITIONS": ""})
    assert server.call("POST", PATH, ASK).status == 200
    redis.kill()
    started = time.monotonic()
    for path, body in [
        (PATH, ASK),
        ("/get-online-features", {"entities": {"customer": ["c0"]}, "features": ["spending:amount_3d"]}),
    ]:
        answer = server.call("POST", path, body)
        assert answer.status == 503
        assert "does not answer" in answer.json["detail"]
        assert answer.headers["retry-after"] == "1"
    ready = server.call("GET", "/health/ready")
    assert time.monotonic() - started < 3
    assert (ready.status, ready.json) == (
        503,
        {"ready": False, "checks": {"online_store": "failing", "registry": "ok"}},
    )
    assert server.call("GET", "/health/live").status == 200
    assert server.logged(lambda line: line["event"] == "not ready")["part"] == "online_store"
    redis.start()
    with open_shop(settings) as store:
        fill(store)
    assert server.call("POST", PATH, ASK).status == 200
    wait_for(lambda: server.call("GET", "/health/ready").status == 200)


def test_a_stuck_redis_is_a_503_within_its_timeout_for_all_who_wait(own, start):
    settings, redis = own
    server = start(**{**settings, "FEATURE_STORE_DEFINITIONS": ""})
    outcomes = []

    def ask():
        started = time.monotonic()
        outcomes.append((server.call("POST", PATH, ASK).status, time.monotonic() - started))

    with redis.client() as client:
        client.client_pause(6_000)
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert server.call("GET", "/health/live").status == 200
        for thread in threads:
            thread.join()
    assert {status for status, _ in outcomes} == {503}
    assert max(seconds for _, seconds in outcomes) < 5


def test_a_strange_value_spoils_no_other_request_of_its_round_trip(own, start):
    settings, redis = own
    server = start(**{**settings, "FEATURE_STORE_DEFINITIONS": ""})
    outcomes = {}

    def ask(name):
        outcomes[name] = server.call("POST", PATH, {"entity_ids": [name], "features": ["amount_3d"]})

    with redis.client() as client:
        client.set("feature:amount_3d:v1:c3", b"{strange")
        client.client_pause(500)
        threads = [threading.Thread(target=ask, args=(name,)) for name in ("c0", "c1", "c3", "nobody")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "c0": 200,
        "c1": 200,
        "c3": 503,
        "nobody": 200,
    }
    assert "'feature:amount_3d:v1:c3'" in outcomes["c3"].json["detail"]
    assert outcomes["c0"].json["values"] == [[10]]


def test_without_its_registry_the_server_serves_on_and_is_not_ready(own, start, tmp_path):
    settings, _ = own
    server = start(**{**settings, "FEATURE_STORE_DEFINITIONS": ""})
    (tmp_path / "registry.db").rename(tmp_path / "elsewhere.db")
    ready = server.call("GET", "/health/ready")
    assert (ready.status, ready.json["checks"]) == (503, {"online_store": "ok", "registry": "failing"})
    assert server.call("POST", PATH, ASK).json["values"] == [[10]]
    (tmp_path / "registry.db").unlink(missing_ok=True)
    (tmp_path / "elsewhere.db").rename(tmp_path / "registry.db")
    wait_for(lambda: server.call("GET", "/health/ready").status == 200)


def test_a_shutdown_under_load_loses_no_request(start):
    server = start("--drain-seconds", "1", FEATURE_STORE_DEFINITIONS="")
    lost, answered, closed = [], [], []

    def work():
        connection = server.connect()
        try:
            while True:
                try:
                    connection.request(
                        "POST",
                        PATH,
                        b'{"entity_ids": ["c0"], "features": ["amount_3d"]}',
                        {"content-type": "application/json"},
                    )
                    answer = connection.getresponse()
                    body = answer.read()
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                    return
                answered.append((answer.status, body))
                if answer.getheader("connection") == "close":
                    closed.append(True)
                    return
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) > 200)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert server.process.wait(20) == 0
    assert lost == []
    assert len(closed) == 16
    assert {status for status, _ in answered} == {200}
    assert len({body for _, body in answered}) == 1


def test_while_it_drains_the_server_answers_but_is_not_ready(start):
    server = start("--drain-seconds", "2", FEATURE_STORE_DEFINITIONS="")
    idle = server.connect()
    assert call_on(idle, "POST", PATH, ASK).status == 200
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.call("GET", "/health/ready").status == 503)
    ready = server.call("GET", "/health/ready")
    assert ready.json["checks"]["server"] == "draining"
    # Those who come late, on a new connection or an old one, are answered, and told to go.
    for answer in (server.call("POST", PATH, ASK), call_on(idle, "POST", PATH, ASK)):
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    idle.close()
    assert server.process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        server.call("GET", "/health/live")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_work_end_before_the_server_does(start, shop_redis, how):
    server = start("--drain-seconds", "0", FEATURE_STORE_DEFINITIONS="")
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(server.call("POST", PATH, ASK)))
    with shop_redis.client() as redis:
        redis.client_pause(800)
        thread.start()
        wait_for(lambda: b"feature_server_requests_in_work 2.0" in server.call("GET", "/metrics").body)
        server.process.send_signal(how)
        thread.join()
    assert outcomes[0].status == 200
    assert outcomes[0].json["values"] == [[10]]
    assert server.process.wait(20) == 0
