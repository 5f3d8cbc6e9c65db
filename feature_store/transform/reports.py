"""What a materialization says of itself, as a whole: its passes are those of `transform.materialization`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from feature_store.online.writer import WriteReport
from feature_store.transform.materialization import MaterializedPartition, MaterializedPass
from feature_store.transform.partition_failures import PartitionFailure


@dataclass(frozen=True, slots=True)
class MaterializationReport:
    """What a materialization has done, so far or in all. Its text is one line for people.

    Attributes:
        group: Name of the feature group.
        asked: Number of partitions that were asked for.
        partitions: Those that are in both stores, in order.
        online: What the pushes to the online store did, summed.
        withdrawn: Rows that were taken back online.
        seconds: Wall time of the passes.
        failed: Partitions that failed for a reason of their own.
    """

    group: str
    asked: int
    partitions: tuple[MaterializedPartition, ...] = ()
    online: WriteReport = field(default_factory=WriteReport)
    withdrawn: int = 0
    seconds: float = 0.0
    failed: tuple[PartitionFailure, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that the partitions hold."""
        return sum(partition.profile.rows for partition in self.partitions)

    @property
    def changed(self) -> int:
        """Rows of the partitions that are new or differ from those that were there."""
        return sum(partition.changed for partition in self.partitions)

    @property
    def gone(self) -> int:
        """Rows that were in the partitions and are gone."""
        return sum(partition.withdrawn for partition in self.partitions)

    @property
    def misplaced(self) -> int:
        """Events in the days of the partitions that no window gives; each partition says more of its own."""
        return sum(partition.misplaced.count for partition in self.partitions if partition.misplaced is not None)

    def __str__(self) -> str:
        misplaced = f", {self.misplaced:,} misplaced events left out" if self.misplaced else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        if not self.partitions:
            return f"{self.group}: 0 of {self.asked} partitions{failed}"
        return (
            f"{self.group}: {len(self.partitions)} of {self.asked} partitions{failed}, {self.partitions[0].key} to "
            f"{self.partitions[-1].key}; {self.rows:,} rows, {self.changed:,} changed, {self.gone:,} withdrawn, "
            f"{self.online.written:,} entities pushed online, "
            f"{self.seconds:.1f} s{misplaced}"
        )

    def after(self, done: MaterializedPass) -> MaterializationReport:
        """Returns the report of this and one more pass."""
        return MaterializationReport(
            self.group,
            self.asked,
            self.partitions + done.partitions,
            self.online + done.online,
            self.withdrawn + done.withdrawn,
            self.seconds + done.seconds,
            self.failed + done.failed,
        )


Progress = Callable[[MaterializationReport], None]
"""Called after each pass with the report so far; `print` shows it. What it raises ends the materialization."""


def run_passes(
    passes: Iterable[MaterializedPass], report: MaterializationReport, progress: Progress | None
) -> MaterializationReport:
    """Runs all passes, reports each of them to `progress`, and returns the report of all."""
    for done in passes:
        report = report.after(done)
        if progress is not None:
            progress(report)
    return report
