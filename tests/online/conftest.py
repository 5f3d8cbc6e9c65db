"""Real servers for the tests of the online store: one deployment per kind and test process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from redis import Redis

from feature_store.clock import FixedClock
from feature_store.online.store import OnlineStore
from tests.online.deployments import KINDS, Deployment, running
from tests.online.groups import LAYOUTS, LayoutName, at

# The embedded server is what all tests run on; the gate repeats them on the other deployments.
EVERY_KIND = [pytest.param(kind, marks=[] if kind == "valkey" else pytest.mark.needs_redis) for kind in KINDS]


@pytest.fixture(scope="session", params=EVERY_KIND)
def server(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with running(request.param) as deployment:
        yield deployment


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> LayoutName:
    return request.param


@pytest.fixture
def redis(server: Deployment) -> Iterator[Redis]:
    """A plain client of an empty deployment; of a cluster one that finds the node of each key."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def nodes(server: Deployment) -> Iterator[list[Redis]]:
    """Plain clients, one per server that holds keys, for what is done to servers and not to keys."""
    with ExitStack() as stack:
        yield [stack.enter_context(node.client()) for node in server.nodes]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at(1))


@pytest.fixture
def store(server: Deployment, clock: FixedClock) -> Iterator[OnlineStore]:
    """A store at the time of `clock`, one for all examples of a test: to connect takes longer than most of them."""
    with OnlineStore.connect(server.url, clock) as connected:
        yield connected
