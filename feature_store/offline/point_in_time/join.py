"""Point-in-time reads: which files, one engine call per group, time to live, and the answer's shape.

All that is the same for every engine is here, and nothing that an engine could do faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from feature_store.catalog import Catalog, Group, Selection
from feature_store.clock import EPOCH, to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import FeatureStoreError
from feature_store.frames import TIMESTAMP_TYPE, polars_type
from feature_store.offline.footers import naming_corrupt_files, present_columns
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.engine import GroupHistory, PointInTimeEngine
from feature_store.offline.point_in_time.labels import AS_OF, prepare_labels
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window

_FIRST_MICROS = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST_MICROS = to_micros(datetime.max.replace(tzinfo=UTC))
_MICROS = 1_000_000
_LONGEST_TTL = 2**63 - 1
_ATTEMPTS = 5


def point_in_time_join(  # noqa: PLR0917  # what, where, how: each is needed by every caller
    store: OfflineStore,
    catalog: Catalog,
    labels: Any,
    as_of: str,
    selections: Sequence[Selection],
    engine: PointInTimeEngine,
) -> pl.DataFrame:
    """Returns a label frame with the values that were visible at each row's time.

    Args:
        store: Holds the history.
        catalog: Holds the groups of the selected features.
        labels: Polars, Arrow or pandas table with the join keys of all groups asked for, and a time column.
        as_of: Name of the time column. Naive times are UTC; precision beyond microseconds is cut off.
        selections: The features, from `Catalog.select`.
        engine: Finds the latest rows.

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
    prepared = prepare_labels(labels, as_of, groups, selections)
    answers: dict[str, pl.Series] = {}
    for group in groups:
        coded = prepared.coded(group.entity)
        answers |= _read_group(store, group, tuple(by_group[group.name]), coded, engine)
    return prepared.frame.with_columns(answers[selection.label] for selection in selections)


def _read_group(
    store: OfflineStore,
    group: Group,
    selections: tuple[Selection, ...],
    labels: pl.DataFrame,
    engine: PointInTimeEngine,
) -> dict[str, pl.Series]:
    if labels.is_empty():
        return _answer(labels, pl.DataFrame(), selections)
    span = _visible_span(labels[AS_OF], selections)
    # An engine may open a file twice, and a re-materialization may replace it in between: only a read during which
    # every file stayed what it was counts.
    for _ in range(_ATTEMPTS):
        files = store.files(group.name, span)
        before = _identities(files)
        try:
            history = _history(group, selections, files, span)
            with naming_corrupt_files(group, files):
                found = pl.DataFrame() if history is None else engine.latest(labels, history)
        except Exception:
            if _identities(files) == before:
                raise
            continue
        if _identities(files) == before:
            return _answer(labels, found, selections)
    raise FeatureStoreError(
        f"Files of feature group {group.name!r} were replaced during each of {_ATTEMPTS} reads: "
        "read again when the materialization has ended."
    )


def _history(
    group: Group, selections: tuple[Selection, ...], files: Sequence[PartitionFile], span: Window
) -> GroupHistory | None:
    """Returns what an engine is given, None where no file has a column that was asked for."""
    present = present_columns(group, files)
    wanted = dict.fromkeys(selection.feature.ref.column for selection in selections)
    columns = tuple(column for column in wanted if any(column in names for names in present))
    if not columns:
        return None
    complete = all(names.issuperset(columns) for names in present)
    return GroupHistory(group, selections, columns, complete, tuple(files), span)


def _visible_span(as_of: pl.Series, selections: Sequence[Selection]) -> Window:
    times = as_of.to_physical()
    longest = max(selection.feature.online_ttl_seconds for selection in selections) * _MICROS
    oldest, newest = int(times.min()), int(times.max())  # type: ignore[arg-type]  # integers without nulls
    return Window(_moment(oldest - longest), _moment(newest + 1))


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=min(max(micros, _FIRST_MICROS), _LAST_MICROS))


def _identities(files: Sequence[PartitionFile]) -> list[tuple[int, int, int] | None]:
    return [_identity(file) for file in files]


def _identity(file: PartitionFile) -> tuple[int, int, int] | None:
    try:
        stat = file.path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _answer(labels: pl.DataFrame, found: pl.DataFrame, selections: Sequence[Selection]) -> dict[str, pl.Series]:
    """Turns the latest rows into one series per selection: what has expired, or is NaN, is null.

    A `found` without a selection's column means that no file has it.
    """
    if EVENT_TIMESTAMP in found.columns:
        # A row is only found at or before its label, so the age is never negative.
        age = labels[AS_OF].to_physical() - found[EVENT_TIMESTAMP].cast(TIMESTAMP_TYPE).to_physical()
    answers = {}
    for selection in selections:
        feature = selection.feature
        dtype = polars_type(feature.dtype)
        if feature.ref.column not in found.columns:
            answers[selection.label] = pl.repeat(None, labels.height, dtype=dtype, eager=True).alias(selection.label)
            continue
        values = found[feature.ref.column].cast(dtype)
        if dtype == pl.Float64():
            values = values.fill_nan(None)
        is_alive = age < min(feature.online_ttl_seconds * _MICROS, _LONGEST_TTL)
        nothing = pl.Series([None], dtype=dtype)
        answers[selection.label] = values.zip_with(is_alive.fill_null(value=False), nothing).alias(selection.label)
    return answers
