"""Events in a Delta Lake table: Polars reads it, and passes over the files whose statistics lie outside a window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from feature_store.errors import MissingSourceError
from feature_store.partitions import Window
from feature_store.sources.table import DataFile, FileTableSource, optional_module, utc
from feature_store.storage.location import open_location, storage_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class DeltaSource(FileTableSource):
    """Events in a Delta Lake table.

    Attributes:
        table: Folder or `s3://bucket/prefix` of the table.
    """

    table: str
    kind: str = field(init=False, default="delta")

    def _events(self, window: Window) -> pl.LazyFrame:
        import polars as pl

        # In S3, the table is read with the options that it was opened with.
        rows = pl.scan_delta(self._opened())
        dtype = rows.collect_schema().get(self.time_column)
        start, end = pl.lit(window.start), pl.lit(window.end)
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            start, end = start.dt.replace_time_zone(None), end.dt.replace_time_zone(None)
        return rows.filter(pl.col(self.time_column) >= start, pl.col(self.time_column) < end)

    def _files(self) -> list[DataFile]:
        import polars as pl

        added = pl.DataFrame(self._opened().get_add_actions(flatten=True))
        first, last = f"min.{self.time_column}", f"max.{self.time_column}"
        if added.height and not {first, last} <= set(added.columns):
            raise MissingSourceError(
                f"The table of source {self.name!r} has no statistics of {self.time_column!r}: name a column that it "
                "has, or write it with statistics of that column."
            )
        return [DataFile(str(row["path"]), utc(row[first]), utc(row[last])) for row in added.iter_rows(named=True)]

    def _opened(self) -> Any:
        deltalake = optional_module("deltalake", self.name, "delta")
        place = open_location(self.table, setting=f"table of source {self.name!r}")
        options = storage_of(place).object_store_options(place)
        try:
            return deltalake.DeltaTable(str(place), storage_options=options)
        except deltalake.exceptions.TableNotFoundError as error:
            raise MissingSourceError(f"Source {self.name!r}: there is no Delta table at {place}.") from error
