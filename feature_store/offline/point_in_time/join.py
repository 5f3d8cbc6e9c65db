"""Point-in-time reads: which files, one engine call per group, time to live, and the answer's shape.

All that is the same for every engine is here, and nothing that an engine could do faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup, Selection
from feature_store.clock import nearest_datetime
from feature_store.frames import without_nan
from feature_store.offline.footers import naming_corrupt_files, present_columns
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.engine import GroupHistory, PointInTimeEngine, Progress, VisibleRows
from feature_store.offline.point_in_time.former_rows import as_it_was
from feature_store.offline.point_in_time.labels import EntityLabels, prepare_labels
from feature_store.offline.point_in_time.window_read import is_windowed, read_windows
from feature_store.offline.snapshots import usable_snapshot
from feature_store.offline.steady_reads import read_steadily
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.rows.polars_schema import polars_type, with_default
from feature_store.visibility import Visibility


def point_in_time_join(  # what, where, how: each is needed by every caller
    store: OfflineStore,
    catalog: Catalog,
    labels: Any,
    as_of: str,
    selections: Sequence[Selection],
    engine: PointInTimeEngine,
    *,
    strict: bool = False,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Returns a label frame with the stored values that were visible at each row's time; see `with_defaults`.

    Args:
        store: Holds the history.
        catalog: Holds the groups of the selected features.
        labels: Polars, Arrow or pandas table with the join keys of all groups asked for, and a time column.
        as_of: Name of the time column. Naive times are UTC; precision beyond microseconds is cut off.
        selections: The features, from `Catalog.select`.
        engine: Finds the latest rows.
        strict: Leave out rows that were ingested after the label's time: what the store could have known then.
        now: The store's present (UTC): later labels are refused. None lets labels lie in the future.
        progress: Told how far each group is.

    Returns:
        One row per label row, in order: the label columns untouched, then one column per selection.

    Raises:
        InvalidRequestError: If the labels cannot be answered; see `prepare_labels`.
        CorruptFileError: If a file that is needed is damaged or not its group's.
        FeatureStoreError: If files are replaced faster than they can be read.
    """
    by_group: dict[str, list[Selection]] = {}
    for selection in selections:
        by_group.setdefault(selection.feature.group, []).append(selection)
    groups = [catalog.group(name) for name in by_group]
    prepared = prepare_labels(labels, as_of, groups, selections, now=now)
    answers: dict[str, pl.Series] = {}
    for group in groups:
        asked, of_entity = by_group[group.name], prepared.of_entity[group.entity.name]
        if is_windowed(asked):
            answers |= read_windows(store, group, asked, of_entity, engine, strict=strict, progress=progress)
        else:
            request = _Request(group, tuple(asked), of_entity, strict=strict)
            answers |= _read_group(store, request, engine, progress)
    return prepared.frame.with_columns(answers[selection.label] for selection in selections)


def with_defaults(joined: pl.DataFrame, selections: Sequence[Selection]) -> pl.DataFrame:
    """Returns a joined frame with the defaults of features in place of null: what models get, in training as online.

    Args:
        joined: What `point_in_time_join` has returned.
        selections: The same as there.
    """
    return joined.with_columns(
        with_default(joined[selection.label], selection.feature.dtype, selection.feature.default)
        for selection in selections
        if selection.feature.default_json is not None
    )


@dataclass(frozen=True)
class _Request:
    """What is asked of one group."""

    group: RegisteredGroup
    selections: tuple[Selection, ...]
    labels: EntityLabels
    strict: bool


def group_history(
    group: RegisteredGroup,
    selections: Sequence[Selection],
    files: Sequence[PartitionFile],
    span: Window,
    *,
    snapshot: PartitionFile | None = None,
    strict: bool = False,
) -> GroupHistory | None:
    """Returns what an engine is given of a group, None where no file has a column that was asked for.

    Raises:
        CorruptFileError: If a file is damaged or not the group's; see `present_columns`.
    """
    present = present_columns(group, files, snapshot=snapshot)
    wanted = dict.fromkeys(selection.feature.ref.column for selection in selections)
    columns = tuple(column for column in wanted if any(column in names for names in present))
    if not columns:
        return None
    complete = all(names.issuperset(columns) for names in present)
    return GroupHistory(group, tuple(selections), columns, complete, tuple(files), snapshot, span, strict)


def visible_span(oldest: int, newest: int, selections: Sequence[Selection]) -> Window:
    """Returns the span of events that labels between two times (UTC microseconds, inclusive) can see."""
    return Visibility.of(selection.feature for selection in selections).window_of_micros(oldest, newest)


def _read_group(
    store: OfflineStore, request: _Request, engine: PointInTimeEngine, progress: Progress | None
) -> dict[str, pl.Series]:
    if request.labels.as_of.is_empty():
        return _answer(request, {})
    group = request.group
    times = request.labels.as_of.to_physical()
    oldest, newest = int(times.min()), int(times.max())  # type: ignore[arg-type]  # integers without nulls
    span = visible_span(oldest, newest, request.selections)
    snapshot: PartitionFile | None = None

    def files() -> list[PartitionFile]:
        nonlocal snapshot
        snapshot = _snapshot(store, request, span)
        found = store.files(group.name, span)
        return found if snapshot is None else [snapshot, *(file for file in found if file.date >= snapshot.date)]

    def read(files: list[PartitionFile]) -> dict[str, pl.Series]:
        history = group_history(group, request.selections, files, span, snapshot=snapshot, strict=request.strict)
        with naming_corrupt_files(group, files):
            values = {} if history is None else _visible_values(request, history, engine, progress)
            if request.strict:
                values = as_it_was(store, group, request.labels, request.selections, files, span, values)
        return _answer(request, values)

    return read_steadily(group.name, files, read)


def _visible_values(
    request: _Request, history: GroupHistory, engine: PointInTimeEngine, progress: Progress | None
) -> Mapping[str, pl.Series]:
    """Returns, by column, the latest row's value where it is visible at the label's time."""
    rows = engine.latest(request.labels, history, progress)
    # A row is only found at or before its label, so the age is never negative.
    age = request.labels.as_of.to_physical() - rows.event_timestamp.to_physical()
    by_ttl: dict[int, dict[str, None]] = {}
    features = [selection.feature for selection in request.selections]
    for feature, ttl in zip(features, Visibility.of(features).ttls, strict=True):
        if feature.ref.column in history.columns:
            by_ttl.setdefault(ttl, {})[feature.ref.column] = None
    visible = [VisibleRows(tuple(columns), (age < ttl).fill_null(value=False)) for ttl, columns in by_ttl.items()]
    del age
    return rows.values(visible)


def _answer(request: _Request, values: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    """Returns one series per selection, NaN as null. A column that no file has is null throughout."""
    answers = {}
    for selection in request.selections:
        dtype = polars_type(selection.feature.dtype)
        column = values.get(selection.feature.ref.column)
        if column is None:
            column = pl.repeat(None, request.labels.as_of.len(), dtype=dtype, eager=True)
        answers[selection.label] = without_nan(column.cast(dtype)).alias(selection.label)
    return answers


def _snapshot(store: OfflineStore, request: _Request, span: Window) -> PartitionFile | None:
    # A snapshot holds what is the latest row now: what could have been known earlier, it does not tell.
    if request.strict:
        return None
    first_label = nearest_datetime(int(request.labels.as_of.to_physical().min()))  # type: ignore[arg-type]  # never empty
    return usable_snapshot(store, request.group, span, first_label)
