"""The check that tells whether a training set still is what its sources would give.

It compares digests of the files that the latest version was built from with those that are there now: a partition that
was recomputed with the same rows leaves every training set up to date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import UnknownFeatureError
from feature_store.store import FeatureStore
from feature_store.training_sets.inputs import changed_files, files_of
from feature_store.training_sets.versions import open_version
from resources.feature_store import FeatureStoreResource

UP_TO_DATE = "up_to_date"
_DESCRIPTION = (
    "The files of the offline store from which the latest version was built are what they were. Built again, the set "
    "would have the same feature values."
)
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Staleness:
    """What of a training set's sources has changed.

    Attributes:
        version: The latest version, None if none was written.
        files: Files of the offline store that have changed, gone or come, below its root.
        partitions: Partitions of the training set that are concerned; empty for one without partitions.
    """

    version: int | None
    files: tuple[str, ...]
    partitions: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The same in one sentence."""
        if self.version is None:
            return "No version has been written yet."
        if not self.files:
            return f"Version {self.version} was built from files that are what they were."
        more = f" and {len(self.files) - _EXAMPLES} more" if len(self.files) > _EXAMPLES else ""
        parts = f" {len(self.partitions)} of its partitions are concerned." if self.partitions else ""
        return (
            f"Version {self.version} is stale: {len(self.files)} source file(s) have changed since, "
            f"{', '.join(self.files[:_EXAMPLES])}{more}.{parts} Materialize the training set to build the next version."
        )


def staleness(store: FeatureStore, name: str) -> Staleness:
    """Compares the latest version of a training set with the offline store.

    Raises:
        CorruptFileError: If a manifest or a source file cannot be read.
    """
    try:
        version = open_version(store.offline.root, name)
    except UnknownFeatureError:
        return Staleness(None, ())
    files = files_of(version, store.offline) if version.parts else None
    changed: set[str] = set()
    partitions = []
    for part in version.parts:
        assert files is not None
        found = {path for paths in changed_files(version.manifest, part, files).values() for path in paths}
        changed |= found
        if found and part.partition is not None:
            partitions.append(part.partition)
    return Staleness(version.version, tuple(sorted(changed)), tuple(partitions))


def listing(store: FeatureStore, name: str) -> str | None:
    """Returns a text that changes when the latest version or a file of its feature groups does; None without version.

    It looks at names, sizes and times alone, at a small part of the cost of `staleness`.
    """
    try:
        version = open_version(store.offline.root, name)
    except UnknownFeatureError:
        return None
    groups = sorted({feature.group for feature in version.manifest.stored.values()})
    files = [(str(file.path), file.size, file.modified_ns) for group in groups for file in store.offline.files(group)]
    return hashlib.sha256(repr((version.version, version.partitions, files)).encode()).hexdigest()[:16]


def evaluation_of(name: str, found: Staleness) -> dg.AssetCheckEvaluation:
    """Returns the check's outcome as an event that needs no run."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=UP_TO_DATE,
        passed=not found.files,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.summary,
        metadata=_metadata(found),
    )


def up_to_date_checks(definitions: Sequence[TrainingSet]) -> list[dg.AssetChecksDefinition]:
    """Returns one check per training set, that can be run at any time and costs a fraction of a second."""
    return [_check(definition) for definition in definitions]


def _check(definition: TrainingSet) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=definition.name, name=UP_TO_DATE, description=_DESCRIPTION)
    def check(feature_store: FeatureStoreResource) -> dg.AssetCheckResult:
        with feature_store.open() as store:
            found = staleness(store, definition.name)
        return dg.AssetCheckResult(
            passed=not found.files,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.summary,
            metadata=_metadata(found),
        )

    return check


def _metadata(found: Staleness) -> dict[str, dg.MetadataValue]:
    return {"version": dg.IntMetadataValue(found.version), "changed_files": dg.IntMetadataValue(len(found.files))}
