"""Windowed groups of a point-in-time read: which files, one engine call per group, and the answer's shape."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from feature_store.catalog import RegisteredGroup, Selection
from feature_store.clock import nearest_datetime
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.errors import InvalidRequestError, WindowOverflowError
from feature_store.offline.footers import naming_corrupt_files, present_columns
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.engine import PointInTimeEngine, Progress, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.offline.point_in_time.window_sweep import without_events
from feature_store.offline.steady_reads import read_steadily
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window as Span
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.views import Window


def is_windowed(selections: Sequence[Selection]) -> bool:
    """Tells whether features of one group are windows."""
    return any(selection.feature.window is not None for selection in selections)


def windows_of(selections: Sequence[Selection]) -> tuple[Window, ...]:
    """Returns what is to be folded for features of a windowed group."""
    return tuple(
        Window(selection.feature.window, selection.feature.dtype)
        for selection in selections
        if selection.feature.window is not None
    )


def window_span(oldest: int, newest: int, windows: Sequence[Window]) -> Span:
    """Returns the span of events that readers between two instants (UTC microseconds, inclusive) can see."""
    first = min(window.spec.extent.tails(oldest) for window in windows)
    return Span(nearest_datetime(first + 1), nearest_datetime(newest + 1))


def window_history(
    rows: RegisteredGroup, windows: tuple[Window, ...], files: Sequence[PartitionFile], span: Span
) -> WindowHistory | None:
    """Returns what an engine is given of a windowed group, None where there is no file.

    Args:
        rows: The rows of the group.
        windows: What is asked for.
        files: Its files of the span.
        span: No event outside of it is in any window.

    Raises:
        CorruptFileError: If a file is damaged or not the group's; see `present_columns`.
    """
    if not files:
        return None
    wanted = dict.fromkeys(column for window in windows for column in window.spec.inputs)
    present = present_columns(rows, files)
    columns = tuple(column for column in (*wanted, OTHER_EVENTS) if any(column in names for names in present))
    return WindowHistory(rows, windows, columns, tuple(files), span, inclusive=True)


def read_windows(
    store: OfflineStore,
    group: RegisteredGroup,
    selections: Sequence[Selection],
    labels: EntityLabels,
    engine: PointInTimeEngine,
    *,
    strict: bool,
    progress: Progress | None,
) -> dict[str, pl.Series]:
    """Returns, by label, what each windowed feature of a group came to at each row's time.

    Raises:
        InvalidRequestError: If the read is strict.
        WindowOverflowError: If a total is greater than its dtype can hold.
        CorruptFileError: If a file that is needed is damaged or not its group's.
        FeatureStoreError: If files are replaced faster than they can be read.
    """
    windows = windows_of(selections)
    if labels.as_of.is_empty():
        return {each.label: pl.Series(each.label, [], dtype=polars_type(each.feature.dtype)) for each in selections}
    if strict:
        raise InvalidRequestError(
            f"{', '.join(each.label for each in selections)}: windows cannot be read strictly yet, only as of event "
            "times. Leave strict out, or ask for them in a call of their own."
        )
    rows = group.rows
    times = labels.as_of.to_physical()
    span = window_span(int(times.min()), int(times.max()), windows)  # type: ignore[arg-type]  # integers without nulls

    def read(files: list[PartitionFile]) -> Sequence[pl.Series]:
        history = window_history(rows, windows, files, span)
        if history is None:
            return without_events(labels, windows)
        with naming_corrupt_files(rows, files):
            return engine.windows(labels, history, progress)

    try:
        found = read_steadily(group.name, lambda: store.files(group.name, span), read)
    except WindowOverflowError as error:
        raise WindowOverflowError(group.name, error.failures, error.remedy) from None
    return {selection.label: series.alias(selection.label) for selection, series in zip(selections, found, strict=True)}
