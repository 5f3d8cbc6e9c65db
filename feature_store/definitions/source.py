"""Sources: where a feature group's events come from.

Only the small interface that the transform needs, and sources that lie in date folders. Tables are in `sources`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.errors import MissingSourceError
from feature_store.partitions import Window
from feature_store.storage.location import Location, open_location, storage_of
from feature_store.storage.protocol import FileStat

if TYPE_CHECKING:
    import polars as pl


class Source(Protocol):
    """Events that became known over time.

    Every event has `event_timestamp`, the UTC instant at which it became knowable in the real world; an event
    lies in the partition of that instant.
    """

    @property
    def name(self) -> str:
        """The source's name; in Dagster, its asset key."""
        ...

    @property
    def start(self) -> datetime:
        """When the source's history begins (aware UTC). Before it, there are no events."""
        ...

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window, lazily, in any order.

        Raises:
            MissingSourceError: If a part of the window after `start` has not landed.
        """
        ...

    def fingerprint(self, day: date) -> str | None:
        """Returns a text that changes when a UTC day's events change, or None while they have not landed."""
        ...

    def landed_days(self) -> Iterator[date]:
        """Yields the UTC days that have landed, in order."""
        ...


@runtime_checkable
class SurveyedSource(Source, Protocol):
    """A source that tells of all its days in one look, where asking day by day would cost a request for each."""

    def survey(self) -> Mapping[date, str]:
        """Returns the days that have landed, in order, each with its fingerprint."""
        ...


def fingerprints(source: Source, days: Iterable[date] | None = None) -> dict[date, str]:
    """Returns the days that have landed, in order, each with its fingerprint.

    Args:
        source: The source.
        days: Only these; None for all.
    """
    if isinstance(source, SurveyedSource):
        found = source.survey()
        return {day: found[day] for day in (found if days is None else days) if day in found}
    asked = ((day, source.fingerprint(day)) for day in (source.landed_days() if days is None else days))
    return {day: text for day, text in asked if text is not None}


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Events in Parquet files below `{root}/date=YYYY-MM-DD/`.

    Attributes:
        name: The source's name.
        root: Folder or `s3://bucket/prefix` that holds the date partitions.
        start: First instant of its history.
        description: One sentence for the catalog.
        owner: Who delivers it, for the catalog: an e-mail address or the name of a team.
    """

    name: str
    root: Path | str
    start: datetime
    description: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "source")

    def files(self, day: date) -> list[Location]:
        """Returns the files of one UTC day, none if it has not landed."""
        return [path for path, _ in self._landed(day, day).get(day, [])]

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window; see `Source.scan`."""
        import polars as pl

        from_start = Window(max(window.start, self.start), window.end)
        days = list(from_start.dates())
        if not days:
            raise MissingSourceError(
                f"Source {self.name!r} begins at {self.start.isoformat()}; nothing can be computed before it."
            )
        landed = self._landed(days[0], days[-1])
        missing = [day for day in days if day not in landed]
        if missing:
            raise MissingSourceError(
                f"Source {self.name!r} has not landed for {len(missing)} day(s) from {missing[0]} to {missing[-1]}: "
                f"no {self._suffix[1:]} file in {self.root}/date={missing[0]}. Land the files, or compute days before "
                "them."
            )
        events = self._read([path for day in days for path, _ in landed[day]])
        return events.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))

    def fingerprint(self, day: date) -> str | None:
        """Returns a digest of the names, sizes and modification times of a day's files; see `Source.fingerprint`."""
        found = self._landed(day, day).get(day)
        return None if found is None else _digest(found)

    def landed_days(self) -> Iterator[date]:
        """Yields the days whose folder holds a file; see `Source.landed_days`."""
        yield from self._landed(None, None)

    def survey(self) -> dict[date, str]:
        """Returns all days in one look; see `SurveyedSource.survey`."""
        return {day: _digest(files) for day, files in self._landed(None, None).items()}

    @property
    def _suffix(self) -> str:
        return ".parquet"

    def _read(self, paths: list[Location]) -> pl.LazyFrame:
        from feature_store.storage.parquet import scan_files

        return scan_files(paths)

    def _landed(self, first: date | None, last: date | None) -> dict[date, list[tuple[Location, FileStat]]]:
        """Returns the files of some UTC days, by day and name."""
        place = open_location(self.root, setting=f"root of source {self.name!r}")
        files = (file for file in storage_of(place).dated_files(place, first, last) if file.path.suffix == self._suffix)
        found: dict[date, list[tuple[Location, FileStat]]] = {}
        for file in sorted(files, key=lambda file: (file.day, file.path.name)):
            found.setdefault(file.day, []).append((file.path, file.stat))
        return found


@dataclass(frozen=True, slots=True)
class CsvSource(ParquetSource):
    """Events in CSV files below `{root}/date=YYYY-MM-DD/`.

    Attributes:
        columns: Column name to dtype of Polars, in the order of the files, which have a header. A column of times
            holds ISO texts; without an offset they are UTC.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _suffix(self) -> str:
        return ".csv"

    def _read(self, paths: list[Location]) -> pl.LazyFrame:
        import polars as pl

        from feature_store.storage.parquet import scan_options

        times = {name: dtype for name, dtype in self.columns.items() if dtype.is_temporal()}
        schema = {name: pl.String() if name in times else dtype for name, dtype in self.columns.items()}
        rows = pl.scan_csv([str(path) for path in paths], schema=schema, glob=False, **scan_options(paths))
        return rows.with_columns(
            pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC").cast(dtype) for name, dtype in times.items()
        )


def _digest(files: Iterable[tuple[Location, FileStat]]) -> str:
    described = [(path.name, stat.size, stat.e_tag or stat.modified_ns) for path, stat in files]
    return hashlib.sha256(repr(described).encode()).hexdigest()[:16]
