"""Events in JSON lines: one object a line."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.json as pa_json

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidSourceError, StorageError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.sources.folders import File
from feature_store.sources.text_files import PARSE_ERRORS, TextSource, shown
from feature_store.sources.unification import Bearer, Schema, arrival, common_schema, merged
from feature_store.storage.parquet_footers import first_line

_BLOCK_BYTES = 8 * 2**20
_BOM = b"\xef\xbb\xbf"
_LARGEST_BLOCK = 2**31 - 1
_SCHEMAS_KEPT = 65_536
_schemas: OrderedDict[object, Schema] = OrderedDict()
_KINDS = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class JsonSource(TextSource):
    """Events in files of JSON lines below `{root}/date=YYYY-MM-DD/`: `.jsonl`, `.ndjson`, `.json`, or these with `.gz`.

    Each line is an object; a name that it lacks is null, and so is one whose value is null. Times are ISO 8601 texts;
    see `FolderSource`. Without `columns`, all names that any file of the source has arrive, in the dtypes that their
    values show: each file is then read once more in a process.
    """

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")

    def _schema(self, files: Sequence[File]) -> dict[str, pl.DataType]:
        if self.columns:
            return arrival(self.columns)
        of_window = [(str(file.path), self._seen(file)) for file in files]
        found = common_schema(of_window, conflict=self._conflict)
        return {**merged(found, self._all_schemas()), EVENT_TIMESTAMP: TIMESTAMP_TYPE}

    def _all_schemas(self) -> Iterator[Schema]:
        for of_day in self._landed(None, None).values():
            for file in of_day:
                with suppress(InvalidSourceError, StorageError):
                    yield self._seen(file)

    def _seen(self, file: File) -> Schema:
        key = (file.path, file.stat)
        if key not in _schemas:
            _schemas[key] = self._inferred(file)
            while len(_schemas) > _SCHEMAS_KEPT:
                _schemas.popitem(last=False)
        return _schemas[key]

    def _parsed(self, file: File, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
        kinds = {name: _json_type(dtype) for name, dtype in columns.items()}
        try:
            return self._table(file, pa.schema(kinds.items()))
        except pa.ArrowInvalid:
            # Whole numbers may be written as 1.0: what is no whole number is found when they are converted.
            if pa.int64() not in kinds.values():
                raise
        loose = {name: pa.float64() if kind == pa.int64() else kind for name, kind in kinds.items()}
        return self._table(file, pa.schema(loose.items()))

    def _table(self, file: File, expected: pa.Schema | None) -> pl.DataFrame:
        data = self._bytes(file).removeprefix(_BOM)
        if not data.strip():
            return pl.DataFrame(schema={} if expected is None else dict.fromkeys(expected.names, pl.String))
        options = pa_json.ParseOptions(
            explicit_schema=expected, unexpected_field_behavior="infer" if expected is None else "ignore"
        )
        # A line must fit into a block.
        block = len(data) + 1 if _has_long_line(data) else _BLOCK_BYTES
        read = pa_json.ReadOptions(block_size=min(block, _LARGEST_BLOCK))
        return pl.DataFrame(pa_json.read_json(pa.BufferReader(data), read_options=read, parse_options=options))

    def _inferred(self, file: File) -> Schema:
        try:
            found = self._table(file, None).schema
        except PARSE_ERRORS as error:
            line, reason = self._found_wrong(file, {}) or (0, first_line(error))
            raise self._wrong_line(file, line, reason) from error
        # What looks like a time may be a text on another day.
        return {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in found.items()}

    def _diagnosed(self, content: bytes, columns: Mapping[str, pl.DataType]) -> tuple[int, str] | None:
        lines = content.removeprefix(_BOM).split(b"\n")
        first: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except ValueError as error:
                return number, f"it is no JSON: {error}"
            if not isinstance(found, dict):
                return number, f"it holds no object but {type(found).__name__}: {shown(line)}"
            for name, value in found.items():
                if value is None:
                    continue
                if name in columns and not _is_of(value, columns[name]):
                    return number, f"column {name!r}: {shown(value)} is no {columns[name]}"
                kind = _kind(value)
                if not columns and first.setdefault(name, (kind, number))[0] != kind:
                    before, line_before = first[name]
                    return number, f"column {name!r} holds {kind}, and {before} on line {line_before:,}"
        return None

    def _line_of(self, content: bytes, row: int) -> int:
        filled = (number for number, line in enumerate(content.split(b"\n"), start=1) if line.strip())
        return next((number for place, number in enumerate(filled) if place == row), 0)

    def _conflict(self, column: str, one: Bearer, other: Bearer) -> InvalidSourceError:
        return InvalidSourceError(
            f"Source {self.name!r}: column {column!r} holds {one[1]} in {one[0]} and {other[1]} in {other[0]}, which "
            "have nothing in common. Write the files alike, or declare the source's `columns`, which pins the dtype."
        )


def _json_type(dtype: pl.DataType) -> pa.DataType:
    """Returns what a column is parsed as: text where JSON has no dtype of its own."""
    if isinstance(dtype, pl.List | pl.Array):
        return pa.list_(_json_type(pl.List(dtype.inner).inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pa.struct([(field.name, _json_type(field.dtype)) for field in dtype.fields])  # type: ignore[arg-type]
    if isinstance(dtype, pl.Decimal):
        return pa.decimal128(38, dtype.scale)
    if dtype == pl.Boolean:
        return pa.bool_()
    if dtype.is_integer():
        return pa.int64()
    return pa.float64() if dtype.is_float() else pa.string()


def _is_of(value: Any, dtype: pl.DataType) -> bool:
    """Tells whether a JSON value can be one of a dtype."""
    if isinstance(dtype, pl.List | pl.Array):
        return isinstance(value, list)
    if isinstance(dtype, pl.Struct):
        return isinstance(value, dict)
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if dtype.is_integer():
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if dtype.is_numeric():
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def _has_long_line(data: bytes) -> bool:
    half = _BLOCK_BYTES // 2
    return any(data.find(b"\n", start, start + half) < 0 for start in range(0, len(data) - half, half))
