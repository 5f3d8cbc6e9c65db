"""What all tests share: a private Redis, and whole feature stores on temporary folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from feature_store.clock import Clock, FixedClock, SystemClock
from feature_store.registry.registry import Registry
from feature_store.store import FeatureStore
from tests.servers.kafka import MISSING as MISSING_KAFKA
from tests.servers.kafka import KafkaServer, find_jars
from tests.servers.postgres import MISSING, PostgresServer, find_binaries
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server

# How long an example takes says something of the machine alone.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# A thousand small stores wait for the disk thousands of times. Where memory holds their folders, they do not.
if "TMPDIR" not in os.environ and Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 8 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# No test touches the Dagster instance of the one who runs it: `make` names one.
os.environ.pop("DAGSTER_HOME", None)

REQUIRE_ALL = os.environ.get("FEATURE_STORE_TESTS_REQUIRE") == "all"

# What keeps a test out of the default run, by marker, in words that follow a number. `pyproject.toml` explains each.
_REASONS = {
    "needs_kafka": "need Kafka",
    "needs_spark": "need Spark",
    "needs_s3": "need S3",
    "needs_postgres": "need PostgreSQL",
    "needs_redis": "need fleets of Redis",
    "needs_browser": "need Chromium",
    "needs_feast": "need Feast",
    "slow": "are slow",
}
_FIXTURES = {
    "_kafka_jars": "needs_kafka",
    "kafka_server": "needs_kafka",
    "spark": "needs_spark",
    "s3_server": "needs_s3",
    "postgres": "needs_postgres",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where everything is required, as in the gate, what is left out is a failure."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out where nothing may be: {call.excinfo.value if call.excinfo else item.name}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by the servers that their fixtures start, and as the gate's all that needs one or is slow."""
    for item in items:
        for fixture in _FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(_FIXTURES[fixture])
        if _reason(item) is not None:
            item.add_marker("gate")
        if item.get_closest_marker("needs_spark"):
            # One Spark application for all of them, in one process: it takes seconds to start.
            item.add_marker(pytest.mark.xdist_group("spark"))


def _reason(item: pytest.Item) -> str | None:
    """Returns the first marker that leaves a test to the gate."""
    return next((name for name in _REASONS if item.get_closest_marker(name)), None)


_LEFT_OUT = pytest.StashKey[dict[str, int]]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    left_out = items[0].config.stash.setdefault(_LEFT_OUT, {})
    for item in items:
        reason = "long" if item.get_closest_marker("long") else _reason(item) or ""
        left_out[reason] = left_out.get(reason, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells the process that shows the results what this one has left out."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(_LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    del error
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    left_out = config.stash.get(_LEFT_OUT, {})
    if not left_out or config.getoption("markexpr") != "not gate and not long":
        return
    reasons = [f"{left_out[name]} {words}" for name, words in _REASONS.items() if name in left_out]
    if reasons:
        number = sum(left_out[name] for name in _REASONS if name in left_out)
        terminalreporter.write_line(f"{number} left to the gate, .ci/run (pytest -m gate): {', '.join(reasons)}.")
    if "long" in left_out:
        terminalreporter.write_line(f"{left_out['long']} take longer still, and are run by hand (pytest -m long).")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _kafka_jars() -> None:
    if find_jars() is None:
        pytest.skip(MISSING_KAFKA)


@pytest.fixture(scope="session")
def kafka_server(_kafka_jars: None) -> Iterator[KafkaServer]:
    with KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if find_binaries() is None:
        pytest.skip(MISSING)
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_root(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Root in S3 that nothing lies below; the environment says how to get there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.new_root()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis, with the patience that a machine full of other tests asks for."""
    redis_server.client().flushall()
    return f"{redis_server.url}?socket_timeout=20"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2024, 3, 10, tzinfo=UTC))


@pytest.fixture(scope="session")
def migrated_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry, to be copied: a thousand tests need not make its tables a thousand times."""
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    registry = Registry(f"sqlite:///{path}", SystemClock())
    registry.migrate()
    registry.close()
    return path


@pytest.fixture
def open_store(
    tmp_path: Path, redis_url: str, clock: FixedClock, migrated_registry: Path
) -> Iterator[Callable[..., FeatureStore]]:
    """Opens feature stores on the same folder, Redis and registry."""
    opened: list[FeatureStore] = []
    shutil.copy(migrated_registry, tmp_path / "registry.db")

    def open_one(at: Clock | None = None) -> FeatureStore:
        store = FeatureStore(
            offline=tmp_path / "offline",
            online=redis_url,
            registry=f"sqlite:///{tmp_path / 'registry.db'}",
            clock=at or clock,
        )
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., FeatureStore]) -> FeatureStore:
    return open_store()
