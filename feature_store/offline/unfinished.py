"""Marks of writes that have begun and not ended: what a killed writer has left to be done is known to the next one.

A mark is a small file, `{root}/_unfinished/{group}/{began}-{token}.json`, with the UTC days that the write touches;
`began` is the store's present then, in microseconds since 1970. It is made before the first file of the store, and goes
when the online store has everything. The mark of a writer of this machine is locked as long as it lives; in S3, where
there are no locks, a mark is a dead writer's when it is old.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from feature_store.clock import EARLIEST, nearest_datetime, to_micros
from feature_store.offline.layout import group_folder
from feature_store.storage.location import Location, storage_of

FOLDER = "_unfinished"
"""No group has a name that begins with an underscore."""

_ALL_DAYS = b"[]"
"""Marks of all days are nobody's: they lie there to be found."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A write that has not ended.

    Attributes:
        path: Its mark.
        days: UTC days of the rows; none for all days.
        began: When it began (UTC).
    """

    path: Location
    days: tuple[date, ...]
    began: datetime

    def done(self) -> None:
        """Says that all of it has been done."""
        self.path.unlink(missing_ok=True)


@contextmanager
def unfinished(root: Location, group: str, days: Sequence[date], began: datetime) -> Iterator[None]:
    """Marks a write while the block lasts. If the block fails, or the process is killed, the mark stays."""
    path = _new_mark(root, group, began)
    with storage_of(path).mark(path, msgspec.json.encode([day.isoformat() for day in days])):
        yield


def leave_unfinished(root: Location, group: str, began: datetime) -> None:
    """Marks all days of a group: what is online is to be brought in line with the offline store by the next writer."""
    path = _new_mark(root, group, began)
    storage_of(path).leave_mark(path, _ALL_DAYS)


def left_behind(root: Location, group: str) -> list[Unfinished]:
    """Returns the writes of a group whose writers are dead."""
    folder = group_folder(root / FOLDER, group)
    found = storage_of(folder).abandoned_marks(folder, ownerless=_ALL_DAYS)
    return [Unfinished(path, _days(content), _began(path)) for path, content in found]


def under_way(root: Location, group: str) -> list[Unfinished]:
    """Returns the writes of a group that have not ended, be their writers alive or dead."""
    folder = group_folder(root / FOLDER, group)
    found = storage_of(folder).marks(folder)
    return [Unfinished(path, _days(content), _began(path)) for path, content in found]


def _began(path: Location) -> datetime:
    began, dash, _ = path.name.partition("-")
    # A name of another making says nothing: it may have begun at any time.
    return nearest_datetime(int(began) if dash and began.isdecimal() else EARLIEST)


def _new_mark(root: Location, group: str, began: datetime) -> Location:
    return group_folder(root / FOLDER, group) / f"{to_micros(began)}-{uuid.uuid4().hex}.json"


def _days(content: bytes) -> tuple[date, ...]:
    try:
        return tuple(map(date.fromisoformat, msgspec.json.decode(content, type=list[str])))
    except (msgspec.MsgspecError, ValueError):
        # Cut off while it was written: all days are looked at.
        return ()
