"""Requests that ask for as much as they may, or more: others go on, and memory stays bounded."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import sqlite3
import threading
import time
import tracemalloc

import pytest

from feature_store.serving.served import Served
from tests.serving.servers import READER, TOKENS, WHEN, WRITER, Server, call_on, fill, open_shop

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"
FEAST = "/get-online-features"
ASK = {"entity_ids": ["c0"], "features": ["amount_3d"]}
ON_DEMAND = {"entity_ids": ["c0"], "features": ["basket_share:v1"], "request_data": {"basket": [5.0]}}
BYTES = 4 * 2**20 - 300
ROW = {"orders_3d": [1], "amount_3d": [5], "last_amount": [5]}
PUSH = {
    "push_source_name": "spending",
    "df": {"customer": ["pushed"], "event_timestamp": [WHEN.isoformat()], **ROW},
    "to": "online",
}


def repeated(before: bytes, each: bytes, after: bytes) -> bytes:
    return before + b",".join([each] * ((BYTES - len(before) - len(after)) // (len(each) + 1))) + after


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        (PATH, repeated(b'{"entity_ids":["c0"],"features":[', b'"amount_3d"', b"]}"), 413, "items"),
        (PATH, repeated(b'{"entities":{"customer":[', b'""', b']},"features":["amount_3d"]}'), 413, "items"),
        (PATH, repeated(b'{"features":["basket"],"request_data":{"basket":[', b"{}", b"]}}"), 413, "items"),
        (PATH, {"entity_ids": ["c0"], "features": [f"f{n}" for n in range(10_001)]}, 413, "10,001 features"),
        (PATH, {"features": ["a"], "request_data": {f"k{n}": [] for n in range(12_000)}}, 413, "names"),
        (PATH, {"entity_ids": ["c0"] * 100_001, "features": ["amount_3d"]}, 413, "100,001 values"),
        (PATH, {"entity_ids": ["c0"] * 40_000, "features": ["taste"]}, 413, "120,000 values"),
        (PATH, {"entity_ids": ["c0"] * 40_000, "features": ["spending"]}, 413, "120,000 values"),
        (FEAST, {"entities": {"customer": ["c0"] * 100_001}, "features": ["spending:amount_3d"]}, 413, "values"),
        (FEAST, {"entities": {"customer": ["c0"]}, "features": ["spending:" + "ab" * 2_000_000]}, 422, "4,000,009"),
        (PATH, {"entity_ids": ["c0"], "features": ["ab" * 2_000_000]}, 422, "4,000,000 characters"),
        (PATH, {"entity_ids": ["c0"], "feature_service": "ab" * 2_000_000}, 404, " ... "),
        (PATH, b'{"entity_ids":' + b"[" * BYTES, 413, "items"),
        (PATH, b'{"entity_ids":' + b"[" * 100_000, 422, "Expected"),
        ("/push", repeated(b'{"push_source_name":"spending","df":{"customer":[', b'"c"', b"]}}"), 413, "items"),
    ],
)  # fmt: skip
def test_what_asks_for_too_much_is_refused_shortly(guarded, path, body, status, detail):
    answer = guarded.call("POST", path, body, WRITER)
    assert answer.status == status
    assert any(words in answer.json["detail"] for words in detail.split("|"))
    assert len(answer.body) < 10_000


def test_request_data_nested_as_deeply_as_json_may_be_are_refused_as_such(server):
    nested = b'{"entity_ids":["c0"],"features":["basket"],"request_data":{"basket":[' + b"[" * 900 + b"]" * 900 + b"]}}"
    assert server.call("POST", PATH, nested).status in {400, 422}


def test_many_values_come_in_slices_as_those_that_come_at_once(server):
    many = ["c0", "nobody", "old", "odd"] * 900
    features = ["amount_3d", "score", "score:v1", "taste", "first_seen"]
    few = server.call("POST", PATH, {"entity_ids": many[:4], "features": features, "statuses": True}).json
    answer = server.call("POST", PATH, {"entity_ids": many, "features": features, "statuses": True}).json
    assert answer["features"] == features
    for column in ("values", "statuses", "event_timestamps"):
        assert answer[column] == few[column] * 900
    computed = {"features": ["basket_share:v1"], "request_data": {"basket": [3.0] * 3600}}
    assert server.call("POST", PATH, {"entity_ids": ["c0"] * 3600, **computed}).json["values"] == [[0.3]] * 3600
    short = server.call("POST", PATH, {"entity_ids": ["c0"] * 3600, **computed, "request_data": {"basket": [3.0]}})
    assert (short.status, "one value per entity, 3600 in all, got 1" in short.json["detail"]) == (422, True)
    views = {"entities": {"customer": many}, "features": ["spending:amount_3d", "traits:score", "traits:taste"]}
    fewer = server.call("POST", FEAST, {**views, "entities": {"customer": many[:4]}}).json
    for of_all, of_few in zip(server.call("POST", FEAST, views).json["results"], fewer["results"], strict=True):
        assert of_all == {name: column * 900 for name, column in of_few.items()}


def test_floods_of_distinct_feature_lists_fill_no_memory(environment):
    with open_shop(environment) as store:
        served = Served(store, None)
        names = ["amount_3d", "orders_3d", "last_amount"]
        served.reads.request(names)
        tracemalloc.start()
        try:
            for number in range(200):
                served.reads.request(names * 600 + ["amount_3d"] * number)
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The keys alone of 200 such lists are 3 MB.
        assert used < 1_500_000
        assert served.reads.request(names).resolution.labels == tuple(names)


@pytest.fixture
def limited(environment):
    server = Server(
        {**environment, "FEATURE_STORE_DEFINITIONS": ""}, "--most-headers", "10", "--most-connections", "20"
    )
    yield server
    server.stop()


def raw(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


HEAD = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"a: b\r\n" * 8, 200),
        (HEAD + b"a: b\r\n" * 9, 431),
        (HEAD + b"a: " + b"b" * 60_000 + b"\r\n", 200),
        (HEAD + b"a: " + b"b" * 70_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n", 431),
    ],
    ids=["as many as may be", "too many", "a long one", "one too long", "a path too long"],
)
def test_a_limit_of_headers_is_one_even_if_they_come_at_once(limited, head, status):
    assert raw(limited, head + b"\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_connections_beyond_the_limit_are_turned_away(limited):
    held = [socket.create_connection(("127.0.0.1", limited.port), timeout=20) for _ in range(20)]
    for connection in held:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
    assert raw(limited, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    for connection in held:
        connection.close()


def test_ten_thousand_open_connections_are_served_next_to(start):
    most = 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < most + 500:
        pytest.skip(f"needs {most} open files, the machine allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = start("--no-log-requests", "--request-seconds", "60", "--most-connections", str(most + 10))
    held = []
    try:
        while len(held) < most:
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        assert server.call("POST", PATH, ASK).status == 200
        for connection in held[::100]:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
    finally:
        for connection in held:
            connection.close()
    assert server.call("POST", PATH, ASK).status == 200


@pytest.fixture
def own(environment, tmp_path, shop_redis):
    """The settings of a registry of one's own, to be hung."""
    settings = {
        **environment,
        "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
        "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        "FEATURE_STORE_SERVER_TOKENS": json.dumps(TOKENS),
    }
    with open_shop(settings) as store:
        fill(store)
    return settings, tmp_path / "registry.db"


def test_on_demand_features_and_pushes_go_on_while_the_registry_hangs(own, start):
    settings, file = own
    server = start(**settings)
    registry = sqlite3.connect(file, isolation_level=None, timeout=5)
    registry.execute("BEGIN EXCLUSIVE")
    try:
        probes = []

        def probe():
            probes.append(server.call("GET", "/health/ready"))

        threads = [threading.Thread(target=probe) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status for answer in probes} == {503}
        assert probes[0].json["checks"] == {"online_store": "ok", "registry": "failing"}
        assert server.call("GET", "/health/live").status == 200
        # Beyond the time for which a catalog is trusted, too.
        deadline = time.monotonic() + 11
        while time.monotonic() < deadline:
            assert server.call("POST", PATH, ON_DEMAND, WRITER).json["values"] == [[0.5]]
            assert server.call("POST", "/push", PUSH, WRITER).status == 200
            time.sleep(1)
    finally:
        registry.execute("ROLLBACK")
        registry.close()
    deadline = time.monotonic() + 20
    while server.call("GET", "/health/ready").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_server_starts_by_the_published_catalog_while_the_registry_hangs(own, start):
    settings, _ = own
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        # Accepts, by its backlog, and never answers.
        hanging = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/registry?connect_timeout=2"
        server = start(**{**settings, "FEATURE_STORE_REGISTRY": hanging})
        assert server.call("POST", PATH, ON_DEMAND, WRITER).json["values"] == [[0.5]]
        assert server.call("POST", "/push", PUSH, WRITER).status == 200
        ready = server.call("GET", "/health/ready")
        assert (ready.status, ready.json["checks"]["registry"]) == (503, "failing")
        assert server.stop() == 0


def test_documents_and_listings_tell_what_a_token_may_read(guarded):
    names = ("spending", "traits", "page_views", "amount_3d", "score", "basket", "checkout", "profile")

    def told(path, token=None):
        text = guarded.call("GET", path, token=token).body.decode()
        return {name for name in names if f'"{name}' in text or f"{name}:" in text or f"&quot;{name}" in text}

    for token in (None, "nobody-knows-this-token-0001"):
        assert told("/openapi.json", token) == told("/docs", token) == set()
    assert "traits" not in told("/openapi.json", READER)
    assert "spending" in told("/openapi.json", READER)
    listing = guarded.call("GET", "/v1/features", token=READER).json
    assert {record["group"] for record in listing["features"]} == {"spending"}
    # Of the group alone: what is computed of it, and no service that needs others as well.
    assert [record["name"] for record in listing["on_demand"]] == ["basket"]
    assert listing["feature_services"] == []
    everything = guarded.call("GET", "/v1/features", token=WRITER).json
    assert [record["name"] for record in everything["feature_services"]] == ["checkout", "profile"]


def test_no_allowed_request_keeps_others_waiting_for_long(guarded):
    """The longest wait of a probe beside the heaviest requests, shortest of three, is far below what they take."""
    heavy = [
        (PATH, {"entity_ids": [f"c{n}" for n in range(100_000)], "features": ["amount_3d"]}),
        (PATH, {"entity_ids": [f"c{n}" for n in range(30_000)], "features": ["spending"], "statuses": True}),
        (FEAST, {"entities": {"customer": [f"c{n}" for n in range(30_000)]}, "features": ["spending:amount_3d"]}),
        (PATH, {"entity_ids": ["c0"], "features": ["amount_3d"] * 10_000}),
    ]
    for path, body in heavy:
        done = threading.Event()
        waits: list[float] = []

        def probe(done=done, waits=waits):
            connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=60)
            while not done.is_set():
                began = time.perf_counter()
                call_on(connection, "GET", "/health/live", None)
                waits.append(time.perf_counter() - began)
            connection.close()

        thread = threading.Thread(target=probe)
        thread.start()
        assert guarded.call("POST", path, body, WRITER).status == 200
        done.set()
        thread.join()
        # Others were answered meanwhile, again and again: the request was worked on in pieces.
        assert len(waits) > 3
