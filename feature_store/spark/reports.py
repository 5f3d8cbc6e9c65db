"""What a materialization reports from one process to another: passes as JSON, without their files' contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import MisplacedEvents
from feature_store.errors import InvalidRowsError
from feature_store.monitoring.profile import PartitionProfile
from feature_store.offline.store import OfflineStore
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.transform.materialization import MaterializedPartition, MaterializedPass
from feature_store.transform.partition_failures import PartitionFailure


class PartitionReport(msgspec.Struct):
    """One partition that was written.

    Attributes:
        profile: Its numbers.
        changed: Rows that are new or differ from those that were there.
        withdrawn: Rows that were there and are gone.
        misplaced: Events of its day that no window gives.
    """

    profile: PartitionProfile
    changed: int
    withdrawn: int
    misplaced: MisplacedEvents | None = None


class TaskReport(msgspec.Struct):
    """What one task wrote: partitions by number, and what became of their rows online."""

    partitions: dict[int, PartitionReport]
    online: WriteReport
    withdrawn: int


class Refusal(msgspec.Struct):
    """Rows that were refused; see `InvalidRowsError`."""

    failures: list[str]
    remedy: str
    partition: str | None = None

    @classmethod
    def of(cls, error: InvalidRowsError) -> Refusal:
        """Returns the refusal that an error tells of."""
        return cls(error.failures, error.remedy, error.partition)

    def error(self, group: str) -> InvalidRowsError:
        """Returns the error."""
        return InvalidRowsError(group, self.failures, self.remedy, self.partition)


class PassReport(msgspec.Struct):
    """One pass; see `MaterializedPass`. Partitions and failures by key."""

    partitions: dict[str, PartitionReport]
    online: WriteReport
    withdrawn: int
    seconds: float
    failed: dict[str, Refusal]

    @classmethod
    def of(cls, done: MaterializedPass) -> PassReport:
        """Returns the report of a pass."""
        partitions = {
            partition.key: PartitionReport(
                partition.profile, partition.changed, partition.withdrawn, partition.misplaced
            )
            for partition in done.partitions
        }
        failed = {each.key: Refusal.of(each.error) for each in done.failed if isinstance(each.error, InvalidRowsError)}
        return cls(partitions, done.online, done.withdrawn, done.seconds, failed)

    def materialized(self, group: FeatureGroup, offline: OfflineStore) -> MaterializedPass:
        """Returns the pass, with the files that are in place now."""
        reports = {group.partitioning.window(key): report for key, report in self.partitions.items()}
        partitions = written_partitions(group, offline, reports) if reports else ()
        failed = tuple(
            PartitionFailure(key, group.partitioning.window(key), refusal.error(group.name))
            for key, refusal in self.failed.items()
        )
        return MaterializedPass(partitions, self.online, self.withdrawn, self.seconds, failed)


def written_partitions(
    group: FeatureGroup, offline: OfflineStore, reports: Mapping[Window, PartitionReport]
) -> tuple[MaterializedPartition, ...]:
    """Returns partitions that other processes have written, in order, with their files."""
    windows: Sequence[Window] = sorted(reports)
    files = {
        file.window: file
        for file in offline.files(group.name, Window(windows[0].start, windows[-1].end))
        if file.belongs_to(group.partitioning)
    }
    return tuple(
        MaterializedPartition(
            group.partitioning.key(window.start),
            window,
            files[window],
            reports[window].changed,
            reports[window].withdrawn,
            reports[window].profile,
            reports[window].misplaced,
        )
        for window in windows
    )
