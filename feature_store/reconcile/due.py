"""Which partitions of a feature group are to be computed, and why: by the files and the source alone.

What should be there is each complete partition whose source days have landed, look-back included, made of just these
days. What is there, the files say. Who has requested what, and which run has failed, is not asked: after any outage the
answer is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from feature_store.day_windows import day_window
from feature_store.definitions.group import FeatureGroup
from feature_store.offline.failed_partitions import FailedPartition
from feature_store.partitions import Window
from feature_store.reconcile.coverage import Coverage, spans
from feature_store.reconcile.pauses import pause
from feature_store.transform.inputs import digest_of_days, source_days
from feature_store.transform.materialization import PARTITIONS_PER_PASS

BRIDGED_PARTITIONS = 7
"""Gaps with so few partitions between them are one run: starting another costs more than computing those again."""

NEWEST_PARTITIONS = PARTITIONS_PER_PASS
"""Partitions that are computed first, in a run of their own: what is served online and trained on next."""


class LandedDays:
    """The days of a source that have landed, as one look has seen them.

    Args:
        landed: Fingerprint of each day.
    """

    def __init__(self, landed: Mapping[date, str]) -> None:
        self.landed = landed
        self._since: dict[date, date] = {}
        before: date | None = None
        for day in sorted(landed):
            follows = before is not None and (day - before).days == 1
            self._since[day] = self._since[before] if follows and before is not None else day
            before = day
        self._digests: dict[tuple[date, date], str] = {}
        self._partitions: tuple[tuple[object, ...], list[tuple[Window, str]]] | None = None

    def has(self, first: date, last: date) -> bool:
        """Tells whether all days from the first to the last have landed."""
        since = self._since.get(last)
        return since is not None and since <= first

    def digest(self, first: date, last: date) -> str:
        """Returns the digest of the inputs of a partition that reads these days; see `transform.inputs`."""
        found = self._digests.get((first, last))
        if found is None:
            found = self._digests[first, last] = digest_of_days(first, last, self.landed)
        return found

    def partitions(self, group: FeatureGroup, now: datetime) -> Iterator[tuple[Window, str]]:
        """Yields the complete partitions of a group whose source days have all landed, with their digests, in order."""
        # Groups of one look-back have the same: in a code location of a hundred groups it is worked out once.
        asked = (group.partitioning, group.lookback, group.start, group.end, now)
        if self._partitions is None or self._partitions[0] != asked:
            self._partitions = asked, list(self._complete(group, now))
        yield from self._partitions[1]

    def _complete(self, group: FeatureGroup, now: datetime) -> Iterator[tuple[Window, str]]:
        partitioning, begin = group.partitioning, group.start
        for day in sorted(self.landed):
            for window in partitioning.windows(day_window(day)):
                if window.start < begin or window.end > now or (group.end is not None and window.end > group.end):
                    continue
                first, last = _first_and_last(group, window)
                if self.has(first, last):
                    yield window, self.digest(first, last)

    def partitions_of(self, group: FeatureGroup, windows: Iterable[Window]) -> Iterator[tuple[Window, str]]:
        """Yields some partitions of a group with the digests of their inputs."""
        for window in windows:
            yield window, self.digest(*_first_and_last(group, window))

    @cached_property
    def signature(self) -> str:
        """A text that changes when a day lands or changes."""
        return hashlib.sha256(repr(sorted(self.landed.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DuePartitions:
    """What of a feature group is to be computed. Each partition stands in one list; all are in order of time.

    Attributes:
        missing: Partitions without a file, or with one that cannot be read.
        changed: Partitions that were computed from other source days than those that lie there now.
        lacking: Partitions whose files lack a feature that is declared.
        held: Partitions that have failed for a reason of their own: of the same inputs and code they would again.
    """

    missing: tuple[Window, ...]
    changed: tuple[Window, ...]
    lacking: tuple[Window, ...]
    held: tuple[FailedPartition, ...]

    def without(self, worked_on: Sequence[Window]) -> DuePartitions:
        """Returns the same without partitions of some spans."""
        if not worked_on:
            return self

        def free(windows: tuple[Window, ...]) -> tuple[Window, ...]:
            return tuple(
                window
                for window in windows
                if not any(span.start < window.end and window.start < span.end for span in worked_on)
            )

        return replace(self, missing=free(self.missing), changed=free(self.changed), lacking=free(self.lacking))


def due_partitions(
    group: FeatureGroup,
    found: Coverage,
    landed: LandedDays,
    failed: Mapping[tuple[str, datetime], FailedPartition],
    *,
    now: datetime,
    tried_until: datetime,
) -> DuePartitions:
    """Compares what should be there of a group with what is there.

    Args:
        group: As it is declared now.
        found: What lies in the offline store.
        landed: What lies in its source.
        failed: Partitions that have failed; see `offline.failed_partitions`.
        now: The store's present: partitions that end later are not complete.
        tried_until: The wall clock, which says whether what a function has raised on may be tried again.
    """
    present = dict(zip(found.present, found.inputs, strict=True))
    lacks = set(found.lacking)
    missing: list[Window] = []
    changed: list[Window] = []
    lacking: list[Window] = []
    held: list[FailedPartition] = []
    code_version = group.code_version if failed else ""
    for window, digest in landed.partitions(group, now):
        if window not in present:
            into = missing
        elif present[window] != digest:
            into = changed
        elif window in lacks:
            into = lacking
        else:
            continue
        failure = failed.get((group.name, window.start))
        if failure is not None and _holds(failure, digest, code_version, tried_until):
            held.append(failure)
        else:
            into.append(window)
    return DuePartitions(tuple(missing), tuple(changed), tuple(lacking), tuple(held))


def spans_of_gaps(group: FeatureGroup, missing: Sequence[Window]) -> list[Window]:
    """Returns the spans of missing partitions, as few as is worth it, the newest first."""
    bridging = int(BRIDGED_PARTITIONS * group.partitioning.length.total_seconds())
    return newest_first(spans(missing, bridging=bridging))


def newest_first(found: Iterator[Window]) -> list[Window]:
    """Returns spans of partitions, the newest first."""
    return list(reversed(list(found)))


def has_landed(group: FeatureGroup, span: Window, landed: LandedDays) -> bool:
    """Tells whether all source days have landed that the partitions of a span read, look-back included."""
    return landed.has(*_first_and_last(group, span))


def _holds(failure: FailedPartition, inputs: str, code_version: str, now: datetime) -> bool:
    if (failure.inputs, failure.code_version) != (inputs, code_version):
        return False
    return failure.is_final or now < failure.at + pause(failure.attempts)


def _first_and_last(group: FeatureGroup, window: Window) -> tuple[date, date]:
    days = source_days(group, window)
    return days.start.date(), (days.end - timedelta(microseconds=1)).date()
