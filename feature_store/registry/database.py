"""The registry's database: URL, connections, transactions, the one write lock, migrations, and its errors.

What is stored and by which rules does not belong here.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, NullPool, column, create_engine, event, inspect, make_url, select, table
from sqlalchemy import text as sql
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from feature_store.errors import NeverAppliedError, RegistryError, RegistryUnreachableError, SettingsError
from feature_store.forking import renew_in_children
from feature_store.registry.tables import HEAD, VERSION_TABLE
from feature_store.setting_urls import REGISTRY, check_registry_url, masked, without_secrets

_POSTGRESQL_DRIVERS = ("psycopg", "psycopg2")
_UNDEFINED = {"42P01", "42703"}  # SQLSTATE of an undefined table and an undefined column
_WRITE_LOCK_KEY = 0x6665_6174_7374_6F72  # one advisory lock per database; the number only has to be ours
_LOCK_WAIT_SECONDS = 60
_CONNECT_SECONDS = 10

# Alembic keeps the running migration in module globals: one at a time in a process, whatever the database.
_alembic_lock = threading.Lock()


class Database:
    """One registry database, SQLite or PostgreSQL. Nothing connects before the first transaction.

    Args:
        url: SQLAlchemy URL: `sqlite:///file` or `postgresql://...`.

    Raises:
        SettingsError: If the URL is malformed, names another database, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._file = Path(self._url.database or "") if self._url.get_backend_name() == "sqlite" else None
        self._engine = _sqlite_engine(self._url) if self._file else _postgresql_engine(self._url)
        renew_in_children(self)

    @property
    def place(self) -> str:
        """Where the registry is, for messages: without user, password or options."""
        if self._file:
            return str(self._file)
        hosts = self._url.host or self._url.query.get("host") or "localhost"
        host = hosts if isinstance(hosts, str) else ",".join(hosts)
        return f"postgresql://{host}{f':{self._url.port}' if self._url.port else ''}/{self._url.database or ''}"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Opens a transaction for reading.

        Raises:
            RegistryError: If the database does not answer, or has no tables of the registry.
        """
        if self._file and not self._file.exists():
            raise self._not_applied()  # connecting would leave an empty file behind
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Opens a transaction that holds the registry's write lock from its first to its last statement.

        Raises:
            RegistryError: If the database does not answer, refuses, or has no tables of the registry.
        """
        if self._file:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RegistryError(
                    f"The folder of the registry {self.place} cannot be made: {error.strerror}. "
                    f"Let {REGISTRY} name a file in a folder that can be written."
                ) from None
        with self._transaction(write=True) as connection:
            yield connection

    def migrate(self) -> None:
        """Brings the tables to the newest revision; a few milliseconds when they are there already.

        Raises:
            RegistryError: If the database does not answer, or was migrated by a newer version of the library.
        """
        if self._file is None or self._file.exists():
            with self._transaction(write=False) as connection:
                if _revision(connection) == HEAD:
                    return
        with self.writing() as connection:
            # Another process may have migrated while this one waited for the lock.
            if _revision(connection) != HEAD:
                self._upgrade(connection)

    def close(self) -> None:
        """Closes all connections. The next transaction opens new ones."""
        self._engine.dispose()

    def after_fork(self) -> None:
        """Gives a forked process connections of its own; its parent's stay open, for its parent."""
        self._engine.dispose(close=False)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            with _alembic_lock:
                command.upgrade(config, "head")
        except CommandError:
            raise RegistryError(
                f"The registry {self.place} is at revision {_revision(connection)!r}, which this version of "
                f"feature-store does not know (its newest is {HEAD!r}): upgrade feature-store."
            ) from None

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(registry_write=write) as connection, connection.begin():
                if write and self._file is None:
                    connection.execute(sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_SECONDS}s'"))
                    connection.execute(sql("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK_KEY})
                yield connection
        except SQLAlchemyError as error:
            # Not chained: a driver's error may carry the connection's arguments, the password among them.
            raise self._error(error) from None

    def _error(self, error: SQLAlchemyError) -> RegistryError:
        if not isinstance(error, DBAPIError):
            return RegistryError(f"The registry {self.place} refused: {self._masked(error)}")
        if _is_undefined(error):
            return self._not_applied()
        message = self._masked(error.orig)
        if error.statement is None:
            remedy = (
                "Check that the folder exists and can be read and written"
                if self._file
                else "Check that PostgreSQL runs there, that the database exists and that the user may connect"
            )
            return RegistryUnreachableError(
                f"The registry {self.place} does not answer: {message}. {remedy}, and that {REGISTRY} names it."
            )
        if "locked" in message or "lock timeout" in message:
            return RegistryUnreachableError(
                f"The registry {self.place} stayed locked by another process, nothing was written: {message}. "
                "Try again once that process is done, or end it."
            )
        return RegistryError(f"The registry {self.place} refused: {message}.")

    def _not_applied(self) -> RegistryError:
        found = None
        if self._file is None or self._file.exists():
            with self._transaction(write=False) as connection:
                found = _revision(connection)
        if found is None:
            return NeverAppliedError(
                f"The registry {self.place} has never been applied: run `feature-store apply`, "
                f"or let {REGISTRY} name the registry that was."
            )
        return RegistryError(
            f"The registry {self.place} is at revision {found!r}, this version of feature-store needs {HEAD!r}: "
            "run `feature-store apply` to migrate it, or upgrade feature-store if the registry is the newer one."
        )

    def _masked(self, error: BaseException | None) -> str:
        message = " ".join(str(error).split()).rstrip(".")
        return without_secrets(message, self._url.render_as_string(hide_password=False))


def plain_json(value: Any) -> Any:
    """Returns `value` as it reads back from a JSON column: NaN as None, tuples as lists.

    Raises:
        TypeError: If it holds what JSON has no word for.
        ValueError: If it holds text that is not valid Unicode.
    """
    return msgspec.json.decode(msgspec.json.encode(value))


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return revision


def _is_undefined(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return "no such table" in str(error.orig) or "no such column" in str(error.orig)
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return state in _UNDEFINED


def _parsed(text: str) -> URL:
    check_registry_url(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"{REGISTRY} is not a database URL, got {masked(text)!r}: SQLAlchemy cannot read it."
        ) from None
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(Path(url.database or "").absolute()))
    return url.set(drivername=f"postgresql+{_postgresql_driver(url)}")


def _postgresql_driver(url: URL) -> str:
    _, _, asked = url.drivername.partition("+")
    for driver in (asked,) if asked else _POSTGRESQL_DRIVERS:
        try:
            importlib.import_module(driver)
        except ImportError:
            continue
        return driver
    raise SettingsError(
        f"{REGISTRY} names PostgreSQL, but no driver is installed: pip install 'feature-store[postgresql]'."
    )


def _sqlite_engine(url: URL) -> Engine:
    # A connection costs well under a millisecond: none is kept, so a replaced file is seen at once.
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        json_serializer=_to_json,
        json_deserializer=msgspec.json.decode,
        connect_args={} if "timeout" in url.query else {"timeout": _LOCK_WAIT_SECONDS},
    )

    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        del record
        # The driver would begin transactions late and never before DDL: begin them ourselves.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    def on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("registry_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url,
        pool_size=2,
        pool_pre_ping=True,
        # What another process committed while this one waited for the lock must be visible after it.
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        json_serializer=_to_json,
        json_deserializer=msgspec.json.decode,
        connect_args={} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS},
    )
