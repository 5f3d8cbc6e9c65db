"""Whether a group is as fresh as its definition promises: the newest event, and the newest partition that is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from feature_store.catalog import BoundGroup, RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.durations import duration_text
from feature_store.monitoring.check_names import FRESHNESS
from feature_store.monitoring.findings import CheckResult, Finding
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh a group is.

    Attributes:
        at: The instant that is looked at (UTC): now, or the group's end if that has passed.
        newest_event: The newest event up to then (UTC), None if there is none.
        due: Key of the newest partition that is complete by then, None if there is none.
        is_present: Whether that partition has been materialized.
        promised: How old the newest event may be, None if nothing is promised.
    """

    at: datetime
    newest_event: datetime | None
    due: str | None
    is_present: bool
    promised: timedelta | None

    @property
    def age(self) -> timedelta | None:
        """Age of the newest event."""
        return None if self.newest_event is None else self.at - self.newest_event

    @property
    def is_kept(self) -> bool:
        """Whether the promise is kept; true where there is none."""
        return self.promised is None or (self.age is not None and self.age <= self.promised)


def freshness_of(group: BoundGroup, *, offline: OfflineStore, now: datetime) -> Freshness:
    """Looks up how fresh a group is.

    Args:
        group: The feature group; what is registered holds the promise.
        offline: Holds its rows.
        now: The present (UTC).
    """
    declared, registered = group.declared, group.registered
    at = now if declared.end is None else min(now, declared.end)
    partitioning = declared.partitioning
    last = partitioning.window(partitioning.key(at)).start - partitioning.length
    due = partitioning.key(last) if last >= declared.start else None
    present = {file.window.start for file in offline.files(group.name) if file.belongs_to(partitioning)}
    promised = None if registered.freshness_seconds is None else timedelta(seconds=registered.freshness_seconds)
    return Freshness(at, _newest_event(registered, offline, at), due, due is None or last in present, promised)


def check_freshness(fresh: Freshness) -> CheckResult:
    """Judges a group's freshness."""
    numbers = {"partition_is_present": float(fresh.is_present)}
    if fresh.age is not None:
        numbers["age_hours"] = round(fresh.age / _HOUR, 2)
    if fresh.promised is not None:
        numbers["promised_hours"] = round(fresh.promised / _HOUR, 2)
    newest = (
        "there is no event" if fresh.newest_event is None else f"the newest event is of {_shown(fresh.newest_event)}"
    )
    partition = "" if fresh.due is None else f"; partition {fresh.due} is {'there' if fresh.is_present else 'missing'}"
    if fresh.is_kept:
        promise = "" if fresh.promised is None else f", {duration_text(fresh.promised)} are promised"
        return CheckResult(
            FRESHNESS, passed=True, summary=f"At {_shown(fresh.at)} {newest}{promise}{partition}.", numbers=numbers
        )
    assert fresh.promised is not None
    text = f"at {_shown(fresh.at)} {newest}, older than the {duration_text(fresh.promised)} promised{partition}"
    finding = Finding("freshness", "alert", text)
    return CheckResult(FRESHNESS, passed=False, summary=f"{text}.", numbers=numbers, findings=(finding,))


def _newest_event(group: RegisteredGroup, offline: OfflineStore, at: datetime) -> datetime | None:
    length = Partitioning(group.partitioning).length
    newest_first = sorted(offline.files(group.name), key=lambda file: file.window, reverse=True)
    for file in newest_first:
        if file.window.start >= at:
            continue
        window = Window(
            file.window.start, min(file.window.start + max(length, file.window.end - file.window.start), at)
        )
        newest = offline.collect(group, lambda rows: rows.select(pl.col(EVENT_TIMESTAMP).max()), window).item()
        if newest is not None:
            return newest  # type: ignore[no-any-return]  # a datetime, by the column's type
    return None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
