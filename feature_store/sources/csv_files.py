"""Events in CSV files, whose columns are found by the names in each file's header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import DefinitionError
from feature_store.sources.folders import File, FolderSource
from feature_store.sources.text_files import TextSource, shown
from feature_store.sources.unification import arrival

_BLOCK_BYTES = 8 * 2**20
_ENCODING = "utf-8-sig"


@dataclass(frozen=True, slots=True)
class CsvSource(TextSource):
    """Events in CSV files below `{root}/date=YYYY-MM-DD/`, `.csv` or `.csv.gz`; see `FolderSource`.

    `columns` is needed: text has no dtypes. Each file has a header, and its columns are found by name, in any order; of
    others nothing is read. An empty field is null, an empty one in quotes is an empty text.
    """

    def __post_init__(self) -> None:
        FolderSource.__post_init__(self)
        if not self.columns:
            raise DefinitionError(
                f"Source {self.name!r} declares no columns, and CSV has no dtypes: write "
                "columns={'event_timestamp': pl.Datetime('us', 'UTC'), 'user_id': pl.String, ...}."
            )

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (".csv", ".csv.gz")

    def _schema(self, files: Sequence[File]) -> dict[str, pl.DataType]:
        del files
        return arrival(self.columns)

    def _parsed(self, file: File, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
        content = self._bytes(file)
        first, _, body = content.partition(b"\n")
        header = _header(first)
        if header is None:
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        repeated = [name for name in columns if header.count(name) > 1]
        if repeated:
            raise pa.ArrowInvalid(f"the header names {repeated[0]!r} more than once")
        if EVENT_TIMESTAMP not in header:
            raise pa.ArrowInvalid(f"the header names no column {EVENT_TIMESTAMP!r}, only {shown(header)}")
        held = [name for name in columns if name in header]
        # Columns that nobody reads get names that no header has.
        named = [name if name in held else f"\0{place}" for place, name in enumerate(header)]
        if not body.strip():
            return pl.DataFrame(schema=dict.fromkeys(held, pl.String))
        table = pa_csv.read_csv(
            pa.BufferReader(body),
            read_options=pa_csv.ReadOptions(column_names=named, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(named, pa.string()),
                include_columns=held,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        return pl.DataFrame(table)

    def _diagnosed(self, content: bytes, columns: Mapping[str, pl.DataType]) -> tuple[int, str] | None:
        try:
            text = content.decode(_ENCODING)
        except UnicodeDecodeError as error:
            return content.count(
                b"\n", 0, error.start
            ) + 1, f"it holds bytes that are no UTF-8: {error.object[error.start : error.end]!r}"
        rows = _rows(text)
        _, header = next(rows, (1, []))
        names = [name.strip() for name in header]
        if EVENT_TIMESTAMP not in names or any(names.count(name) > 1 for name in columns):
            return None
        try:
            for line, row in rows:
                if len(row) != len(header):
                    return line, f"{len(row)} fields, where the header has {len(header)}"
        except csv.Error as error:
            return 0, str(error)
        return None

    def _line_of(self, content: bytes, row: int) -> int:
        lines = (line for line, _ in _rows(content.decode(_ENCODING)))
        next(lines)
        return next((line for place, line in enumerate(lines) if place == row), 0)


def _header(line: bytes) -> list[str] | None:
    """Returns the names in a header, None if there is no header at all."""
    text = line.decode(_ENCODING, errors="replace")
    if not text.strip():
        return None
    return [name.strip() for name in next(csv.reader([text]))]


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a text, each with the line on which it begins. Blank lines are none."""
    reader = csv.reader(io.StringIO(text, newline=""))
    line = 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1
