"""One look of the gap sensor: groups, one after another, against what lies in their sources."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
import msgspec
from dagster import DagsterInstance

from dagster_feature_store.naming import Names
from dagster_feature_store.resources.alerts import AlertsResource
from dagster_feature_store.sensors.alerts import recoveries
from dagster_feature_store.sensors.requests import FeatureJobs, RangeRequests, WorkInProgress
from dagster_feature_store.sensors.sources import SourcesSeen
from feature_store.clock import SystemClock
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import RegistryError
from feature_store.offline.failed_partitions import FailedPartition, failed_partitions
from feature_store.offline.unfinished import left_behind
from feature_store.reconcile.coverage import Coverage, coverage, spans
from feature_store.reconcile.due import (
    NEWEST_PARTITIONS,
    DuePartitions,
    LandedDays,
    due_partitions,
    newest_first,
    spans_of_gaps,
)
from feature_store.store import FeatureStore

MOST_LOOKS_WAITED = 10
"""A source whose files never come to rest is read all the same after this many looks."""

SECONDS_A_LOOK = 20.0
"""Groups that are not looked at within this time have their turn at the next look. Dagster ends a look after 60 s."""

MOST_REPORTED = 1000
"""Partitions that others have computed are reported to Dagster, so many in one look."""

MISSING = "gap: partitions that have landed are missing"
CHANGED = "late data: source days have changed since"


class LookCursor(msgspec.Struct):
    """What the last look has seen.

    Attributes:
        turn: Number of the group that is looked at first.
        sources: What lay in each source.
        waited: For how many looks a source's partitions have waited.
    """

    turn: int = 0
    sources: dict[str, str] = {}
    waited: dict[str, int] = {}

    @classmethod
    def read(cls, text: str | None) -> LookCursor:
        """Returns the cursor that a sensor has kept, an empty one if there is none."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    def written(self) -> str:
        """Returns what a sensor keeps."""
        return msgspec.json.encode(self).decode()


def due_requests(
    group: FeatureGroup, due: DuePartitions, landed: LandedDays, requests: RangeRequests, job_name: str
) -> None:
    """Adds requests for what is due of a group: the newest partitions in a run of their own, then the rest.

    Args:
        group: The feature group.
        due: What is to be computed.
        landed: What lies in its source.
        requests: Is added to.
        job_name: The job that computes the group.
    """
    digests = dict(landed.partitions_of(group, [*due.missing, *due.changed]))
    for windows, reason in ((due.missing, MISSING), (due.changed, CHANGED)):
        newest, rest = windows[-NEWEST_PARTITIONS:], windows[:-NEWEST_PARTITIONS]
        for priority, part in ((1, newest), (0, rest)):
            found = spans_of_gaps(group, part) if reason == MISSING else newest_first(spans(part))
            for span in found:
                inputs = [digests[window] for window in part if span.start <= window.start < span.end]
                cause = [group.name, group.code_version, inputs]
                requests.add(group, span, job_name=job_name, cause=cause, reason=reason, priority=priority)


@dataclass(slots=True)
class GapLook:
    """One look.

    Attributes:
        instance: Holds what Dagster knows.
        names: What the objects of the code location are called.
        feature_jobs: The job that computes each feature group.
        before: What the last look has seen.
        requests: What is to be computed.
        after: What this one sees.
        events: Partitions that Dagster does not know of.
        waiting: Groups whose sources have not come to rest.
        held: Partitions that fail for a reason of their own, by group.
        well: Groups of which nothing is left to be done.
        unseen: Number of groups that have their turn at the next look.
        errors: Why groups could not be looked at.
    """

    instance: DagsterInstance
    names: Names
    feature_jobs: FeatureJobs
    before: LookCursor
    requests: RangeRequests
    after: LookCursor
    events: list[dg.AssetMaterialization] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    well: list[str] = field(default_factory=list)
    unseen: int = 0
    errors: dict[str, str] = field(default_factory=dict)

    def at(
        self,
        groups: Sequence[FeatureGroup],
        store: FeatureStore,
        seen: SourcesSeen,
        work: WorkInProgress,
        known: dict[str, int],
    ) -> None:
        """Looks at groups, in turns, as long as there is time.

        Args:
            groups: All feature groups.
            store: The store.
            seen: What lies in the sources.
            work: What goes on.
            known: Groups of which Dagster knows all partitions; added to.
        """
        until = time.monotonic() + SECONDS_A_LOOK
        failed = failed_partitions(store.offline.root)
        for number in range(len(groups)):
            if number and time.monotonic() > until:
                self.unseen = len(groups) - number
                self.after.turn = (self.before.turn + number) % len(groups)
                return
            group = groups[(self.before.turn + number) % len(groups)]
            asset = self.names.key_text(group.name)
            landed = seen.landed.get(group.source.name)
            if landed is None or work.on_all_of(asset):
                continue
            try:
                self._at_one(group, store, landed, work, failed, known)
            except Exception as error:  # noqa: BLE001 - of one group: it keeps no other from being looked at
                self.errors[group.name] = f"{type(error).__name__}: {error}"

    def _at_one(
        self,
        group: FeatureGroup,
        store: FeatureStore,
        landed: LandedDays,
        work: WorkInProgress,
        failed: Mapping[tuple[str, datetime], FailedPartition],
        known: dict[str, int],
    ) -> None:
        asset = self.names.key_text(group.name)
        found = coverage(group, store.offline)
        if not work.on_any_of(asset):
            self.events += _unreported(self.instance, group, found, known, self.names)
        now, wall = store.clock.now(), SystemClock().now()
        due = due_partitions(group, found, landed, failed, now=now, tried_until=wall)
        if not (due.missing or due.changed or due.held or work.on_any_of(asset)):
            self.well.append(group.name)
        due = due.without(work.on(asset))
        if due.held:
            self.held[group.name] = len(due.held)
        if due.missing or due.changed:
            self._ask(group, due, landed)

    def _ask(self, group: FeatureGroup, due: DuePartitions, landed: LandedDays) -> None:
        source = group.source.name
        last, waited = self.before.sources.get(source), self.before.waited.get(source, 0)
        if last is not None and last != landed.signature and waited < MOST_LOOKS_WAITED:
            # It has changed since the last look, and may go on changing.
            self.waiting.append(group.name)
            self.after.waited[source] = waited + 1
        else:
            due_requests(group, due, landed, self.requests, self.feature_jobs[group.name].name)

    def told(self) -> str:
        """Returns why nothing is requested, in a sentence or two."""
        parts = []
        if self.waiting:
            parts.append(f"Waiting whether more of the sources changes: {', '.join(self.waiting)}.")
        if self.requests.paused:
            parts.append(f"{self.requests.paused} run(s) failed a moment ago, and are tried again after a pause.")
        if self.held:
            held = ", ".join(f"{count} of {group}" for group, count in self.held.items())
            parts.append(f"Held until they are corrected: {held}.")
        if self.unseen:
            parts.append(f"{self.unseen} group(s) have their turn at the next look.")
        parts += [f"{group} was not looked at: {error}" for group, error in self.errors.items()]
        return " ".join(parts) or "No partition is missing or old, or what is due is being worked on."


def note_recoveries(store: FeatureStore, alerts: AlertsResource, well: Sequence[str]) -> None:
    """Notes that groups whose runs have failed are well again, where nothing is left to be pushed online either."""
    # Without the registry nobody knows what has been told; the next look notes it.
    with suppress(RegistryError):
        opened = alerts.open(store.registry)
        incidents = opened.open_incidents()
        if incidents:
            pushed = [name for name in well if not left_behind(store.offline.root, name)]
            opened.note(recoveries(incidents, pushed))


def _unreported(
    instance: DagsterInstance,
    group: FeatureGroup,
    found: Coverage,
    known: dict[str, int],
    names: Names,
) -> Iterator[dg.AssetMaterialization]:
    """Yields materializations of partitions that lie there and that Dagster does not know of."""
    key = names.key(group.name)
    if known.get(group.name) == hash(found.present):
        return
    recorded = instance.get_materialized_partitions(key)
    unknown = [
        partition for window in found.present if (partition := group.partitioning.key(window.start)) not in recorded
    ]
    if not unknown:
        known[group.name] = hash(found.present)
    for partition in unknown[:MOST_REPORTED]:
        yield dg.AssetMaterialization(key, partition=partition, description="Computed outside of Dagster.")
