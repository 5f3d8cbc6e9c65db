"""The registry's databases, SQLite and a real PostgreSQL, and groups to register."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from feature_store.clock import FixedClock
from feature_store.registry.registry import Registry
from tests.registry.groups import NOW
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a registry that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'made' / 'later' / 'registry.db'}"
    database: str = request.getfixturevalue("database")
    # Emptying one database takes a tenth of the time of making another.
    with psycopg.connect(database) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return database


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def connect(url: str, clock: FixedClock) -> Iterator[Callable[[], Registry]]:
    """Opens the same registry any number of times, as other processes would."""
    opened: list[Registry] = []

    def open_registry() -> Registry:
        opened.append(Registry(url, clock))
        return opened[-1]

    yield open_registry
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(connect: Callable[[], Registry]) -> Registry:
    return connect()
