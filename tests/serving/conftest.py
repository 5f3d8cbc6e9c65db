"""A shop with a few rows, and feature servers over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.servers.redis import RedisServer
from tests.serving.servers import NOW, TOKENS, Server, fill, open_shop


@pytest.fixture(scope="session")
def shop_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def environment(shop_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a store in which the shop is registered and has rows."""
    folder = tmp_path_factory.mktemp("shop")
    settings = {
        "FEATURE_STORE_OFFLINE": str(folder / "offline"),
        "FEATURE_STORE_ONLINE": shop_redis.url,
        "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
        "FEATURE_STORE_CLOCK": NOW.isoformat(),
        "FEATURE_STORE_DEFINITIONS": "tests.serving.shop",
        "FEATURE_STORE_SERVER_TOKENS": "",
    }
    with open_shop(settings) as store:
        fill(store)
    return settings


@pytest.fixture(scope="session")
def server(environment: dict[str, str]) -> Iterator[Server]:
    """A server without tokens."""
    with_definitions = Server(environment)
    yield with_definitions
    with_definitions.stop()


@pytest.fixture(scope="session")
def guarded(environment: dict[str, str]) -> Iterator[Server]:
    """A server with tokens."""
    server = Server({**environment, "FEATURE_STORE_SERVER_TOKENS": json.dumps(TOKENS)})
    yield server
    server.stop()


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Server]]:
    """Starts servers for one test: `start("--most-values", "10", FEATURE_STORE_ONLINE=...)`."""
    started: list[Server] = []

    def start_one(*options: str, **settings: str) -> Server:
        started.append(Server({**environment, **settings}, *options))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()
