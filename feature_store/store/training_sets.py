"""`TrainingSets`: versions of training sets, from their building to their comparison."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts
from feature_store.training_sets.versions import TrainingSetVersion, WrittenTrainingSet, open_version, parse_reference

if TYPE_CHECKING:
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.offline.point_in_time.engine import Progress
    from feature_store.partitions import Window
    from feature_store.training_sets.comparison import TrainingSetDiff
    from feature_store.training_sets.leak_guard import LeakReport
    from feature_store.training_sets.rebuilding import RebuiltTrainingSet


@dataclass(frozen=True, slots=True)
class TrainingSets:
    """Writes, opens, rebuilds, verifies and compares training sets.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def write(
        self,
        definition: TrainingSet,
        span: Window | None = None,
        *,
        new_version: bool = False,
        progress: Progress | None = None,
    ) -> WrittenTrainingSet:
        """Builds a training set and keeps it as a version; see `FeatureStore.write_training_set`."""
        from feature_store.training_sets.building import Builder

        builder = Builder(
            catalog=self.catalog.refresh(),
            offline=self.parts.offline,
            registry=self.parts.registry,
            engine=self.parts.engine,
            clock=self.parts.clock,
            on_demand=self.parts.on_demand(),
            progress=progress,
        )
        return builder.build(definition, span, new_version=new_version)

    def open(self, name: str, version: int | None = None) -> TrainingSetVersion:
        """Returns a version of a training set that was written; see `FeatureStore.open_training_set`."""
        return open_version(self.parts.offline.root, name, version)

    def rebuild(
        self, name: str, version: int | None = None, *, definition: TrainingSet | None = None
    ) -> RebuiltTrainingSet:
        """Rebuilds a version from its manifest, and finds the same bytes or the input that has changed.

        Files of the version that are missing or damaged are put back in place.

        Args:
            name: The training set.
            version: Its version; None for the latest.
            definition: Gives the labels anew, to be compared too. By default they are taken from the version's rows.

        Raises:
            UnknownFeatureError: If there is no such training set or version.
            TrainingSetChangedError: If source files, features, times to live, on-demand code or labels have changed.
        """
        from feature_store.training_sets.rebuilding import Rebuilder

        parts = self.parts
        rebuilder = Rebuilder(self.catalog.refresh(), parts.offline, parts.engine, parts.clock.now(), parts.on_demand())
        return rebuilder.rebuild(self.open(name, version), definition)

    def verify(
        self,
        name: str,
        version: int | None = None,
        *,
        rows: int = 1000,
        seed: int = 0,
        partitions: Collection[str] | None = None,
    ) -> LeakReport:
        """Compares sampled rows of a version with the rule of visibility; see `FeatureStore.verify_training_set`."""
        from feature_store.training_sets.verification import verify

        found = self.open(name, version)
        return verify(found, self.parts.offline, rows=rows, seed=seed, partitions=partitions)

    def compare(self, before: str, after: str) -> TrainingSetDiff:
        """Returns what differs between two versions; see `FeatureStore.compare_training_sets`."""
        from feature_store.training_sets.comparison import compare

        one, other = (self.open(*parse_reference(text)) for text in (before, after))
        return compare(one, other)
