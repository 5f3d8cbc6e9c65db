"""Events in an Iceberg table: pyiceberg plans which files a window needs, and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from feature_store.clock import nearest_datetime
from feature_store.errors import MissingSourceError
from feature_store.sources.file_table import DataFile, FileTableSource
from feature_store.sources.table import optional_module

if TYPE_CHECKING:
    import polars as pl

_DAY = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class IcebergSource(FileTableSource):
    """Events in an Iceberg table, as it is now: renamed columns have their new names, deleted rows are gone.

    Attributes:
        table: The table, `namespace.name`.
        catalog: Name of the catalog. What it is made of comes the usual way of pyiceberg, from `.pyiceberg.yaml` or
            `PYICEBERG_CATALOG__{NAME}__URI`: secrets do not belong into a definition.
        properties: Properties of the catalog that are no secrets.
    """

    table: str
    catalog: str = "default"
    properties: Mapping[str, str] = field(default_factory=dict)
    kind: str = field(init=False, default="iceberg")

    def _rows(self) -> pl.LazyFrame:
        import polars as pl

        table = self._opened()
        with self._naming():
            return pl.scan_iceberg(table, reader_override="pyiceberg")

    def _files(self) -> list[DataFile]:
        table = self._opened()
        with self._naming():
            column = self._column(table)
            found = []
            # A plan says which files of deletions hold for which file of data, and so for which days.
            for task in table.scan().plan_files():
                deletes = sorted(each.file_path for each in task.delete_files)
                first, last = (_time(column, bounds) for bounds in (task.file.lower_bounds, task.file.upper_bounds))
                nulls = (task.file.null_value_counts or {}).get(column.field_id) or 0
                found.append(DataFile("".join([task.file.file_path, *deletes]), first, last, nulls))
        return found

    def _column(self, table: Any) -> Any:
        try:
            return table.schema().find_field(self.time_column)
        except ValueError:
            names = ", ".join(field.name for field in table.schema().fields)
            raise MissingSourceError(
                f"Source {self.name!r} has no column {self.time_column!r}, only {names}."
            ) from None

    def _opened(self) -> Any:
        catalogs = optional_module("pyiceberg.catalog", self.name, "iceberg")
        errors = optional_module("pyiceberg.exceptions", self.name, "iceberg")
        with self._naming():
            try:
                return catalogs.load_catalog(self.catalog, **self.properties).load_table(self.table)
            except errors.NoSuchTableError as error:
                raise MissingSourceError(
                    f"Source {self.name!r}: the Iceberg catalog {self.catalog!r} has no table {self.table!r}."
                ) from error


def _time(column: Any, bounds: Mapping[int, bytes] | None) -> datetime | None:
    """Returns a bound of a column of times, None where the table does not say."""
    bound = (bounds or {}).get(column.field_id)
    if bound is None:
        return None
    from pyiceberg.conversions import from_bytes

    number: Any = from_bytes(column.field_type, bound)
    if not isinstance(number, int):
        return None
    kind = str(column.field_type)
    if kind == "date":
        return nearest_datetime(number * _DAY)
    return nearest_datetime(number // 1000 if kind.endswith("_ns") else number)
