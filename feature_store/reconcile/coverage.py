"""What of a feature group lies in the offline store: its partitions, the features that they lack, the code they are of.

What is done about it is decided elsewhere; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.offline.footers import load_footers, read_footer
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.transform.inputs import INPUTS

_FOOTERS_KEPT = 262_144
_SCHEMAS_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class Coverage:
    """What batches have written of a feature group. All partitions are in order of time.

    Attributes:
        present: Partitions that can be read.
        missing: Spans between the first and the last partition that have no file, or one that cannot be read.
        lacking: Partitions whose files lack a feature that the group declares.
        other_code: Partitions that were computed by another version of the function than the one declared.
        inputs: Of each that can be read, the digest of the source days that it was computed from; None where the file
            does not say.
    """

    present: tuple[Window, ...]
    missing: tuple[Window, ...]
    lacking: tuple[Window, ...]
    other_code: tuple[Window, ...]
    inputs: tuple[str | None, ...] = ()


def coverage(group: FeatureGroup, offline: OfflineStore) -> Coverage:
    """Looks at the footers of all files that batches have written of a group.

    Args:
        group: As it is declared now.
        offline: The offline store.
    """
    declared = frozenset(spec.ref.column for spec in group.rows.features)
    files = batch_files(group, offline)
    asked = (declared, group.code_version, group.partitioning)
    seen = tuple((file.date, file.name, file.size, file.modified_ns, file.e_tag) for file in files)
    place = (str(offline.root), group.name)
    kept = _kept.get(place)
    if kept is None or kept[:2] != (asked, seen):
        kept = _kept[place] = asked, seen, _looked_at(files, declared, group.code_version)
    return kept[2]


_kept: dict[tuple[str, str], tuple[tuple[object, ...], tuple[object, ...], Coverage]] = {}
"""What was found at the last look, by root and group: as long as no file has changed, no footer is asked for."""


def _looked_at(files: list[PartitionFile], declared: frozenset[str], code_version: str) -> Coverage:
    files = sorted(files, key=lambda file: file.window)
    load_footers(files)
    present, lacking, other_code, inputs, unreadable = [], [], [], [], []
    for file in files:
        footer = _footer(file)
        if footer is None:
            unreadable.append(file.window)
            continue
        columns, written_by, made_of = footer
        present.append(file.window)
        inputs.append(made_of)
        if not declared <= columns:
            lacking.append(file.window)
        if written_by != code_version:
            other_code.append(file.window)
    known = sorted([*present, *unreadable])
    holes = [Window(one.end, other.start) for one, other in pairwise(known) if one.end < other.start]
    missing = spans(sorted([*holes, *unreadable]))
    return Coverage(tuple(present), tuple(missing), tuple(lacking), tuple(other_code), tuple(inputs))


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


def batch_files(group: FeatureGroup, offline: OfflineStore) -> list[PartitionFile]:
    """Returns the files that batches have written of a group, one per partition."""
    return [file for file in offline.files(group.name) if file.belongs_to(group.partitioning)]


@lru_cache(maxsize=_FOOTERS_KEPT)
def _footer(file: PartitionFile) -> tuple[frozenset[str], str | None, str | None] | None:
    """Returns a file's columns, code version and digest of inputs, None if it is no whole Parquet file."""
    # A replaced file has another time, size or tag: what tells its content apart is in the argument.
    try:
        footer = read_footer(file)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return _shared(frozenset(footer.schema)), footer.metadata.get("code_version"), footer.metadata.get(INPUTS)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _shared(columns: frozenset[str]) -> frozenset[str]:
    # Files of one group have the same columns: one set is kept for all of them.
    return columns
