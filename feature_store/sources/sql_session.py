"""Sessions on the databases that queries are asked of: statements with a time limit, counted, and without secrets.

What is asked, and what an answer means, does not belong here.
"""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from feature_store.durations import duration_text
from feature_store.errors import DefinitionError, MissingSourceError
from feature_store.setting_urls import without_secrets
from feature_store.sources.cost import Cost

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.sql.compiler import IdentifierPreparer

_Answer = TypeVar("_Answer")
_CANCELLED = "57014"  # SQLSTATE of a statement that a time limit or a user has ended
_RESTED_SECONDS = 2.0
"""A file changed as lately as this may change again within one tick of its clock: its times prove nothing yet."""


@dataclass(frozen=True, slots=True)
class State:
    """What a database says of its own content, without reading it.

    Attributes:
        content: While it stays the same, so does what a query gives. None where the database has no such thing.
        removals: While it stays the same, no row was deleted or replaced in bulk. None where that is not known.
        is_local: Whether all of it is read here: no server is kept from other work.
    """

    content: Hashable = None
    removals: Hashable = None
    is_local: bool = False


class Session(ABC):
    """A connection on which a source asks its statements, one after another.

    Args:
        source: Name of the source, for errors.
        timeout: How long a statement may take.
        secret: What must not be shown: the URL.
    """

    checksum = ""
    """Aggregate over the rows `events` of a group that changes with any value of theirs; empty where there is none."""

    knows_types = True
    """Whether literals of times are written as this library writes them."""

    def __init__(self, source: str, timeout: timedelta, secret: str = "") -> None:
        self._source = source
        self._timeout = timeout
        self._secret = secret
        self.cost = Cost()

    def fetch(self, statement: str) -> pa.Table:
        """Runs a statement and returns its rows.

        Raises:
            MissingSourceError: If the database rejects it, or takes too long.
        """
        rows = self._asked(lambda: self._fetch(statement))
        self.cost.rows += rows.num_rows
        return rows

    def schema(self, statement: str) -> pa.Schema:
        """Returns the columns that a statement would give, without running it."""
        return self._asked(lambda: self._schema(statement))

    @abstractmethod
    def state(self, query: str, *, versioned: bool) -> State:
        """Returns what the database says of the content of a query.

        Args:
            query: The query.
            versioned: Whether rows that were updated in place are found by their version; if not, they count among
                those that were replaced.
        """

    @abstractmethod
    def _fetch(self, statement: str) -> pa.Table: ...

    @abstractmethod
    def _schema(self, statement: str) -> pa.Schema: ...

    @abstractmethod
    def _cancel(self) -> None: ...

    def _asked(self, ask: Callable[[], _Answer]) -> _Answer:
        began = time.monotonic()
        watch = threading.Timer(self._timeout.total_seconds(), self._interrupt)
        watch.daemon = True
        watch.start()
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  each driver has errors of its own
            failure = error
        finally:
            watch.cancel()
            self.cost.statements += 1
            self.cost.seconds += time.monotonic() - began
        # Raised outside of the handler: a driver's error may hold the URL, and would be its context.
        raise self._rejected(failure, time.monotonic() - began)

    def _interrupt(self) -> None:
        with suppress(Exception):
            self._cancel()

    def _rejected(self, error: Exception, seconds: float) -> MissingSourceError:
        late = getattr(error, "sqlstate", None) == _CANCELLED or seconds >= self._timeout.total_seconds()
        if late:
            return MissingSourceError(
                f"A statement of source {self._source!r} was ended after {duration_text(self._timeout)}, its "
                "`timeout`. Let the database find a day's events without reading the whole table (an index on the time "
                "column, partitions, clustering), or give the source more time."
            )
        text = without_secrets(_plain(error), self._secret)
        return MissingSourceError(
            f"The database of source {self._source!r} rejected its query: {text} Correct `query`, `time_column` or "
            "`version_column`, or the rights of the user."
        )


class AdbcSession(Session):
    """A session by an ADBC driver."""

    knows_types = False

    def __init__(self, source: str, timeout: timedelta, secret: str, connection: Any) -> None:
        super().__init__(source, timeout, secret)
        self._cursor = connection.cursor()

    def state(self, query: str, *, versioned: bool) -> State:
        """See `Session.state`: of this database nothing is known."""
        del query, versioned
        return State()

    def run(self, statement: str) -> None:
        """Runs a statement that gives no rows."""
        self._asked(lambda: self._cursor.execute(statement))

    def _fetch(self, statement: str) -> pa.Table:
        self._cursor.execute(statement)
        return self._cursor.fetch_arrow_table()

    def _schema(self, statement: str) -> pa.Schema:
        return self._cursor.adbc_execute_schema(statement)

    def _cancel(self) -> None:
        self._cursor.adbc_cancel()


class PostgresqlSession(AdbcSession):
    """A session on PostgreSQL, which says by its snapshots and statistics what may have changed."""

    checksum = "CAST(sum(CAST(hashtextextended(CAST(events AS text), 0) AS numeric)) AS text)"
    knows_types = True

    def limit(self) -> None:
        """Sets the server's own time limit of statements: it holds, too, when this process is gone."""
        self.run(f"SET statement_timeout = {max(1, int(self._timeout.total_seconds() * 1000))}")

    def state(self, query: str, *, versioned: bool) -> State:
        """See `Session.state`.

        The snapshot names the transactions that have ended: without a new one, nothing has changed. The statistics
        count what was deleted and updated in the tables that the plan of the query names, some moments after it was.
        """
        tables, foreign = self._tables(query)
        counted = "n_tup_del" if versioned else "n_tup_ins + n_tup_upd + n_tup_del"
        found = self.fetch(
            "SELECT CAST(pg_current_snapshot() AS text) AS content, (SELECT string_agg(concat_ws(':', c.oid, "  # noqa: S608  # numbers
            f"pg_relation_filenode(c.oid), {counted}), ' ' ORDER BY c.oid) FROM pg_class c "
            "LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid IN (SELECT CAST(n AS regclass)::oid FROM "
            f"unnest(CAST(ARRAY[{', '.join(tables)}] AS text[])) n)) AS removals"
        ).to_pylist()[0]
        return State(None if foreign else found["content"], found["removals"])

    def _tables(self, query: str) -> tuple[list[str], bool]:
        """Returns the tables that a query reads, as literals, and whether some of them are another server's."""
        option = "adbc.postgresql.use_copy"
        self._cursor.adbc_statement.set_options(**{option: "false"})
        try:
            rows = self.fetch(f"EXPLAIN (FORMAT JSON, VERBOSE) {query}")
        finally:
            self._cursor.adbc_statement.set_options(**{option: "true"})
        names: set[str] = set()
        foreign = False
        nodes = [plan["Plan"] for plan in json.loads(rows.column(0)[0].as_py())]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            foreign |= "Foreign" in node["Node Type"]
            if "Relation Name" in node:
                quoted = ".".join('"' + node[part].replace('"', '""') + '"' for part in ("Schema", "Relation Name"))
                names.add("'" + quoted.replace("'", "''") + "'")
        return sorted(names), foreign


class DuckDBSession(Session):
    """A session on a DuckDB file."""

    checksum = "CAST(sum(hash(events)) AS VARCHAR)"

    def __init__(self, source: str, timeout: timedelta, path: str, connection: Any) -> None:
        super().__init__(source, timeout)
        self._path = path
        self._connection = connection

    def state(self, query: str, *, versioned: bool) -> State:
        """See `Session.state`: while the file rests, nothing has changed."""
        del query, versioned
        found = []
        for path in (Path(self._path), Path(f"{self._path}.wal")):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        rested = all(time.time() - modified / 1e9 > _RESTED_SECONDS for _, _, modified, _ in found)
        return State(tuple(found) if rested else None, tuple(found), is_local=True)

    def _fetch(self, statement: str) -> pa.Table:
        return self._connection.sql(statement).to_arrow_table()

    def _schema(self, statement: str) -> pa.Schema:
        return self._connection.sql(statement).limit(0).to_arrow_table().schema

    def _cancel(self) -> None:
        self._connection.interrupt()


@lru_cache(maxsize=16)
def identifiers(dialect: str, source: str) -> IdentifierPreparer:
    """Returns what quotes identifiers as a dialect of SQLAlchemy does.

    Raises:
        DefinitionError: If SQLAlchemy knows no such dialect.
    """
    from sqlalchemy.dialects import registry
    from sqlalchemy.engine.default import DefaultDialect
    from sqlalchemy.exc import NoSuchModuleError

    try:
        found = DefaultDialect if dialect == "default" else registry.load(dialect)
        # Statements have no parameters: a percent sign in a name is a percent sign.
        return found(paramstyle="named").identifier_preparer
    except NoSuchModuleError:
        raise DefinitionError(
            f"Source {source!r}: SQLAlchemy knows no dialect {dialect!r}. Name one that is installed, such as "
            "'postgresql', or 'default' for that of the SQL standard."
        ) from None


def _plain(error: Exception) -> str:
    """Returns an error's text in one line, without the statement, which is the library's own."""
    text = str(error).partition("\n\nQuery was:")[0].partition("\nLINE ")[0]
    return f"{' '.join(text.split()).rstrip('.')}."
