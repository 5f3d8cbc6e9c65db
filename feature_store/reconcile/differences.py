"""All that stands otherwise than it should, of some groups and training sets, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from feature_store.catalog import Catalog
from feature_store.clock import Clock, SystemClock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import fingerprints
from feature_store.definitions.training_set import TrainingSet
from feature_store.offline.failed_partitions import failed_partitions
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.partitions import Window
from feature_store.reconcile.coverage import coverage, spans
from feature_store.reconcile.definition_change import changed_values
from feature_store.reconcile.due import LandedDays, due_partitions, newest_first
from feature_store.reconcile.online_sample import sample_online
from feature_store.reconcile.stale_training_sets import staleness

_LISTED = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that stands otherwise than it should.

    Attributes:
        subject: Name of the feature group or training set.
        summary: What differs, as a sentence.
        remedy: What brings it to the state that it should have, as a sentence.
    """

    subject: str
    summary: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.summary} {self.remedy}"


def differences_of_partitions(
    groups: Iterable[FeatureGroup], offline: OfflineStore, clock: Clock
) -> Iterator[Difference]:
    """Yields what of the partitions in the offline store differs from the sources and the groups' definitions.

    Args:
        groups: As they are declared now.
        offline: The offline store.
        clock: Tells the present.
    """
    failed = failed_partitions(offline.root)
    for group in groups:
        found = coverage(group, offline)
        landed = LandedDays(fingerprints(group.source))
        due = due_partitions(group, found, landed, failed, now=clock.now(), tried_until=SystemClock().now())
        for title, windows in (
            # A group of which nothing was ever computed is new, not broken.
            ("have landed and are not computed", due.missing if found.present else ()),
            ("were computed from source days that have changed", due.changed),
            ("lack a feature that is declared", due.lacking),
        ):
            if windows:
                span = newest_first(spans(windows))[0]
                yield Difference(group.name, f"{len(windows)} partition(s) {title}.", f"Run {_command(group, span)}.")
        for held in due.held[-_LISTED:]:
            yield Difference(
                group.name, f"Partition {group.partitioning.key(held.start)} is held: {held.reason}", "Correct it."
            )
        if (text := changed_values(group, offline, found, landed)) is not None:
            yield Difference(
                group.name, text, "Give the features that change a new version, or materialize the partitions again."
            )


def differences_online(
    groups: Iterable[FeatureGroup], catalog: Catalog, offline: OfflineStore, online: OnlineStore, clock: Clock
) -> Iterator[Difference]:
    """Yields the groups of which the online store has lost keys, or of which writers have left something to be done.

    Args:
        groups: As they are declared now; those that are not registered are passed over.
        catalog: What is registered.
        offline: Tells what must be visible online.
        online: Is sampled.
        clock: Tells the present.

    Raises:
        OnlineStoreError: If the online store does not answer.
    """
    for group in groups:
        if group.name not in catalog.groups:
            continue
        sample = sample_online(catalog.group(group.name), catalog=catalog, offline=offline, online=online, clock=clock)
        if sample.lost or sample.unfinished:
            lost = f"{sample.lost} of {sample.entities} sampled entities are not online"
            yield Difference(
                group.name,
                f"{lost}, {sample.unfinished} write(s) are unfinished there.",
                f"Run `feature-store monitor repair {group.name}`.",
            )


def differences_of_training_sets(training_sets: Iterable[TrainingSet], offline: OfflineStore) -> Iterator[Difference]:
    """Yields the training sets whose latest version is not what their sources would give now."""
    for definition in training_sets:
        found = staleness(offline, definition.name)
        if found.files:
            yield Difference(
                definition.name, found.summary, f"Run `feature-store training-set build {definition.name}`."
            )


def _command(group: FeatureGroup, span: Window) -> str:
    first, last = group.partitioning.key(span.start), group.partitioning.key(span.end - group.partitioning.length)
    return f"`feature-store materialize {group.name} --from {first} --to {last}`"
