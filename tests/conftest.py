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


_GATE_FIXTURES = {"kafka_server", "s3_server", "postgres"}
_GATE_FOLDERS = {"spark", "serving", "sources"}


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
    """Leaves to the gate what needs many servers, or those of others."""
    folders = {Path(__file__).with_name(folder) for folder in _GATE_FOLDERS}
    for item in items:
        fixtures = _GATE_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if fixtures or (folders.intersection(item.path.parents)):
            item.add_marker(pytest.mark.gate)
        if "spark" in item.path.parent.name:
            # One Spark application for all of them.
            item.add_marker(pytest.mark.xdist_group("spark"))


_LEFT_OUT = pytest.StashKey[int]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    config = items[0].config
    config.stash[_LEFT_OUT] = config.stash.get(_LEFT_OUT, 0) + len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells the process that shows the results what this one has left out."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    del error
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out and config.getoption("markexpr") == "not gate and not long":
        terminalreporter.write_line(
            f"{left_out} tests are left out: they take long or need servers of others. Those marked gate are run by "
            ".ci/run (pytest -m gate), those marked long by hand (pytest -m long)."
        )


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
