"""Partitions of a materialization that fail for a reason of their own: held apart, remembered, reported at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.clock import SystemClock
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError, InvalidRowsError, TransformError
from feature_store.offline.failed_partitions import FailedPartition, failed_partitions, forget_failed, keep_failed
from feature_store.partitions import Window

if TYPE_CHECKING:
    from feature_store.storage.location import Location

MOST_RAISING = 20
"""A function that raises on so many partitions fails for a reason that is none of theirs: the rest is not tried."""

_LISTED = 5


@dataclass(frozen=True, slots=True)
class PartitionFailure:
    """A partition that could not be computed; what was stored of it stays.

    Attributes:
        key: The partition's key.
        window: The time that it covers.
        error: Why.
    """

    key: str
    window: Window
    error: InvalidRowsError | TransformError


class PartitionFailures:
    """The failures of one run.

    Args:
        group: The feature group.
        root: Root of the offline store, which remembers them.
        inputs: Digest of what each partition of the run is computed from.
    """

    def __init__(self, group: FeatureGroup, root: Location, inputs: Mapping[Window, str]) -> None:
        self.inputs = inputs
        self._group = group
        self._root = root
        self._known = failed_partitions(root, group.name)
        self._failures: list[PartitionFailure] = []

    def failed(self, window: Window, error: InvalidRowsError | TransformError) -> PartitionFailure:
        """Remembers that a partition has failed.

        Raises:
            TransformError: If the function has raised on too many partitions.
        """
        key = self._group.partitioning.key(window.start)
        failure = PartitionFailure(key, window, error.of_partition(key))
        self._failures.append(failure)
        before = self._known.get((self._group.name, window.start))
        inputs, code_version = self.inputs[window], self._group.code_version
        is_same = before is not None and (before.inputs, before.code_version) == (inputs, code_version)
        now = FailedPartition(
            group=self._group.name,
            start=window.start,
            inputs=inputs,
            code_version=code_version,
            reason=str(failure.error),
            is_final=isinstance(error, InvalidRowsError),
            attempts=before.attempts + 1 if before is not None and is_same else 1,
            # Attempts pause by the wall clock, also where the store stands at another time.
            at=SystemClock().now(),
        )
        keep_failed(self._root, now)
        self._known[self._group.name, window.start] = now
        if sum(isinstance(each.error, TransformError) for each in self._failures) >= MOST_RAISING:
            self.end()
        return failure

    def written(self, windows: Sequence[Window]) -> None:
        """Forgets what is known of partitions that were written."""
        found = [self._known.pop((self._group.name, window.start), None) for window in windows]
        forget_failed(self._root, [each for each in found if each is not None])

    def end(self) -> None:
        """Raises the error of the partitions that have failed, if any.

        Raises:
            InvalidRowsError: If the rows of all of them were rejected.
            TransformError: If the function has raised on one.
        """
        if self._failures:
            raise joined_error(self._group, self._failures)


def joined_error(group: FeatureGroup, failures: Sequence[PartitionFailure]) -> FeatureStoreError:
    """Returns one error for all failures of a run."""
    first = failures[0].error
    if len(failures) == 1:
        return first
    keys = ", ".join(failure.key for failure in failures[:_LISTED])
    more = f" and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    raising = next((each.error for each in failures if isinstance(each.error, TransformError)), None)
    if raising is not None:
        return TransformError(group.name, raising.reason, f"{keys}{more}")
    assert isinstance(first, InvalidRowsError)
    told = [
        f"{each.key}: {line}"
        for each in failures[:_LISTED]
        if isinstance(each.error, InvalidRowsError)
        for line in each.error.failures
    ]
    return InvalidRowsError(group.name, told, first.remedy, f"{keys}{more}")
