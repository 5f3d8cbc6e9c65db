"""The inputs of training sets: which files of the offline store rows can depend on, and what of them has changed.

Files are told apart by what a read of them can answer, not by their bytes: computing the same features again leaves
every training set as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from feature_store.catalog import Catalog
from feature_store.day_windows import day_window
from feature_store.definitions.names import FeatureRef
from feature_store.durations import duration_text
from feature_store.errors import CorruptFileError
from feature_store.offline.footers import load_footers, read_footer
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.training_sets.manifest import Manifest, Part, StoredFeature
from feature_store.training_sets.versions import TrainingSetVersion
from feature_store.visibility import Visibility

_MICROSECOND = timedelta(microseconds=1)
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of some groups at one instant, each with a digest of what a read of it can answer.

    Attributes:
        by_group: Group to its files that have rows: path below the root, the span of their rows, digest.
    """

    by_group: Mapping[str, Sequence[tuple[str, Window, str]]]

    def within(self, spans: Mapping[str, Window]) -> dict[str, str]:
        """Returns the digests by path, sorted, of the files that can hold rows of each group's span."""
        found = {
            path: digest
            for group, span in spans.items()
            for path, window, digest in self.by_group[group]
            if window.start < span.end and span.start < window.end
        }
        return dict(sorted(found.items()))


def source_files(offline: OfflineStore, spans: Mapping[str, Window]) -> SourceFiles:
    """Reads the footers of the files that can hold rows of each group's span.

    Raises:
        CorruptFileError: If one of them is no Parquet file.
    """
    by_group = {}
    for group, span in spans.items():
        # Whole days: whether a day has several files decides what belongs to the digest of each.
        days = Window(day_window(span.start.date()).start, day_window((span.end - _MICROSECOND).date()).end)
        files = offline.files(group, days)
        load_footers(files)
        with_rows = {file for file in files if _rows(file)}
        digests = offline.content(files)
        by_group[group] = [
            (path, file.window, digest)
            for file, (path, digest) in zip(files, digests.items(), strict=True)
            if file in with_rows
        ]
    return SourceFiles(by_group)


def visible_spans(stored: Mapping[str, StoredFeature], first: datetime, last: datetime) -> dict[str, Window]:
    """Returns, by group, the span outside of which no row is visible to labels from `first` to `last`."""
    ttls: dict[str, list[int]] = {}
    for feature in stored.values():
        ttls.setdefault(feature.group, []).append(feature.ttl_seconds)
    return {group: Visibility.of_seconds(of_group).window(first, last) for group, of_group in ttls.items()}


def files_of(version: TrainingSetVersion, offline: OfflineStore) -> SourceFiles:
    """Returns the files, as they are now, that any part of a version can depend on."""
    first = min(part.first_label for part in version.parts)
    last = max(part.last_label for part in version.parts)
    return source_files(offline, visible_spans(version.manifest.stored, first, last))


def changes(
    manifest: Manifest, part: Part, *, catalog: Catalog, files: SourceFiles, on_demand: Mapping[str, str]
) -> list[str]:
    """Returns what of a part's inputs is no longer what it was, one sentence each; labels are not looked at.

    Args:
        manifest: The version's manifest.
        part: The part.
        catalog: What is registered now.
        files: The files now, of the whole span of the part.
        on_demand: Function of on-demand features to the version of its code now.
    """
    found = [*_changed_features(manifest, catalog), *_changed_code(manifest, on_demand)]
    for what, paths in changed_files(manifest, part, files).items():
        if paths:
            more = f" and {len(paths) - _EXAMPLES} more" if len(paths) > _EXAMPLES else ""
            found.append(f"{len(paths)} source file(s) {what}: {', '.join(paths[:_EXAMPLES])}{more}")
    return found


def changed_files(manifest: Manifest, part: Part, files: SourceFiles) -> dict[str, list[str]]:
    """Returns the files by which a part's sources differ from what they were, sorted, by what became of them."""
    now = files.within(visible_spans(manifest.stored, part.first_label, part.last_label))
    before = part.source_files
    return {
        "changed": sorted(path for path in before.keys() & now.keys() if before[path] != now[path]),
        "missing or without rows now": sorted(before.keys() - now.keys()),
        "new": sorted(now.keys() - before.keys()),
    }


def _changed_features(manifest: Manifest, catalog: Catalog) -> Iterator[str]:
    for feature in dict.fromkeys(manifest.stored.values()):
        name, version = FeatureRef.parse(feature.reference)
        live = catalog.features.get(FeatureRef(name, version or 1))
        if live is None:
            yield f"feature {feature.reference} is not registered any more"
            continue
        if live.online_ttl_seconds != feature.ttl_seconds:
            yield (
                f"the time to live of {feature.reference} is {_ttl(live.online_ttl_seconds)}, "
                f"it was {_ttl(feature.ttl_seconds)}"
            )
        if live.default_json != feature.default:
            now, before = live.default_json or "none", feature.default or "none"
            yield f"the default of {feature.reference} is {now}, it was {before}"


def _changed_code(manifest: Manifest, on_demand: Mapping[str, str]) -> Iterator[str]:
    for name, version in manifest.on_demand.items():
        if name not in on_demand:
            yield f"the on-demand features {name} are not defined any more"
        elif on_demand[name] != version:
            yield f"the code of the on-demand features {name} changed"


def _rows(file: PartitionFile) -> int:
    try:
        return read_footer(file).rows
    except FileNotFoundError:
        # Replaced at this very moment; who compares two readings will see it.
        return 1
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "it is empty" if file.size == 0 else str(error).partition("\n")[0].rstrip(".")
        raise CorruptFileError(f"{file.path} is no whole Parquet file: {reason}. {file.remedy()}") from error


def _ttl(seconds: int) -> str:
    return duration_text(timedelta(seconds=seconds), most_units=4)
