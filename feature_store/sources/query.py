"""Events that a SQL query gives: on a warehouse, through its ADBC driver, or in a DuckDB file.

The query is asked for a window at a time: a condition on its time column is put around it, which planners push down.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from feature_store.errors import MissingSourceError, SettingsError
from feature_store.partitions import Window
from feature_store.sources.table import TableSource, digest, optional_module, utc

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class QuerySource(TableSource):
    """Events that a query gives.

    Attributes:
        query: A `SELECT` without a semicolon at its end.
        version_column: Column of the query that grows with each change of a row, such as `updated_at`: with it, a
            changed row changes its day's fingerprint. Without it, only rows that come or go do.
    """

    query: str
    version_column: str | None = None

    def survey(self) -> dict[date, str]:
        """Returns the days that have landed, each with a digest of how many events it has, and of their versions."""
        version = "NULL" if self.version_column is None else f"CAST(max({_quoted(self.version_column)}) AS VARCHAR)"
        time = _quoted(self.time_column)
        rows = self._fetch(
            f"SELECT CAST({time} AS DATE) AS day, count(*) AS n, min({time}) AS first, max({time}) AS last, "  # noqa: S608  # quoted names around the user's own query
            f"{version} AS version FROM ({self.query}) AS events WHERE {time} >= {_instant(self.start)} GROUP BY 1"
        ).to_pylist()
        by_day = {row["day"]: row for row in rows}
        latest = max((utc(row["last"]) or self.start for row in rows), default=None)
        return {day: digest(sorted(by_day.get(day, {}).items())) for day in self._days(latest)}

    def _events(self, window: Window) -> pl.LazyFrame:
        import polars as pl

        time = _quoted(self.time_column)
        rows = self._fetch(
            f"SELECT * FROM ({self.query}) AS events "  # noqa: S608  # quoted names around the user's own query
            f"WHERE {time} >= {_instant(window.start)} AND {time} < {_instant(window.end)}"
        )
        return pl.DataFrame(rows).lazy()

    def _latest(self) -> datetime | None:
        table = self._fetch(f"SELECT max({_quoted(self.time_column)}) AS latest FROM ({self.query}) AS events")  # noqa: S608  # likewise
        return utc(table.to_pylist()[0]["latest"])

    @abstractmethod
    def _fetch(self, statement: str) -> pa.Table:
        """Runs a statement with the session's time zone UTC, and returns its rows."""


_DRIVER = "adbc_driver_postgresql.dbapi"


@dataclass(frozen=True, kw_only=True)
class SqlSource(QuerySource):
    """Events that a query on a warehouse gives, fetched as Arrow by its ADBC driver.

    Attributes:
        url_variable: Name of the environment variable that holds the URL, with its secrets:
            `postgresql://user:password@host:5432/database`.
        driver: Module of the ADBC driver; that of PostgreSQL comes with the extra `postgresql`, others are packages of
            their own.
        session: Statements that are run first; they make UTC the session's time zone.
    """

    url_variable: str
    driver: str = _DRIVER
    session: tuple[str, ...] = ("SET TIME ZONE 'UTC'",)
    kind: str = field(init=False, default="sql")

    def _fetch(self, statement: str) -> pa.Table:
        url = os.environ.get(self.url_variable)
        if not url:
            raise SettingsError(
                f"Source {self.name!r} reads from the warehouse that the environment variable {self.url_variable} "
                "names, and it is not set."
            )
        driver = optional_module(self.driver, self.name, "postgresql" if self.driver == _DRIVER else None)
        try:
            connection = driver.connect(url)
        except driver.Error as error:
            text = str(error).replace(url, self.url_variable)
            raise MissingSourceError(f"The warehouse of source {self.name!r} does not answer: {text}") from None
        with closing(connection), closing(connection.cursor()) as cursor:
            for command in self.session:
                cursor.execute(command)
            cursor.execute(statement)
            return cursor.fetch_arrow_table()


@dataclass(frozen=True, kw_only=True)
class DuckDBSource(QuerySource):
    """Events that a query on a DuckDB file gives; the file is opened to be read only.

    Attributes:
        path: The file.
    """

    path: str
    kind: str = field(init=False, default="duckdb")

    def _fetch(self, statement: str) -> pa.Table:
        import duckdb

        try:
            connection = duckdb.connect(self.path, read_only=True)
        except duckdb.IOException as error:
            raise MissingSourceError(
                f"The DuckDB file {self.path} of source {self.name!r} cannot be opened: {error}"
            ) from error
        with closing(connection):
            connection.execute("SET TimeZone = 'UTC'")
            return connection.sql(statement).to_arrow_table()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _instant(moment: datetime) -> str:
    return f"CAST('{moment.isoformat(timespec='microseconds')}' AS TIMESTAMP WITH TIME ZONE)"
