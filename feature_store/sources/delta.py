"""Events in a Delta Lake table: Polars reads it, and passes over the files whose statistics lie outside a window."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from feature_store.errors import InvalidSourceError, MissingSourceError
from feature_store.sources.file_table import DataFile, FileTableSource
from feature_store.sources.table import optional_module, utc
from feature_store.storage.location import open_location, storage_of

if TYPE_CHECKING:
    import polars as pl

_DELETION_VECTORS = "deletionVectors"
_MAPPING = "delta.columnMapping.mode"
_deletions: dict[str, tuple[int, dict[str, str]]] = {}


@dataclass(frozen=True, kw_only=True)
class DeltaSource(FileTableSource):
    """Events in a Delta Lake table. Rows that deletion vectors delete are gone; column mapping is rejected.

    Attributes:
        table: Folder or `s3://bucket/prefix` of the table.
    """

    table: str
    kind: str = field(init=False, default="delta")

    def _rows(self) -> pl.LazyFrame:
        import polars as pl

        # In S3, the table is read with the options that it was opened with.
        with self._naming():
            return pl.scan_delta(self._opened())

    def _files(self) -> list[DataFile]:
        import polars as pl

        table = self._opened()
        with self._naming():
            added = pl.DataFrame(table.get_add_actions(flatten=True))
            deleted = self._deleted(table)
        names = (f"min.{self.time_column}", f"max.{self.time_column}", f"null_count.{self.time_column}")
        first, last, nulls = names
        if added.height and not {first, last} <= set(added.columns):
            raise MissingSourceError(
                f"The table of source {self.name!r} has no statistics of {self.time_column!r}: name a column that it "
                "has, or write it with statistics of that column."
            )
        if added.height and not added.schema[first].is_temporal():
            raise InvalidSourceError(
                f"Source {self.name!r}: column {self.time_column!r} holds {added.schema[first]}, no times: name a "
                "column of times."
            )
        return [
            DataFile(
                # What a vector deletes is in no file of its own name.
                f"{row['path']}{deleted.get(row['path'].rpartition('/')[2], '')}",
                utc(row[first]),
                utc(row[last]),
                row.get(nulls) or 0,
            )
            for row in added.iter_rows(named=True)
        ]

    def _deleted(self, table: Any) -> dict[str, str]:
        """Returns a digest of the rows that vectors delete, by the names of files."""
        if _DELETION_VECTORS not in (table.protocol().reader_features or ()):
            return {}
        known = _deletions.get(self.table)
        if known is None or known[0] != table.version():
            import polars as pl

            found: dict[str, str] = {}
            for uri, kept in pl.DataFrame(table.deletion_vectors()).iter_rows():
                packed = "".join("1" if each else "0" for each in kept)
                found[uri.rpartition("/")[2]] = f"#{hashlib.sha256(packed.encode()).hexdigest()[:16]}"
            known = _deletions[self.table] = (table.version(), found)
        return known[1]

    def _opened(self) -> Any:
        deltalake = optional_module("deltalake", self.name, "delta")
        place = open_location(self.table, setting=f"table of source {self.name!r}")
        options = storage_of(place).object_store_options(place)
        try:
            table = deltalake.DeltaTable(str(place), storage_options=options)
        except deltalake.exceptions.TableNotFoundError as error:
            raise MissingSourceError(f"Source {self.name!r}: there is no Delta table at {place}.") from error
        except (deltalake.exceptions.DeltaError, OSError, ValueError) as error:
            raise InvalidSourceError(
                f"Source {self.name!r}: the Delta table at {place} cannot be opened: {error}"
            ) from error
        if table.metadata().configuration.get(_MAPPING, "none") != "none":
            raise InvalidSourceError(
                f"Source {self.name!r}: the Delta table at {place} uses column mapping, which is not read here. Let "
                "the source name a copy without it (CREATE TABLE ... AS SELECT), or ask the warehouse by a SqlSource."
            )
        return table
