"""Migrations, concurrent writers, URLs, and the errors of a database that does not answer."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, create_engine, inspect, text

from feature_store.clock import FixedClock
from feature_store.errors import RegistryError, SettingsError
from feature_store.registry import tables
from feature_store.registry.registry import Registry
from tests.registry.groups import NOW, group
from tests.servers.postgres import USER

SECRET = "hunter2-hunter2"


def driven(url):
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_migrations_lead_to_the_declared_tables(registry, url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    registry.migrate()
    engine = create_engine(driven(url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == tables.HEAD
        found = inspect(connection)
        for table in tables.metadata.sorted_tables:
            names = {constraint["name"] for constraint in found.get_check_constraints(table.name)}
            assert names == {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
            assert found.get_pk_constraint(table.name)["name"] == f"pk_{table.name}"
    engine.dispose()


def test_a_forked_process_reads_on_connections_of_its_own(registry):
    registry.apply([group("visits")])
    child = os.fork()
    if child == 0:
        try:
            alike = all(set(registry.catalog().groups) == {"visits"} for _ in range(20))
        finally:
            os._exit(0 if alike else 1)
    assert all(set(registry.catalog().groups) == {"visits"} for _ in range(20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_declared_head_is_the_newest_migration():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD


def test_migrating_again_costs_milliseconds(registry):
    registry.migrate()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        registry.migrate()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


def test_the_tables_of_others_in_the_same_database_are_left_alone(registry, url):
    """Dagster and others keep an `alembic_version` of their own."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(driven(url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    registry.apply([group()])
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"
    engine.dispose()


def test_a_registry_of_a_newer_version_is_not_written(registry, url):
    registry.migrate()
    engine = create_engine(driven(url))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(RegistryError, match=r"revision '9999'.*upgrade feature-store"):
        registry.apply([group()])


class MeetingClock(FixedClock):
    """Asked for the time in the middle of an apply; waits there a moment for another apply to get as far."""

    def __init__(self):
        super().__init__(NOW)
        self.met = False
        self._barrier = threading.Barrier(2)

    def now(self):
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(timeout=0.5)
            self.met = True
        return super().now()


def test_no_two_applies_are_ever_inside_the_registry(url):
    clock = MeetingClock()
    registries = [Registry(url, clock) for _ in range(2)]
    registries[0].migrate()
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda registry: registry.apply([group()]), registries))
    assert not clock.met
    assert sorted(len(report.created) for report in reports) == [0, 3]
    for registry in registries:
        registry.close()


def test_threads_that_apply_at_once_all_succeed_and_one_registers(connect):
    registries = [connect() for _ in range(4)]
    together = threading.Barrier(len(registries))
    groups = [group(), group("other", {"views": int})]

    def apply(registry):
        together.wait()
        return registry.apply(groups)

    with ThreadPoolExecutor(len(registries)) as pool:
        reports = list(pool.map(apply, registries))

    assert sorted(len(report.created) for report in reports) == [0, 0, 0, 5]
    assert sorted(len(report.unchanged) for report in reports) == [0, 5, 5, 5]
    assert len(connect().catalog().features) == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # nothing but the registry runs in the children
def test_processes_that_apply_at_once_all_succeed_and_one_registers(connect, url, clock):
    # Forked, for a fresh interpreter would spend seconds on importing what groups are declared with.
    context = multiprocessing.get_context("fork")
    together, created = context.Barrier(3), context.SimpleQueue()
    declared = [group()]

    def apply():
        registry = Registry(url, clock)
        together.wait(30)
        created.put(len(registry.apply(declared).created))
        registry.close()

    processes = [context.Process(target=apply) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(created.get() for _ in processes) == [0, 0, 3]
    created.close()
    assert len(connect().catalog().features) == 2


def test_readers_and_writers_at_once_see_whole_applies(connect):
    connect().apply([group(features={"a_0": float, "b_0": float})])
    stop = threading.Event()
    seen = []

    def read():
        reader = connect()
        while not stop.is_set():
            features = reader.catalog().features.values()
            seen.append(len({feature.owner for feature in features}))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writer = connect()
        for number in range(20):
            writer.apply([group(features={"a_0": float, "b_0": float}, owner=f"owner {number}")])
        stop.set()
        for reader in readers:
            reader.result()
    assert seen
    assert set(seen) == {1}


def test_a_registry_that_stays_locked_says_so(clock, tmp_path):
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}?timeout=0.05", clock)
    registry.migrate()
    with closing(sqlite3.connect(tmp_path / "registry.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match=r"registry\.db stayed locked .* Try again"):
            registry.apply([group()])
        assert registry.catalog().features == {}
    assert len(registry.apply([group()]).created) == 3


def test_a_registry_answers_again_after_close(registry):
    registry.apply([group()])
    registry.close()
    assert len(registry.catalog().features) == 2


def test_a_read_only_registry_can_be_read(clock, tmp_path):
    path = tmp_path / "registry.db"
    Registry(f"sqlite:///{path}", clock).apply([group()])
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert len(Registry(f"sqlite:///{path}", clock).catalog().features) == 2
    finally:
        tmp_path.chmod(0o755)


def test_a_relative_file_stays_the_same_when_the_working_directory_changes(clock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = Registry("sqlite:///registry.db", clock)
    registry.apply([group()])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(registry.catalog().features) == 2


def test_a_file_that_is_no_database_is_named(clock, tmp_path):
    path = tmp_path / "registry.db"
    path.write_text("plain text, long enough to be read as a header of a database file " * 4)
    with pytest.raises(RegistryError, match=r"registry\.db.*not a database"):
        Registry(f"sqlite:///{path}", clock).apply([group()])
    assert path.read_text().startswith("plain text")


def test_a_folder_that_cannot_be_made_is_named(clock, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match=r"file/registry\.db cannot be made"):
        Registry(f"sqlite:///{tmp_path / 'file' / 'registry.db'}", clock).migrate()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a database URL"),
        (f"user:{SECRET}@host/db", "not a database URL"),
        (f"postgresql://user:{SECRET}@host:port/db", "not a database URL"),
        (f"postgresql://user:pa@{SECRET}@host/db", "not a database URL|more than one @"),
        (f"mysql://user:{SECRET}@host/db", "'mysql'.*SQLite or PostgreSQL"),
        (f"postgresql+asyncpg://user:{SECRET}@host/db", "'postgresql.asyncpg'"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:registry.db?mode=ro&uri=true", "names no file"),
    ],
)
def test_urls_that_name_no_registry_are_refused_without_their_password(url, words, clock):
    with pytest.raises(SettingsError, match=words) as caught:
        Registry(url, clock)
    assert SECRET not in _everything(caught.value)


@pytest.mark.parametrize("query", ["", f"?password={SECRET}&application_name=x"])
def test_a_postgresql_that_does_not_answer_is_named_without_its_password(clock, query, caplog):
    caplog.set_level("DEBUG")
    registry = Registry(f"postgresql://somebody:{SECRET}@127.0.0.1:1/features{query}", clock)
    assert SECRET not in repr(registry)
    for call in (registry.catalog, registry.migrate, lambda: registry.apply([group()])):
        with pytest.raises(
            RegistryError, match=r"postgresql://127\.0\.0\.1:1/features does not answer.*Check"
        ) as caught:
            call()
        assert SECRET not in _everything(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_works(postgres, clock, scheme):
    url = postgres.create_database()
    registry = Registry(url.replace("postgresql", scheme, 1), clock)
    registry.apply([group()])
    assert [feature.created_at for feature in registry.catalog().features.values()] == [clock.now()] * 2
    registry.close()


def test_a_wrong_password_is_refused_without_showing_it(postgres, clock):
    registry = Registry(postgres.url("postgres", password=SECRET), clock)
    with pytest.raises(RegistryError, match="password authentication failed") as caught:
        registry.catalog()
    assert SECRET not in _everything(caught.value)
    assert str(postgres.folder) in str(caught.value)


def test_a_connection_that_the_server_closed_is_replaced(postgres, clock):
    import psycopg

    registry = Registry(postgres.create_database(), clock)
    registry.apply([group()])
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid()"
        admin.execute(query, [USER])
    assert len(registry.catalog().features) == 2
    registry.close()


def test_reading_imports_neither_alembic_nor_polars(clock, tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    Registry(url, clock).apply([group()])
    code = """
import sys
from feature_store.clock import SystemClock
from feature_store.registry.registry import Registry
registry = Registry(sys.argv[1], SystemClock())
assert len(registry.catalog().features) == 2
registry.close()
print([name for name in ("alembic", "polars", "pandera", "dagster", "sqlalchemy.orm") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, url],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.strip() == "[]"


def _everything(error):
    """Returns all that a traceback or a log of the error could show."""
    import traceback

    return "".join(traceback.format_exception(error)) + repr(error.__dict__)
