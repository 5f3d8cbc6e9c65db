"""Real servers for the tests of the online store: one per kind and test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.online.groups import LAYOUTS, LayoutName
from tests.servers.redis import RedisServer, find_binaries

# The embedded server is what all tests run on; the gate repeats them on the system's Redis.
KINDS = [pytest.param(kind, marks=[] if kind == "valkey" else pytest.mark.gate) for kind in sorted(find_binaries())]


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
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
