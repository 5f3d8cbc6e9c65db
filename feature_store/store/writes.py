"""`Writes`: computes or takes rows of a group, and brings them into both stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any

from feature_store.definitions.group import FeatureGroup
from feature_store.offline.snapshots import WrittenSnapshot, write_snapshots
from feature_store.partitions import Window
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts
from feature_store.transform.ingestion import IngestReport, ingest
from feature_store.transform.materialization import Materialization, MaterializedPass, materialize
from feature_store.transform.reports import MaterializationReport, Progress, run_passes


@dataclass(frozen=True, slots=True)
class Writes:
    """Writes rows of groups.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def materialize(
        self,
        group: FeatureGroup,
        first: str | date | datetime,
        last: str | date | datetime | None = None,
        *,
        run_id: str = "",
        progress: Progress | None = None,
    ) -> MaterializationReport:
        """Computes a group's partitions and writes them to both stores; see `FeatureStore.materialize`."""
        span = group.partitioning.covering(first, last)
        report = MaterializationReport(group.name, asked=sum(1 for _ in group.partitioning.windows(span)))
        return run_passes(self.materialize_passes(group, span, run_id=run_id), report, progress)

    def materialize_passes(self, group: FeatureGroup, span: Window, *, run_id: str = "") -> Iterator[MaterializedPass]:
        """Does what `materialize` does pass by pass, as far as the iterator is drawn: nothing is computed before.

        Args:
            group: An applied feature group.
            span: Whole partitions, for instance `group.partitioning.span("2013-01-01", "2013-01-31")`.
            run_id: Kept in the files' metadata.

        Yields:
            One report per pass of up to 92 partitions.
        """
        run = materialize
        if self.parts.engine.name == "spark":
            from feature_store.spark.materialization import materialize as materialize_on_spark

            run = partial(materialize_on_spark, spark_conf=self.parts.spark_conf)
        bound = self.catalog.bind(group)
        self.catalog.publish_if_needed()
        return run(Materialization(bound, self.parts.offline, self.parts.online, self.parts.clock, run_id), span)

    def ingest(self, group: FeatureGroup, frame: Any) -> IngestReport:
        """Writes feature rows that were computed elsewhere; see `FeatureStore.ingest`."""
        bound = self.catalog.bind(group)
        self.catalog.publish_if_needed()
        return ingest(bound, frame, offline=self.parts.offline, online=self.parts.online, clock=self.parts.clock)

    def snapshots(self, group: FeatureGroup) -> Iterator[WrittenSnapshot]:
        """Brings a group's snapshots up to date: makes those that are missing or whose inputs have changed.

        Args:
            group: An applied feature group that declares `snapshot_every`.

        Yields:
            One report per snapshot, in order of time.

        Raises:
            DefinitionError: If the group declares no snapshots.
        """
        registered = self.catalog.registered(group)
        offline = self.parts.offline
        return write_snapshots(offline, registered, group.snapshot_days(offline.materialized(registered)))
