"""What all files in date folders have in common: which days have landed, which files hold the events of a window.

How a file is read, and what it says of itself, is a matter of its format: Parquet, CSV, JSON lines.
"""

from __future__ import annotations

import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from feature_store.clock import to_utc
from feature_store.definitions.names import check_name
from feature_store.definitions.source import MisplacedEvents
from feature_store.errors import DefinitionError, InvalidSourceError, MissingSourceError, StorageError
from feature_store.partitions import Window
from feature_store.storage.folder_names import DATE_PREFIX, date_of
from feature_store.storage.location import Location, open_location, storage_of
from feature_store.storage.protocol import DatedFile

if TYPE_CHECKING:
    import polars as pl

    from feature_store.sources.placement import Placement, Reach

File: TypeAlias = DatedFile[Location]
Days: TypeAlias = dict[date, list[File]]

REST = timedelta(seconds=10)
"""Sensors take a local text file that was written to more lately for one that is still being written."""

_LOG = logging.getLogger(__name__)
_LISTED = 5
_ONE_DAY = timedelta(days=1)
_reported: set[tuple[str, str, str]] = set()


@dataclass(frozen=True, slots=True)
class FolderSource(ABC):
    """Events in files below `{root}/date=YYYY-MM-DD/`.

    Attributes:
        name: The source's name.
        root: Folder or `s3://bucket/prefix` that holds the date partitions.
        start: First instant of its history (aware, or naive in UTC).
        description: One sentence for the catalog.
        owner: Who delivers it, for the catalog: an e-mail address or the name of a team.
        columns: Column name to dtype of Polars: what arrives, whatever dtypes the files have. A column that a file
            lacks is null there. Text that stands for a time is ISO 8601; without an offset it is UTC.
        max_stray: How far the time of an event may lie outside of its folder's day, such as `timedelta(hours=14)` for
            folders by local day. A window then reads the folders around it, and a change in one of them changes the
            fingerprints of all days that its events can lie in.
        max_misplaced_share: The share of a folder's events that may have no time, or one further away (0 to 1). Up to
            it they are counted and reported, above it the day is rejected.
    """

    name: str
    root: Path | str
    start: datetime
    description: str = ""
    owner: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    max_stray: timedelta = field(default=timedelta(0), kw_only=True)
    max_misplaced_share: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, "source")
        object.__setattr__(self, "start", to_utc(self.start))
        if self.max_stray < timedelta(0):
            raise DefinitionError(f"Source {self.name!r}: max_stray is {self.max_stray}; it cannot be less than zero.")
        if not 0 <= self.max_misplaced_share <= 1:
            raise DefinitionError(
                f"Source {self.name!r}: max_misplaced_share is {self.max_misplaced_share}; it is a share, 0 to 1."
            )

    def files(self, day: date) -> list[Location]:
        """Returns the files of one UTC day's folder, none if it has not landed."""
        return [file.path for file in self._landed(day, day).get(day, [])]

    def scan(self, window: Window) -> pl.LazyFrame:
        """Returns the events of a window; see `Source.scan`.

        Raises:
            MissingSourceError: If a part of the window after `start` has not landed.
            InvalidSourceError: If a file cannot be read, or its columns do not fit those of others; where only its
                rows show that, when they are collected.
        """
        from polars.io.plugins import register_io_source

        from_start = Window(max(window.start, self.start), window.end)
        needed = list(from_start.dates())
        if not needed:
            raise MissingSourceError(
                f"Source {self.name!r} begins at {self.start.isoformat()}; nothing can be computed before it."
            )
        landed = self._around(needed[0], needed[-1])
        missing = [day for day in needed if day not in landed]
        if missing:
            raise self._not_landed(missing)
        files = [file for of_day in landed.values() for file in of_day]
        schema = self._schema(files)

        def batches(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            del batch_size
            left = n_rows
            wanted = {name: schema[name] for name in (schema if with_columns is None else with_columns)}
            for rows in self._read(files, wanted, from_start):
                found = rows if predicate is None else rows.filter(predicate)
                if left is not None:
                    found = found.head(left)
                    left -= found.height
                yield found
                if left == 0:
                    return

        return register_io_source(batches, schema=schema, is_pure=True)

    def fingerprint(self, day: date) -> str | None:
        """Returns a digest of what the storage says of the files that can hold a day's events; see `Source`."""
        return self._digest_of(day, self._around(day, day))

    def landed_days(self) -> Iterator[date]:
        """Yields the days whose folder holds a whole file; see `Source.landed_days`."""
        yield from self._landed(None, None)

    def survey(self) -> dict[date, str]:
        """Returns all days in one look; see `SurveyedSource.survey`."""
        return self._surveyed(self._look())

    def survey_at_rest(self) -> dict[date, str]:
        """Returns all days but those that are being written just now; see `SettlingSource.survey_at_rest`."""
        landed = self._look()
        now = time.time_ns()
        filling = {day for day, files in landed.items() if any(self._is_filling(file, now) for file in files)}
        return {day: text for day, text in self._surveyed(landed).items() if day not in filling}

    def passed_over(self) -> list[str]:
        """Returns what lies below the root and is no part of the source; see `InspectedSource.passed_over`."""
        return [*self._beside(), *(phrase for _, phrase in self._unread(self._listed(None, None)))]

    def misplaced(self, window: Window) -> dict[date, MisplacedEvents]:
        """Returns the events that no window gives; see `ExaminedSource.misplaced`."""
        found = {}
        days = list(window.dates())
        for day, files in self._landed(days[0], days[-1]).items():
            placed = [(file, self._placement(file, self._reach(day))) for file in files]
            bad = [(file, each) for file, each in placed if each.misplaced]
            if bad:
                found[day] = MisplacedEvents(
                    events=sum(each.events for _, each in placed),
                    without_time=sum(each.without_time for _, each in bad),
                    elsewhere=sum(each.elsewhere for _, each in bad),
                    examples=tuple(f"{file.path}: {each.example or 'no time'}" for file, each in bad[:_LISTED]),
                    allowed_share=self.max_misplaced_share,
                )
        return found

    # What a format says.

    @property
    @abstractmethod
    def _suffixes(self) -> tuple[str, ...]:
        """How names of files end."""

    @abstractmethod
    def _is_whole(self, file: File) -> bool:
        """Tells whether a file was written to its end, as far as a look at its ends tells."""

    @abstractmethod
    def _is_filling(self, file: File, now: int) -> bool:
        """Tells whether a file that is whole may still grow, given nanoseconds since 1970."""

    @abstractmethod
    def _schema(self, files: Sequence[File]) -> dict[str, pl.DataType]:
        """Returns the columns that arrive, given the files of a window; its event time is among them."""

    @abstractmethod
    def _read(self, files: Sequence[File], wanted: Mapping[str, pl.DataType], window: Window) -> Iterator[pl.DataFrame]:
        """Yields the events of a window, of the wanted columns, those alone that lie within reach of their folders."""

    @abstractmethod
    def _placement(self, file: File, reach: Reach) -> Placement:
        """Returns how the events of a file lie."""

    # What all formats share.

    def _reach(self, day: date) -> Reach:
        from feature_store.sources.placement import Reach

        return Reach.of(day, self.max_stray)

    def _around(self, first: date, last: date) -> Days:
        """Returns the files that can hold events of some days, by folder."""
        days = -(-self.max_stray // _ONE_DAY)
        return self._landed(_shifted(first, -days), _shifted(last, days))

    def _landed(self, first: date | None, last: date | None) -> Days:
        """Returns the files of some UTC days' folders, by day and name."""
        return self._whole(self._listed(first, last))

    def _look(self) -> Days:
        """Returns the files of all days, and reports what lies beside them."""
        listed = self._listed(None, None)
        self._report([*self._beside(), *(phrase for _, phrase in self._unread(listed))])
        return self._whole(listed)

    def _whole(self, listed: Iterable[File]) -> Days:
        found: Days = {}
        for file in listed:
            if self._is_event_file(file) and self._is_whole(file):
                found.setdefault(file.day, []).append(file)
        return found

    def _listed(self, first: date | None, last: date | None) -> list[File]:
        """Returns what lies in date folders, by day and name."""
        place = self._place()
        with self._naming_outages():
            found = list(storage_of(place).dated_files(place, first, last))
        return sorted(found, key=lambda file: (file.day, file.path.name))

    def _place(self) -> Location:
        return open_location(self.root, setting=f"root of source {self.name!r}")

    def _is_event_file(self, file: File) -> bool:
        # A name that begins so is hidden by the convention of Hadoop, as one that begins with a point is.
        return file.path.name.endswith(self._suffixes) and not file.path.name.startswith("_")

    def _surveyed(self, landed: Days) -> dict[date, str]:
        found = {day: self._digest_of(day, landed) for day in landed}
        return {day: text for day, text in found.items() if text is not None}

    def _digest_of(self, day: date, landed: Days) -> str | None:
        if day not in landed:
            return None
        days = -(-self.max_stray // _ONE_DAY)
        around = (_shifted(day, shift) for shift in range(-days, days + 1))
        described = [
            (other.toordinal() - day.toordinal(), file.path.name, file.stat.size, _version(file))
            for other in around
            for file in landed.get(other, [])
        ]
        return hashlib.sha256(repr(described).encode()).hexdigest()[:16]

    def _not_landed(self, missing: Sequence[date]) -> MissingSourceError:
        listed = self._listed(missing[0], missing[-1])
        half = [phrase for day, phrase in self._unread(listed) if day in missing]
        seen = f" What lies there: {'; '.join(half[:_LISTED])}." if half else ""
        return MissingSourceError(
            f"Source {self.name!r} has not landed for {len(missing)} day(s) from {missing[0]} to {missing[-1]}: "
            f"no whole {self._suffixes[0][1:]} file in {self.root}/{DATE_PREFIX}{missing[0]}.{seen} Land the files, or "
            "compute days before them."
        )

    def _unread(self, listed: Iterable[File]) -> Iterator[tuple[date, str]]:
        """Yields what lies in date folders and is not read, with its day."""
        for file in listed:
            name = f"{file.path.parent.name}/{file.path.name}"
            if not self._is_event_file(file):
                if not file.path.name.startswith("_"):
                    yield file.day, f"{name} (no {self._suffixes[0][1:]} file)"
            elif not self._is_whole(file):
                yield file.day, f"{name} (not whole: {file.stat.size:,} bytes)"

    def _beside(self) -> list[str]:
        """Returns what lies beside the date folders, and date folders that hold folders."""
        place = self._place()
        with self._naming_outages():
            try:
                names = sorted(path.name for path in place.iterdir())
            except FileNotFoundError:
                return []
        strays = [name for name in names if date_of(name) is None and not name.startswith(".")]
        return [f"{name} (no date=YYYY-MM-DD)" for name in strays if name != "_SUCCESS"]

    def _report(self, phrases: Iterable[str]) -> None:
        """Logs what is passed over, once in a process."""
        new = [phrase for phrase in phrases if (self.name, str(self.root), phrase) not in _reported]
        _reported.update((self.name, str(self.root), phrase) for phrase in new)
        if new:
            more = f" and {len(new) - _LISTED} more" if len(new) > _LISTED else ""
            _LOG.warning("Source %r passes over %s%s in %s.", self.name, ", ".join(new[:_LISTED]), more, self.root)

    @contextmanager
    def _naming_outages(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"Source {self.name!r}: {self.root} cannot be listed: {error}.") from error

    def _invalid(self, file: File, reason: str, remedy: str) -> InvalidSourceError:
        return InvalidSourceError(f"Source {self.name!r}, file {file.path}: {reason}. {remedy}")


def _version(file: File) -> object:
    """Returns what tells a file from one of the same name and size that took its place."""
    return file.stat.e_tag or (file.stat.modified_ns, file.stat.changed_ns)


def _shifted(day: date, days: int) -> date:
    return date.fromordinal(min(max(day.toordinal() + days, 1), date.max.toordinal()))
