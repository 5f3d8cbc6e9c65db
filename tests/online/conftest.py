"""Real servers for the tests of the online store: one per kind and test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.online.groups import LAYOUTS, LayoutName
from tests.servers.redis import RedisServer, find_binaries
from tests.servers.redis_tls import PASSWORD, TlsRedisServer

TLS = "tls"
# The embedded server is what all tests run on; the gate repeats them on the system's Redis, plain and over TLS.
KINDS = [
    pytest.param(kind, marks=[] if kind == "valkey" else pytest.mark.gate)
    for kind in [*sorted(find_binaries()), *([TLS] if "redis" in find_binaries() else [])]
]


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if request.param != TLS:
        with RedisServer(request.param) as running:
            yield running
        return
    with TlsRedisServer() as running:
        # All that the tests do is done by a user of the server's access list, on the store's own keys.
        with running.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~feature*", "+@all")
        running.url = running.url_of("app")
        yield running


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> LayoutName:
    return request.param


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    """A plain client of an empty server."""
    with server.client() as client:
        client.flushall()
        yield client
