"""Verifies a version with the leak guard, and tells it which files of the offline store are not what they were."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from feature_store.day_windows import day_window
from feature_store.errors import InvalidRequestError
from feature_store.offline.store import OfflineStore
from feature_store.storage.location import Location
from feature_store.training_sets.inputs import changed_files, files_of
from feature_store.training_sets.leak_guard import SAMPLE_ROWS, LeakReport, check_leaks
from feature_store.training_sets.versions import TrainingSetVersion


def verify(
    version: TrainingSetVersion,
    offline: OfflineStore,
    *,
    rows: int = SAMPLE_ROWS,
    seed: int = 0,
    partitions: Collection[str] | None = None,
) -> LeakReport:
    """Checks sampled rows of a version against the raw files; see `FeatureStore.verify_training_set`."""
    if rows < 1:
        raise InvalidRequestError(f"rows={rows} checks nothing: sample at least one row.")
    unknown = sorted(set(partitions or ()) - set(version.partitions))
    if unknown:
        raise InvalidRequestError(
            f"Training set {version.name} v{version.version} has no partition {', '.join(unknown)}: build it first."
        )
    files = files_of(version, offline)
    changed = {
        path
        for part in version.parts
        if partitions is None or part.partition in partitions
        for paths in changed_files(version.manifest, part, files).values()
        for path in paths
    }

    def history(group: str, first: date, last: date) -> list[Location]:
        span = day_window(first, last)
        return [file.path for file in offline.files(group, span)]

    return check_leaks(history, version.path, rows=rows, seed=seed, partitions=partitions, changed_files=changed)
