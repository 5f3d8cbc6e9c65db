"""Events in Parquet files: their footers say which columns there are and where the events lie; rows are read lazily."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

from feature_store.clock import to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidSourceError, StorageError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.partitions import Window
from feature_store.sources.folders import File, FolderSource
from feature_store.sources.placement import Placement, Reach
from feature_store.sources.unification import (
    Bearer,
    Schema,
    arrival,
    common_schema,
    converted,
    fits,
    lost,
    merged,
)
from feature_store.storage.location import storage_of
from feature_store.storage.parquet import scan_files
from feature_store.storage.parquet_footers import TimeRange, first_line, parquet_footer, polars_schema, times_in

if TYPE_CHECKING:
    from feature_store.storage.location import Location
    from feature_store.storage.protocol import FileStat

_FOOTERS_KEPT = 65_536
_AT_ONCE = 32
_MAGIC = (b"PAR1", b"PARE")
_SHORTEST = 12
_REMEDY = "Write the file again, or take it away"
_PIN = "Write the files alike, or declare the source's `columns`, which pins the dtype"
_READ_ERRORS = (pl.exceptions.PolarsError, OSError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class _Footer:
    schema: Schema
    rows: int
    times: TimeRange | None


@dataclass(frozen=True, slots=True)
class _Look:
    version: FileStat | None
    until: float
    schemas: list[Schema]


_LOOK_SECONDS = 60.0
_looks: dict[Location, _Look] = {}


@dataclass(frozen=True, slots=True)
class ParquetSource(FolderSource):
    """Events in Parquet files below `{root}/date=YYYY-MM-DD/`; see `FolderSource`.

    Without `columns`, the columns of all files of the source are brought together, so that a function sees the same
    dtypes whatever window it is given: the footer of each file is read once in a process. With `columns`, only the
    files of the window are opened.
    """

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (".parquet",)

    def _is_whole(self, file: File) -> bool:
        # An object appears when it is whole; a file grows, and has its footer last.
        return file.stat.size >= _SHORTEST and (bool(file.stat.e_tag) or _has_ends(file.path, file.stat))

    def _is_filling(self, file: File, now: int) -> bool:
        del file, now
        return False

    def _schema(self, files: Sequence[File]) -> dict[str, pl.DataType]:
        footers = self._footers(files)
        if self.columns:
            found = arrival(self.columns)
            for file, footer in footers:
                if footer.rows:
                    self._check_fit(file, footer.schema, found)
        else:
            # A file without rows is at odds with none: its dtypes are what its writer made of nothing.
            filled = [(file, footer.schema) for file, footer in reversed(footers) if footer.rows]
            schemas = {id(schema): (str(file.path), schema) for file, schema in filled}
            found = common_schema(reversed(schemas.values()), conflict=self._conflict)
            found = merged(found, self._all_schemas())
            if EVENT_TIMESTAMP in found:
                found[EVENT_TIMESTAMP] = TIMESTAMP_TYPE
        for file, footer in footers:
            self._check_times(file, footer)
        return found if EVENT_TIMESTAMP in found else {**found, EVENT_TIMESTAMP: TIMESTAMP_TYPE}

    def _read(self, files: Sequence[File], wanted: Mapping[str, pl.DataType], window: Window) -> Iterator[pl.DataFrame]:
        groups: OrderedDict[object, list[File]] = OrderedDict()
        for file, footer in self._footers(files):
            reach = self._reach(file.day)
            times = footer.times
            # What lies within reach by its statistics needs no look at its folder, and is read with others like it.
            is_placed = times is not None and (reach.holds(times) or (not times.nulls and _covers(reach, window)))
            if footer.rows and (times is None or _overlaps(times, window)):
                groups.setdefault((id(footer.schema), None if is_placed else reach), []).append(file)
        for (_, reach), members in groups.items():  # type: ignore[misc]
            try:
                yield self._rows([file.path for file in members], wanted, window, reach).collect()
            except _READ_ERRORS as error:
                raise self._explained(members, wanted, error) from error

    def _placement(self, file: File, reach: Reach) -> Placement:
        [(_, footer)] = self._footers([file])
        if footer.times is not None and reach.holds(footer.times):
            return Placement(footer.rows)
        try:
            return _placement(file.path, file.stat, reach)
        except _READ_ERRORS as error:
            raise self._explained([file], {EVENT_TIMESTAMP: TIMESTAMP_TYPE}, error) from error

    def _rows(
        self, paths: Sequence[Location], wanted: Mapping[str, pl.DataType], window: Window, reach: Reach | None
    ) -> pl.LazyFrame:
        rows = scan_files(paths)
        found = rows.collect_schema()
        low, high = to_micros(window.start), to_micros(window.end)
        if reach is not None:
            low, high = max(low, reach.first), min(high, reach.end)
        first, end = (pl.lit(each).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") for each in (low, high))
        if found[EVENT_TIMESTAMP] != TIMESTAMP_TYPE:
            rows = rows.with_columns(converted(EVENT_TIMESTAMP, found[EVENT_TIMESTAMP], TIMESTAMP_TYPE))
            found = pl.Schema({**found, EVENT_TIMESTAMP: TIMESTAMP_TYPE})
        return rows.filter(pl.col(EVENT_TIMESTAMP).is_between(first, end, closed="left")).select(
            converted(name, found[name], dtype) if name in found else pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in wanted.items()
        )

    def _footers(self, files: Sequence[File]) -> list[tuple[File, _Footer]]:
        _prefetch(files)
        found = []
        for file in files:
            try:
                found.append((file, _footer(file.path, file.stat)))
            except FileNotFoundError as error:
                raise StorageError(
                    f"Source {self.name!r}: {file.path} was replaced or removed while it was read. Read again."
                ) from error
            except (OSError, pl.exceptions.PolarsError) as error:
                raise self._invalid(file, first_line(error), f"{_REMEDY}.") from error
        return found

    def _all_schemas(self) -> list[Schema]:
        """Returns the schemas that files of the source have. A look lasts a minute, or until a day's folder comes."""
        place = self._place()
        version = None
        with suppress(FileNotFoundError):
            version = storage_of(place).stat(place)
        known = _looks.get(place)
        if known is not None and known.version == version and time.monotonic() < known.until:
            return known.schemas
        landed = self._landed(None, None)
        files = [file for of_day in landed.values() for file in of_day]
        if len(files) > _MOST_LOOKED_AT:
            files = [of_day[-1] for of_day in landed.values()][-_MOST_LOOKED_AT:]
        _prefetch(files)
        footers = filter(None, map(_try_footer, files))
        schemas = list({id(footer.schema): footer.schema for footer in footers}.values())
        _looks[place] = _Look(version, time.monotonic() + _LOOK_SECONDS, schemas)
        return schemas

    def _check_fit(self, file: File, schema: Schema, declared: Schema) -> None:
        for name, dtype in declared.items():
            if name in schema and not fits(schema[name], dtype):
                raise self._invalid(
                    file,
                    f"column {name!r} holds {schema[name]}, the source declares {dtype}",
                    "Write the file anew, or correct the source's `columns`.",
                )

    def _check_times(self, file: File, footer: _Footer) -> None:
        held = footer.schema.get(EVENT_TIMESTAMP)
        if held is None and footer.rows:
            raise self._invalid(
                file,
                f"it has no column {EVENT_TIMESTAMP!r}, only {', '.join(map(repr, footer.schema))}",
                "Name the column of times so.",
            )
        if footer.rows and held is not None and not fits(held, TIMESTAMP_TYPE):
            raise self._invalid(
                file,
                f"column {EVENT_TIMESTAMP!r} holds {held}, no times",
                "Write it as timestamps, or as ISO texts.",
            )

    def _conflict(self, column: str, one: Bearer, other: Bearer) -> InvalidSourceError:
        return InvalidSourceError(
            f"Source {self.name!r}: column {column!r} holds {one[1]} in {one[0]} and {other[1]} in {other[0]}, which "
            f"have nothing in common. {_PIN}."
        )

    def _explained(self, files: Sequence[File], wanted: Mapping[str, pl.DataType], error: Exception) -> Exception:
        """Returns the error that names the file, and the column and value, that a read fails at."""
        for file in files:
            if storage_of(file.path).is_outage(error):
                return StorageError(f"{file.path} could not be read: {first_line(error)}.")
            try:
                found = scan_files(file.path).collect_schema()
                rows = (
                    scan_files(file.path)
                    .select(name for name in {EVENT_TIMESTAMP: 0, **wanted} if name in found)
                    .collect()
                )
            except _READ_ERRORS as unreadable:
                return self._invalid(file, first_line(unreadable), f"{_REMEDY}.")
            for name, dtype in {**wanted, EVENT_TIMESTAMP: TIMESTAMP_TYPE}.items():
                place = lost(rows[name], dtype) if name in rows.columns else None
                if place is not None:
                    return self._invalid(
                        file,
                        f"row {place + 1:,}, column {name!r}: {rows[name][place]!r} ({found[name]}) is no {dtype}",
                        f"Correct the value. {_PIN}.",
                    )
        return self._invalid(files[0], first_line(error), f"{_REMEDY}.")


_MOST_LOOKED_AT = 4_096
"""With more files than these, the last one of each day tells what columns the other days have."""


def _covers(reach: Reach, window: Window) -> bool:
    return reach.first <= to_micros(window.start) and to_micros(window.end) <= reach.end


def _overlaps(times: TimeRange, window: Window) -> bool:
    if times.first is None or times.last is None:
        return False
    return times.first < to_micros(window.end) and times.last >= to_micros(window.start)


@lru_cache(maxsize=_FOOTERS_KEPT)
def _has_ends(path: Location, stat: FileStat) -> bool:
    """Tells whether a file begins and ends as Parquet does, its footer's length within it."""
    try:
        with path.open("rb") as handle:
            begin = handle.read(4)
            handle.seek(-8, 2)
            end = handle.read(8)
    except OSError:
        return False
    return begin in _MAGIC and end[4:] == begin and int.from_bytes(end[:4], "little") <= stat.size - _SHORTEST


@lru_cache(maxsize=_FOOTERS_KEPT)
def _footer(path: Location, stat: FileStat) -> _Footer:
    found = parquet_footer(path, stat.e_tag or None)
    schema = polars_schema(found)
    return _Footer(schema, found.num_rows, times_in(found, [EVENT_TIMESTAMP]).get(EVENT_TIMESTAMP))


def _try_footer(file: File) -> _Footer | None:
    try:
        return _footer(file.path, file.stat)
    except (OSError, StorageError, pl.exceptions.PolarsError):
        return None


def _prefetch(files: Sequence[File]) -> None:
    if files:
        storage_of(files[0].path).prefetch(_try_footer, files, at_once=_AT_ONCE)


@lru_cache(maxsize=_FOOTERS_KEPT)
def _placement(path: Location, stat: FileStat, reach: Reach) -> Placement:
    del stat
    dtype = scan_files(path).collect_schema()[EVENT_TIMESTAMP]
    times = scan_files(path).select(converted(EVENT_TIMESTAMP, dtype, TIMESTAMP_TYPE)).collect()
    return Placement.of(times.to_series(), reach)
