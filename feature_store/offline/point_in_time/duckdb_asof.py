"""The DuckDB engine: point-in-time reads in SQL, over Parquet in place, spilling to disk when memory ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import FeatureStoreError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.duckdb_windows import windows_by_duckdb
from feature_store.offline.point_in_time.engine import GroupHistory, Progress, VisibleRows, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.offline.sql import exact_path, identifier, literal
from feature_store.storage.duckdb_files import register_files

# No join key and no feature can have a leading underscore.
AS_OF = "_as_of"
ROW = "_row"
LABELS = "_labels"
COUNTS_FROM = "_counts_from"


class DuckDBEngine:
    """Finds latest rows by an AS OF join in DuckDB.

    Args:
        connect: Returns a context manager that yields a connection, such as `DuckDBResource.get_connection`. By
            default each read opens an in-memory database that spills to a temporary folder.
        memory_limit: What DuckDB may use before it spills, such as `4GB`; DuckDB's own default if None. It holds for
            the whole database that `connect` opens.
    """

    name = "duckdb"

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None,
        memory_limit: str | None = None,
    ) -> None:
        self._connect = connect or _in_memory
        self._memory_limit = memory_limit

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: Progress | None = None) -> SelectedRows:
        """Returns the latest row of each label's entity; see `PointInTimeEngine.latest`.

        Raises:
            FeatureStoreError: If DuckDB ran out of memory.
        """
        numbered = labels.keys.with_columns(labels.as_of.alias(AS_OF)).with_row_index(ROW)
        with self._cursor(history.files) as cursor:
            cursor.register(LABELS, numbered.to_arrow())
            try:
                found = cursor.sql(
                    latest_rows_sql(
                        tuple(history.group.entity.join_keys),
                        history.columns,
                        complete=history.complete,
                        strict=history.strict,
                    ),
                    params={
                        "files": [exact_path(file.path) for file in history.files],
                        "span_start": history.span.start,
                        "span_end": history.span.end,
                    },
                ).to_arrow_table()
            except duckdb.OutOfMemoryException as error:
                raise FeatureStoreError(
                    f"DuckDB ran out of memory reading group {history.group.name!r} for {numbered.height} labels: "
                    f"raise memory_limit, or read fewer labels at a time. {error}"
                ) from error
            finally:
                cursor.unregister(LABELS)
        rows = pl.DataFrame(found)
        if progress is not None:
            progress(history.group.name, 1.0)
        return SelectedRows(numbered.select(ROW).join(rows, on=ROW, how="left", maintain_order="left").drop(ROW))

    def windows(
        self, labels: EntityLabels, history: WindowHistory, progress: Progress | None = None
    ) -> Sequence[pl.Series]:
        """Returns the value of each window for each label; see `PointInTimeEngine.windows`."""
        with self._cursor(history.files) as cursor:
            found = windows_by_duckdb(cursor, labels, history)
        if progress is not None:
            progress(history.group.name, 1.0)
        return found

    @contextmanager
    def _cursor(self, files: Sequence[PartitionFile]) -> Iterator[duckdb.DuckDBPyConnection]:
        # A cursor has settings and registered tables of its own: the caller's connection stays as it was.
        with self._connect() as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            if self._memory_limit is not None:
                cursor.execute(f"SET memory_limit = {literal(self._memory_limit)}")
            register_files(cursor, [file.path for file in files])
            yield cursor


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """Latest rows, one per label, that the statement has returned with all their columns."""

    rows: pl.DataFrame

    @property
    def event_timestamp(self) -> pl.Series:
        """Event time of each label's latest row."""
        return self.rows[EVENT_TIMESTAMP].cast(TIMESTAMP_TYPE)

    def values(self, visible: Sequence[VisibleRows]) -> Mapping[str, pl.Series]:
        """Returns the columns, null where the row is not visible."""
        return {
            column: self.rows[column].zip_with(part.mask, pl.Series([None], dtype=self.rows.schema[column]))
            for part in visible
            for column in part.columns
        }


def latest_rows_sql(keys: tuple[str, ...], columns: tuple[str, ...], *, complete: bool, strict: bool) -> str:
    """Returns the statement that finds latest rows; parameters `$files`, `$span_start`, `$span_end`.

    An AS OF join picks any row among those of equal time. So it runs on keys and times alone, and the rows that have
    the time found are fetched after it, the winner among them chosen by the whole rule: nothing is left to chance,
    and features are read for matched rows only.

    A strict read asks for the latest of the rows that had been ingested. Rows count from their event or their
    ingestion on, whichever is later; the AS OF join is on that time, and finds the latest row that counted by then.

    Args:
        keys: Join keys, validated names.
        columns: Feature columns, validated names.
        complete: Whether every file has every column.
        strict: Whether rows count only once they were ingested.
    """
    key_list = ", ".join(f"h.{identifier(key)}" for key in keys)
    same_label = _equal("h", "l", keys)
    found = (*keys, EVENT_TIMESTAMP, INGESTED_AT) if strict else (*keys, EVENT_TIMESTAMP)
    found_list = ", ".join(f"h.{identifier(column)}" for column in found)
    same_row = _equal("h", "m", found)
    features = ", ".join(f"h.{identifier(column)}" for column in columns)
    source = f"read_parquet($files, hive_partitioning = false, union_by_name = {'false' if complete else 'true'})"
    relevant = f"""FROM {source} h
            SEMI JOIN {LABELS} l ON {same_label}
            WHERE h.{EVENT_TIMESTAMP} >= $span_start AND h.{EVENT_TIMESTAMP} < $span_end"""
    if strict:
        observed = f"""
            SELECT {key_list}, greatest(h.{EVENT_TIMESTAMP}, h.{INGESTED_AT}) AS {COUNTS_FROM}, unnest(
                max({{'{EVENT_TIMESTAMP}': h.{EVENT_TIMESTAMP}, '{INGESTED_AT}': h.{INGESTED_AT}}}) OVER (
                    PARTITION BY {key_list} ORDER BY greatest(h.{EVENT_TIMESTAMP}, h.{INGESTED_AT})
                )
            )
            {relevant} AND h.{INGESTED_AT} IS NOT NULL"""
    else:
        observed = f"""
            SELECT {key_list}, h.{EVENT_TIMESTAMP}
            {relevant}"""
    return f"""
        WITH observed AS ({observed}
        ),
        matched AS MATERIALIZED (
            SELECT l.{ROW}, {found_list}
            FROM {LABELS} l
            ASOF JOIN observed h ON {same_label} AND l.{AS_OF} >= h.{COUNTS_FROM if strict else EVENT_TIMESTAMP}
        ),
        winner AS (
            SELECT {found_list}, {features}
            FROM {source} h
            SEMI JOIN matched m ON {same_row}
            QUALIFY row_number() OVER (
                PARTITION BY {found_list}
                ORDER BY h.{INGESTED_AT} DESC NULLS LAST, h.file_index DESC, h.file_row_number DESC
            ) = 1
        )
        SELECT m.{ROW}, h.{EVENT_TIMESTAMP}, {features}
        FROM matched m JOIN winner h ON {same_row}
    """  # noqa: S608  # names are validated identifiers, quoted; paths and times are parameters


def _equal(left: str, right: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{left}.{identifier(column)} = {right}.{identifier(column)}" for column in columns)


@contextmanager
def _in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    with (
        tempfile.TemporaryDirectory(prefix="feature-store-") as folder,
        closing(duckdb.connect(config={"temp_directory": str(Path(folder) / "spill")})) as connection,
    ):
        yield connection
