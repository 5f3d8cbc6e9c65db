"""Events in an Iceberg table: pyiceberg plans which files a window needs, and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from feature_store.errors import MissingSourceError
from feature_store.partitions import Window
from feature_store.sources.table import DataFile, FileTableSource, optional_module, utc

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class IcebergSource(FileTableSource):
    """Events in an Iceberg table.

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

    def _events(self, window: Window) -> pl.LazyFrame:
        import polars as pl

        rows = pl.scan_iceberg(self._opened(), reader_override="pyiceberg")
        dtype = rows.collect_schema().get(self.time_column)
        start, end = window.start, window.end
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
        return rows.filter(pl.col(self.time_column) >= start, pl.col(self.time_column) < end)

    def _files(self) -> list[DataFile]:
        files = []
        for row in self._opened().inspect.files().to_pylist():
            times = (row["readable_metrics"] or {}).get(self.time_column) or {}
            files.append(DataFile(row["file_path"], utc(times.get("lower_bound")), utc(times.get("upper_bound"))))
        return files

    def _opened(self) -> Any:
        catalogs = optional_module("pyiceberg.catalog", self.name, "iceberg")
        errors = optional_module("pyiceberg.exceptions", self.name, "iceberg")
        try:
            return catalogs.load_catalog(self.catalog, **self.properties).load_table(self.table)
        except errors.NoSuchTableError as error:
            raise MissingSourceError(
                f"Source {self.name!r}: the Iceberg catalog {self.catalog!r} has no table {self.table!r}."
            ) from error
