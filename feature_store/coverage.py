"""What of a feature group lies in the offline store, and what does not: gaps, features that files lack, former code.

What is done about it is decided elsewhere; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.source import fingerprints
from feature_store.offline.footers import load_footers, read_footer
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.storage.parquet import scan_files
from feature_store.transform.comparison import difference
from feature_store.transform.compute import compute
from feature_store.transform.validation import validate

_FOOTERS_KEPT = 16_384


@dataclass(frozen=True, slots=True)
class Coverage:
    """What batches have written of a feature group. All partitions are in order of time.

    Attributes:
        present: Partitions that can be read.
        missing: Spans between the first and the last partition that have no file, or one that cannot be read.
        lacking: Partitions whose files lack a feature that the group declares.
        other_code: Partitions that were computed by another version of the function than the one declared.
    """

    present: tuple[Window, ...]
    missing: tuple[Window, ...]
    lacking: tuple[Window, ...]
    other_code: tuple[Window, ...]


def coverage(group: FeatureGroup, offline: OfflineStore) -> Coverage:
    """Looks at the footers of all files that batches have written of a group.

    Args:
        group: As it is declared now.
        offline: The offline store.
    """
    declared = {spec.ref.column for spec in group.features}
    files = sorted(_batch_files(group, offline), key=lambda file: file.window)
    load_footers(files)
    code_version = group.code_version
    present, lacking, other_code, unreadable = [], [], [], []
    for file in files:
        footer = _footer(file)
        if footer is None:
            unreadable.append(file.window)
            continue
        columns, written_by = footer
        present.append(file.window)
        if not declared <= columns:
            lacking.append(file.window)
        if written_by != code_version:
            other_code.append(file.window)
    known = sorted([*present, *unreadable])
    holes = [Window(one.end, other.start) for one, other in pairwise(known) if one.end < other.start]
    missing = spans(sorted([*holes, *unreadable]))
    return Coverage(tuple(present), tuple(missing), tuple(lacking), tuple(other_code))


def spans(windows: Iterable[Window], *, bridging: int = 0) -> Iterator[Window]:
    """Yields the spans that windows form, in order.

    Args:
        windows: Partitions, or spans of them, in order of time.
        bridging: Gaps of up to this many seconds are bridged.
    """
    span: Window | None = None
    for window in windows:
        if span is not None and (window.start - span.end).total_seconds() <= bridging:
            span = Window(span.start, max(span.end, window.end))
            continue
        if span is not None:
            yield span
        span = window
    if span is not None:
        yield span


def has_landed(group: FeatureGroup, span: Window) -> bool:
    """Tells whether all source days have landed that the partitions of a span read, look-back included."""
    reach = Window(max(span.start - group.lookback, group.source.start), span.end)
    days = list(reach.dates())
    return len(fingerprints(group.source, days)) == len(days)


def changed_values(group: FeatureGroup, offline: OfflineStore, window: Window) -> str | None:
    """Runs a group's function on one partition and compares with what is stored, without writing anything.

    Args:
        group: As it is declared now.
        offline: The offline store.
        window: A partition that is present.

    Returns:
        Where rows differ in the features that both have, as a sentence; None where they are equal bit for bit.

    Raises:
        MissingSourceError: If the partition's events are not there any more.
        InvalidRowsError: If the function's rows break the schema.
    """
    (file,) = [file for file in _batch_files(group, offline) if file.window == window]
    stored = scan_files(file.path).collect().drop(INGESTED_AT)
    computed = validate(group, compute(group, window))
    both = [column for column in computed.columns if column in stored.columns]
    return difference(stored.select(both), computed.select(both), [*group.entity.join_keys, EVENT_TIMESTAMP])


def _batch_files(group: FeatureGroup, offline: OfflineStore) -> list[PartitionFile]:
    return [file for file in offline.files(group.name) if file.belongs_to(group.partitioning)]


@lru_cache(maxsize=_FOOTERS_KEPT)
def _footer(file: PartitionFile) -> tuple[frozenset[str], str | None] | None:
    """Returns a file's columns and code version, None if it is no whole Parquet file."""
    # A replaced file has another time, size or tag: what tells its content apart is in the argument.
    try:
        footer = read_footer(file)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return frozenset(footer.schema), footer.metadata.get("code_version")
