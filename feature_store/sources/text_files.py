"""What CSV and JSON lines have in common: files without statistics or dtypes, read whole, one after another."""

from __future__ import annotations

import gzip
import zlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from feature_store.clock import to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidSourceError, StorageError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.partitions import Window
from feature_store.sources.folders import REST, File, FolderSource
from feature_store.sources.placement import Placement, Reach
from feature_store.sources.unification import converted, lost
from feature_store.storage.parquet_footers import first_line

PARSE_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, EOFError, zlib.error, gzip.BadGzipFile)
"""What a file that is none of its kind raises."""

_LONGEST = 100
_PLACEMENTS_KEPT = 65_536
_placements: OrderedDict[object, Placement] = OrderedDict()


@dataclass(frozen=True, slots=True)
class TextSource(FolderSource):
    """Events in files of text; see `FolderSource`."""

    def _is_whole(self, file: File) -> bool:
        return file.stat.size > 0

    def _is_filling(self, file: File, now: int) -> bool:
        # Nothing in a text says that it is complete. An object appears when it is.
        return not file.stat.e_tag and 0 <= now - file.stat.modified_ns < REST / timedelta(microseconds=1) * 1000

    def _read(self, files: Sequence[File], wanted: Mapping[str, pl.DataType], window: Window) -> Iterator[pl.DataFrame]:
        columns = {**wanted, EVENT_TIMESTAMP: TIMESTAMP_TYPE}
        for file in files:
            reach = self._reach(file.day)
            rows = self._rows(file, columns)
            self._keep(file, reach, Placement.of(rows[EVENT_TIMESTAMP], reach))
            low, high = max(reach.first, to_micros(window.start)), min(reach.end, to_micros(window.end))
            inside = pl.col(EVENT_TIMESTAMP).to_physical().is_between(low, high, closed="left")
            yield rows.filter(inside).select(*wanted)

    def _placement(self, file: File, reach: Reach) -> Placement:
        known = _placements.get(self._key(file, reach))
        if known is not None:
            return known
        times = self._rows(file, {EVENT_TIMESTAMP: TIMESTAMP_TYPE})[EVENT_TIMESTAMP]
        return self._keep(file, reach, Placement.of(times, reach))

    def _keep(self, file: File, reach: Reach, placement: Placement) -> Placement:
        _placements[self._key(file, reach)] = placement
        while len(_placements) > _PLACEMENTS_KEPT:
            _placements.popitem(last=False)
        return placement

    def _key(self, file: File, reach: Reach) -> object:
        return type(self), file.path, file.stat, reach

    def _rows(self, file: File, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Returns columns of a file in the dtypes of the source.

        Raises:
            InvalidSourceError: If it cannot be read; the error names file and line.
        """
        try:
            raw = self._parsed(file, columns)
        except PARSE_ERRORS as error:
            line, reason = self._found_wrong(file, columns) or (0, first_line(error))
            raise self._wrong_line(file, line, reason) from error
        if EVENT_TIMESTAMP not in raw.columns and raw.height:
            raise self._invalid(
                file, f"it has no column {EVENT_TIMESTAMP!r}", "Name the column of times so, in its header or objects."
            )
        try:
            return raw.select(
                converted(name, raw.schema[name], dtype)
                if name in raw.columns
                else pl.lit(None, dtype=dtype).alias(name)
                for name, dtype in columns.items()
            )
        except (pl.exceptions.PolarsError, *PARSE_ERRORS, OverflowError) as error:
            raise self._wrong_value(file, raw, columns, error) from error

    def _found_wrong(self, file: File, columns: Mapping[str, pl.DataType]) -> tuple[int, str] | None:
        try:
            content = self._bytes(file)
        except PARSE_ERRORS:
            return None
        return self._diagnosed(content, columns)

    @abstractmethod
    def _parsed(self, file: File, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Returns the rows of a file, of the columns that it has, in whatever dtypes they come."""

    @abstractmethod
    def _diagnosed(self, content: bytes, columns: Mapping[str, pl.DataType]) -> tuple[int, str] | None:
        """Returns the first line that is wrong, and why, or None where nothing is found."""

    @abstractmethod
    def _line_of(self, content: bytes, row: int) -> int:
        """Returns the line on which a row begins, from 1."""

    def _bytes(self, file: File) -> bytes:
        """Returns the content of a file, unpacked."""
        try:
            content = file.path.read_bytes()
        except FileNotFoundError as error:
            raise StorageError(
                f"Source {self.name!r}: {file.path} was removed while it was read. Read again."
            ) from error
        except OSError as error:
            raise StorageError(f"Source {self.name!r}: {file.path} cannot be read: {error}.") from error
        return gzip.decompress(content) if file.path.name.endswith(".gz") else content

    def _wrong_line(self, file: File, line: int, reason: str) -> InvalidSourceError:
        where = f"line {line:,}: {reason}" if line else reason
        return self._invalid(file, where, "Correct the line, or write the file again.")

    def _wrong_value(
        self, file: File, raw: pl.DataFrame, columns: Mapping[str, pl.DataType], error: Exception
    ) -> InvalidSourceError:
        for name, dtype in columns.items():
            row = lost(raw[name], dtype) if name in raw.columns else None
            if row is not None:
                reason = f"column {name!r}: {shown(raw[name][row])} is no {dtype}"
                return self._wrong_line(file, self._line_of(self._bytes(file), row), reason)
        return self._wrong_line(file, 0, first_line(error))


def shown(value: Any) -> str:
    """Returns a value for an error: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
