"""Whether a training set still is what its sources would give.

Digests of the files that the latest version was built from are compared with those that are there now: a partition that
was recomputed with the same rows leaves every training set up to date.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from feature_store.errors import UnknownFeatureError
from feature_store.offline.store import OfflineStore
from feature_store.training_sets.inputs import changed_files, files_of
from feature_store.training_sets.versions import open_version

"""Name of the check that says so."""

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
    def numbers(self) -> dict[str, int | None]:
        """The latest version, and how many files have changed."""
        return {"version": self.version, "changed_files": len(self.files)}

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


def staleness(offline: OfflineStore, name: str) -> Staleness:
    """Compares the latest version of a training set with the offline store.

    Raises:
        CorruptFileError: If a manifest or a source file cannot be read.
    """
    try:
        version = open_version(offline.root, name)
    except UnknownFeatureError:
        return Staleness(None, ())
    files = files_of(version, offline) if version.parts else None
    changed: set[str] = set()
    partitions = []
    for part in version.parts:
        assert files is not None
        found = {path for paths in changed_files(version.manifest, part, files).values() for path in paths}
        changed |= found
        if found and part.partition is not None:
            partitions.append(part.partition)
    return Staleness(version.version, tuple(sorted(changed)), tuple(partitions))


def listing(offline: OfflineStore, name: str) -> str | None:
    """Returns a text that changes when the latest version or a file of its feature groups does; None without version.

    It looks at names, sizes and times alone, at a small part of the cost of `staleness`.
    """
    try:
        version = open_version(offline.root, name)
    except UnknownFeatureError:
        return None
    groups = sorted({feature.group for feature in version.manifest.stored.values()})
    files = [(str(file.path), file.size, file.modified_ns) for group in groups for file in offline.files(group)]
    return hashlib.sha256(repr((version.version, version.partitions, files)).encode()).hexdigest()[:16]
