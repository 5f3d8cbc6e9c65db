"""Clients that send too much, too slowly or too often, on raw sockets."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from feature_store.serving.limits import Limits
from feature_store.serving.problems import HttpError
from tests.serving.servers import call_on

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"
ASK = {"entity_ids": ["c0"], "features": ["amount_3d"]}
HEAD = b"POST /v1/online-features HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def limited(environment):
    from tests.serving.servers import Server

    options = ("--request-seconds", "0.5", "--most-values", "10", "--most-bytes", "2000")
    server = Server({**environment, "FEATURE_STORE_DEFINITIONS": ""}, *options)
    yield server
    server.stop()


def exchange(server, *parts, pause=0.0):
    """Sends parts with a pause after each, and returns all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param([b"POST /v1/online"], id="request line"),
        pytest.param([HEAD + b"x-slow: "] + [b"a"] * 100, id="dripping headers"),
        pytest.param([HEAD + b"content-length: 100\r\n\r\n"] + [b" "] * 100, id="dripping body"),
        pytest.param([HEAD + b"transfer-encoding: chunked\r\n\r\n"] + [b"1\r\n \r\n"] * 100, id="dripping chunks"),
        pytest.param([b"\r\n"] * 100, id="dripping blank lines"),
        pytest.param([], id="silence"),
    ],
)
def test_slow_requests_are_cut_off(limited, slow):
    started = time.monotonic()
    received = exchange(limited, *slow, pause=0.05)
    assert time.monotonic() - started < 8
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.5 s" in received


def test_slow_clients_do_not_keep_others_waiting(limited):
    stuck = [socket.create_connection(("127.0.0.1", limited.port), timeout=20) for _ in range(200)]
    for connection in stuck:
        connection.sendall(HEAD)
    assert limited.call("POST", PATH, ASK).status == 200
    for connection in stuck:
        with connection:
            assert connection.recv(20).startswith(b"HTTP/1.1 408")


def test_a_connection_may_idle_between_requests_for_longer_than_a_request_may_take(limited):
    connection = limited.connect()
    for _ in range(2):
        assert call_on(connection, "POST", PATH, ASK).status == 200
        time.sleep(0.8)
    connection.close()


def test_too_large_bodies_are_refused_before_they_are_read(limited):
    announced = exchange(limited, HEAD + b"content-length: 2001\r\n\r\n")
    assert announced.startswith(b"HTTP/1.1 413 ")
    assert b"exceeds 2,000 bytes" in announced
    chunks = [b"%x\r\n%s\r\n" % (500, b" " * 500)] * 6
    assert exchange(limited, HEAD + b"transfer-encoding: chunked\r\n\r\n", *chunks).startswith(b"HTTP/1.1 413 ")
    assert limited.call("POST", PATH, ASK).status == 200


def test_too_large_headers_are_refused(limited):
    line = b"x-padding: " + b"a" * 8000 + b"\r\n"
    received = exchange(limited, HEAD, *[line] * 1000)
    assert received == b"" or received.startswith(b"HTTP/1.1 431 ")


def test_too_many_values_are_refused(limited):
    for path, body in [
        (PATH, {"entity_ids": ["c0"] * 11, "features": ["amount_3d"]}),
        (PATH, {"entity_ids": ["c0"] * 4, "features": ["spending"]}),
        ("/get-online-features", {"entities": {"customer": ["c0"] * 11}, "features": ["spending:amount_3d"]}),
    ]:
        answer = limited.call("POST", path, body)
        assert answer.status == 413
        assert "one answers at most 10" in answer.json["detail"]


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x00" * 100]
)
def test_what_is_no_http_is_refused(limited, garbage):
    received = exchange(limited, garbage + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")


def test_requests_beyond_the_limit_are_turned_away_at_once(start, shop_redis):
    server = start("--most-requests", "3", FEATURE_STORE_DEFINITIONS="")
    outcomes = []

    def ask():
        outcomes.append(server.call("POST", PATH, ASK))

    with shop_redis.client() as redis:
        redis.client_pause(700)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses = sorted(outcome.status for outcome in outcomes)
    assert statuses == [200] * 3 + [503] * 5
    refused = next(outcome for outcome in outcomes if outcome.status == 503)
    assert "has 3 requests in work" in refused.json["detail"]
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("items", [1, 3, 10, 40])
@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(b",", id="commas"),
        pytest.param(b"[", id="lists"),
        pytest.param(b"{", id="objects"),
        pytest.param(b'":', id="names"),
        pytest.param(b'" :', id="names with blanks"),
        pytest.param(b"1,", id="values"),
        pytest.param(b'{"a":1},', id="objects with names"),
    ],
)
def test_bodies_around_a_limit_are_counted_to_the_byte(unit, items, columns):
    limits = Limits(items=items, columns=columns)
    for times in range(60):
        body = unit * times
        most = columns + 16
        allowed = sum(map(body.count, (b",", b"[", b"{"))) <= items and body.replace(b" ", b"").count(b'":') <= most
        if allowed:
            limits.check_body(body)
        else:
            with pytest.raises(HttpError) as refused:
                limits.check_body(body)
            assert refused.value.status == 413
