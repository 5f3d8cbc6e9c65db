"""Windows for labels by DuckDB: SQL says which events each window holds, plain Python what they come to.

The second opinion on the sweep. It shares neither the search for events nor the arithmetic with it, and is slow: each
label's events are listed one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import msgspec
import polars as pl

from feature_store.clock import nearest_datetime
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.offline.point_in_time.engine import WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.offline.sql import exact_path, identifier
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.instants import restored
from feature_store.windows.plain_fold import Event, value_of
from feature_store.windows.views import Window

_AS_OF, _TAIL, _ROW, _LABELS = "_as_of", "_tail", "_row", "_labels"


def windows_by_duckdb(
    cursor: duckdb.DuckDBPyConnection, labels: EntityLabels, history: WindowHistory
) -> list[pl.Series]:
    """Returns the value of each window for each label.

    Args:
        cursor: A connection in UTC, on which the files are registered.
        labels: Entities and times.
        history: Where to look.
    """
    at = labels.as_of.to_physical().rechunk().to_numpy()
    tails = [min(window.spec.extent.tails(instant) for window in history.windows) for instant in at.tolist()]
    first = pl.Series(_TAIL, [nearest_datetime(tail) for tail in tails], dtype=labels.as_of.dtype)
    numbered = labels.keys.with_columns(labels.as_of.alias(_AS_OF), first).with_row_index(_ROW)
    cursor.register(_LABELS, numbered.to_arrow())
    try:
        found = cursor.sql(
            _events_sql(tuple(history.group.entity.join_keys), history.columns),
            params={
                "files": [exact_path(file.path) for file in history.files],
                "span_start": history.span.start,
                "span_end": history.span.end,
            },
        ).to_arrow_table()
    finally:
        cursor.unregister(_LABELS)
    inputs = {name: dtype for window in history.windows for name, dtype in window.spec.inputs.items()}
    events: dict[int, list[Event]] = {}
    for row in pl.DataFrame(found).with_columns(pl.col(EVENT_TIMESTAMP).to_physical()).iter_rows(named=True):
        events.setdefault(row[_ROW], []).extend(_events_of_row(row, inputs))
    answers: list[pl.Series] = []
    for window in history.windows:
        values = [
            value_of(window.spec, window.dtype, events.get(place, ()), instant, inclusive=history.inclusive)
            for place, instant in enumerate(at.tolist())
        ]
        answers.append(_series(values, window))
    return answers


def _events_sql(keys: Sequence[str], columns: Sequence[str]) -> str:
    """Returns the statement that lists the events of each label; parameters `$files`, `$span_start`, `$span_end`."""
    key_list = ", ".join(f"h.{identifier(key)}" for key in keys)
    same = " AND ".join(f"e.{identifier(key)} = l.{identifier(key)}" for key in keys)
    inputs = "".join(f", h.{identifier(column)}" for column in columns)
    outputs = "".join(f", e.{identifier(column)}" for column in columns)
    return f"""
        WITH events AS (
            SELECT {key_list}, h.{EVENT_TIMESTAMP}{inputs}
            FROM read_parquet($files, hive_partitioning = false, union_by_name = true) h
            WHERE h.{EVENT_TIMESTAMP} >= $span_start AND h.{EVENT_TIMESTAMP} < $span_end
            QUALIFY row_number() OVER (
                PARTITION BY {key_list}, h.{EVENT_TIMESTAMP}
                ORDER BY h.{INGESTED_AT} DESC NULLS LAST, h.file_index DESC, h.file_row_number DESC
            ) = 1
        )
        SELECT l.{_ROW}, e.{EVENT_TIMESTAMP}{outputs}
        FROM {_LABELS} l JOIN events e ON {same}
        WHERE e.{EVENT_TIMESTAMP} > l.{_TAIL} AND e.{EVENT_TIMESTAMP} <= l.{_AS_OF}
        ORDER BY l.{_ROW}, e.{EVENT_TIMESTAMP}
    """  # noqa: S608  # names are validated identifiers, quoted; paths and times are parameters


def _events_of_row(row: Mapping[str, Any], inputs: Mapping[str, Dtype]) -> list[Event]:
    time = row[EVENT_TIMESTAMP]
    events = [Event(time, {name: row.get(name) for name in inputs})]
    others = row.get(OTHER_EVENTS)
    if others:
        events += [
            Event(time, {name: restored(event.get(name), dtype) for name, dtype in inputs.items()})
            for event in msgspec.json.decode(others)
        ]
    return events


def _series(values: Sequence[Any], window: Window) -> pl.Series:
    if window.dtype.name == "map":
        values = [[{"key": key, "value": value} for key, value in each.items()] for each in values]
    return pl.Series(values, dtype=polars_type(window.dtype))
