"""Events that a SQL query gives: on a warehouse, through its ADBC driver, or in a DuckDB file.

The query is asked for a window at a time: a condition on its time column is put around it, which planners push down.
A look asks for what can have changed since the last one of its process; see `sql_look`.
"""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.errors import DefinitionError, MissingSourceError, SettingsError
from feature_store.partitions import Window
from feature_store.setting_urls import check_postgresql_url, without_secrets
from feature_store.sources.cost import remember_look
from feature_store.sources.sql_columns import SqlColumns
from feature_store.sources.sql_figures import Look, Moments, Question, present
from feature_store.sources.sql_look import MEMORY, Extent
from feature_store.sources.sql_session import AdbcSession, DuckDBSession, PostgresqlSession, Session, identifiers
from feature_store.sources.table import TableSource, digest, optional_module, utc

if TYPE_CHECKING:
    import polars as pl

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class QuerySource(TableSource):
    """Events that a query gives.

    Attributes:
        query: A `SELECT`.
        version_column: Column of the query that grows with each change of a row, whichever row it is, such as
            `updated_at`; best one with an index. A look then asks for the days of rows that have a late version,
            instead of the latest days.
        columns: Types of Polars that columns are to have, by name; the others follow from the database's types.
        full_look_every: How often all days are looked at, whatever is known to have changed: this finds what versions
            do not show, such as rows that were deleted.
        timeout: How long a statement may take.
    """

    query: str
    version_column: str | None = None
    columns: Mapping[str, pl.DataType] = field(default_factory=dict, hash=False)
    full_look_every: timedelta = timedelta(hours=1)
    timeout: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "query", self.query.strip().rstrip(";").rstrip())
        if not self.query:
            raise DefinitionError(f"Source {self.name!r} has an empty query: write a SELECT.")
        for name in ("full_look_every", "timeout"):
            if getattr(self, name) <= timedelta(0):
                raise DefinitionError(f"`{name}` of source {self.name!r} must be longer than nothing.")

    def survey(self) -> dict[date, str]:
        """Returns the days that have landed, each with a digest of the figures of its events."""
        began = time.monotonic()
        with self._session() as session:
            state = session.state(self.query, versioned=self.version_column is not None)
            seen = MEMORY.get(self._identity)
            versioned = self.version_column is not None
            extent: Extent = (
                "all" if seen is None else seen.to_ask(state, versioned=versioned, full_every=self.full_look_every)
            )
            if seen is None or extent != "nothing":
                seen = Look(self._question, session, began).at(extent, state, seen)
                MEMORY.keep(self._identity, seen)
            remember_look(self.name, session.cost)
            level = logging.DEBUG if extent == "nothing" else logging.INFO
            _LOG.log(level, "Look at source %r (%s): %s.", self.name, extent, session.cost)
        latest = max((utc(dict(figures)["last"]) or self.start for figures in seen.days.values()), default=None)
        return {day: digest(seen.days.get(day, ())) for day in self._days(latest)}

    def _events(self, window: Window) -> pl.LazyFrame:
        import polars as pl

        question = self._question
        with self._session() as session:
            given = session.schema(question.asked("*"))
            columns = SqlColumns.of(question, given, self.columns, knows_types=session.knows_types)
            asked = question.asked(", ".join(columns.expressions))
            schema = columns.frame(session.schema(asked).empty_table()).schema
            inside = Moments(question, given, knows_types=session.knows_types).inside(window.start, window.end)
        # The types of all columns are known without a row: none is read before it is needed.
        return pl.defer(lambda: self._fetched(f"{asked} WHERE {inside}", window, columns, schema), schema=schema)

    def _fetched(self, asked: str, window: Window, columns: SqlColumns, schema: pl.Schema) -> pl.DataFrame:
        with self._session() as session:
            frame = columns.frame(session.fetch(asked))
            _LOG.info("Events of source %r from %s to %s: %s.", self.name, window.start, window.end, session.cost)
        if frame.schema != schema:
            raise MissingSourceError(
                f"The columns of source {self.name!r} have changed while they were read, from {dict(schema)} to "
                f"{dict(frame.schema)}: read it again."
            )
        return frame

    def _latest(self) -> datetime | None:
        question = self._question
        with self._session() as session:
            moments = Moments(question, session.schema(question.asked("*")), knows_types=session.knows_types)
            asked = question.asked(f"max({moments.column}) AS latest", moments.inside(self.start, present()))
            return utc(session.fetch(asked).to_pylist()[0]["latest"])

    @property
    def _question(self) -> Question:
        quote = identifiers(self._dialect, self.name)
        return Question(self.name, self.query, self.time_column, self.version_column, self.start, quote)

    @property
    def _identity(self) -> Hashable:
        return self.name, self.query, self.time_column, self.version_column, self.start, self._place

    @property
    @abstractmethod
    def _place(self) -> str:
        """Which database it is."""

    @property
    @abstractmethod
    def _dialect(self) -> str:
        """Name of SQLAlchemy's dialect that quotes identifiers."""

    @abstractmethod
    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Opens a session whose time zone is UTC."""


_DRIVER = "adbc_driver_postgresql.dbapi"
_POSTGRESQL = "postgresql"


@dataclass(frozen=True, kw_only=True)
class SqlSource(QuerySource):
    """Events that a query on a warehouse gives, fetched as Arrow by its ADBC driver.

    Attributes:
        url_variable: Name of the environment variable that holds the URL, with its secrets:
            `postgresql://user:password@host:5432/database`, special characters of the password percent-encoded.
        driver: Module of the ADBC driver; that of PostgreSQL comes with the extra `postgresql`, others are packages of
            their own.
        dialect: Dialect of SQLAlchemy that quotes names of columns; `default` is that of the SQL standard.
        session: Statements that are run first; they make UTC the session's time zone.
    """

    url_variable: str
    driver: str = _DRIVER
    dialect: str = _POSTGRESQL
    session: tuple[str, ...] = ("SET TIME ZONE 'UTC'",)
    kind: str = field(init=False, default="sql")

    @property
    def _place(self) -> str:
        return os.environ.get(self.url_variable, "")

    @property
    def _dialect(self) -> str:
        return self.dialect

    @contextmanager
    def _session(self) -> Iterator[Session]:
        url = os.environ.get(self.url_variable)
        if not url:
            raise SettingsError(
                f"Source {self.name!r} reads from the warehouse that the environment variable {self.url_variable} "
                "names, and it is not set."
            )
        driver = optional_module(self.driver, self.name, "postgresql" if self.driver == _DRIVER else None)
        if self.driver == _DRIVER:
            check_postgresql_url(self.url_variable, url)
        connection = self._connected(driver, url)
        try:
            kind = PostgresqlSession if self.driver == _DRIVER else AdbcSession
            session = kind(self.name, self.timeout, url, connection)
            for command in self.session:
                session.run(command)
            if isinstance(session, PostgresqlSession):
                session.limit()
            yield session
        finally:
            with suppress(Exception):
                connection.close()

    def _connected(self, driver: Any, url: str) -> Any:
        reason = ""
        try:
            return driver.connect(_patient(url) if self.driver == _DRIVER else url)
        except driver.Error as error:
            reason = " ".join(without_secrets(str(error), url).split())
        # Outside of the handler: the driver's error is nobody's context.
        raise MissingSourceError(
            f"The warehouse of source {self.name!r} does not answer: {reason} Check {self.url_variable}, and that the "
            "user may connect from here."
        )


@dataclass(frozen=True, kw_only=True)
class DuckDBSource(QuerySource):
    """Events that a query on a DuckDB file gives; the file is opened to be read only.

    Attributes:
        path: The file.
    """

    path: str
    kind: str = field(init=False, default="duckdb")

    @property
    def _place(self) -> str:
        return str(Path(self.path).absolute())

    @property
    def _dialect(self) -> str:
        return _POSTGRESQL

    @contextmanager
    def _session(self) -> Iterator[Session]:
        import duckdb

        try:
            connection = duckdb.connect(self.path, read_only=True)
        except duckdb.Error as error:
            raise MissingSourceError(
                f"The DuckDB file {self.path} of source {self.name!r} cannot be opened: {error}"
            ) from error
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield DuckDBSession(self.name, self.timeout, self.path, connection)
        finally:
            connection.close()


def _patient(url: str) -> str:
    """Returns a PostgreSQL URL with a limit to the time that connecting may take."""
    if "connect_timeout=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}connect_timeout=10"
