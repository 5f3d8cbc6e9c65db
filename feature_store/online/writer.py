"""Writing rows: which of them are pushed, in what portions, and what became of each.

The same for every layout. Newest wins is decided inside the server, by the layout's script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from feature_store.catalog import Group
from feature_store.clock import Clock, SystemClock, to_micros
from feature_store.definitions.dtypes import TIMESTAMP, Dtype
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.frames import entity_id_expression, polars_type, utc_micros
from feature_store.online.client import Client
from feature_store.online.keys import KeySpace
from feature_store.online.layouts import layout_of
from feature_store.online.pace import Pace
from feature_store.online.protocol import script_calls, script_calls_by_row
from feature_store.online.stamps import EARLIEST, LATEST, ttl_micros


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows of a write. The other counts add up to `rows`.

    Attributes:
        rows: Rows that were passed.
        written: Rows that now stand in the online store.
        stale: Rows that lost against a newer one that stood there already.
        superseded: Rows that have a newer one beside them in the same write.
        expired: Rows whose time to live is over for all features.
        future: Rows whose event lies in the store's future: pushed by nobody until their time has come.
    """

    rows: int
    written: int
    stale: int
    superseded: int
    expired: int
    future: int


class Writer:
    """Writes to one server.

    Args:
        client: Connections to it.
        keys: How its keys are spelled.
        clock: Tells the present that decides which rows are visible.
    """

    def __init__(self, client: Client, keys: KeySpace, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock

    def write(
        self,
        group: Group,
        rows: pl.DataFrame,
        progress: Callable[[int], None] | None = None,
        max_rows_per_second: float | None = None,
    ) -> WriteReport:
        """Writes rows of a feature group; see `OnlineStore.write`."""
        if max_rows_per_second is not None and max_rows_per_second <= 0:
            raise InvalidRequestError(f"max_rows_per_second={max_rows_per_second} would never end: give more than 0.")
        now = self._clock.now()
        frame = _checked(group, rows)
        if self._keys.hash_tags:
            self._keys.check(frame[ENTITY_ID].to_list())
        present = to_micros(now)
        visible = frame.filter(pl.col(EVENT_TIMESTAMP) <= present)
        latest = _latest_per_entity(visible)
        longest = max((ttl_micros(feature) for feature in group.features), default=0)
        alive = latest.filter(pl.col(EVENT_TIMESTAMP) + longest > present)
        report = progress or _unheard
        report(frame.height - alive.height)
        written = self._push(group, alive, now, report, Pace(max_rows_per_second)) if alive.height else 0
        return WriteReport(
            rows=frame.height,
            written=written,
            stale=alive.height - written,
            superseded=visible.height - latest.height,
            expired=latest.height - alive.height,
            future=frame.height - visible.height,
        )

    def _push(self, group: Group, rows: pl.DataFrame, now: datetime, report: Callable[[int], None], pace: Pace) -> int:
        """Sends rows, encoding each chunk while the server works on the one before; returns how many it wrote."""
        writing = layout_of(group).writing(self._keys, group)
        # Under a clock that stands in another time, the server must not drop what that clock still sees.
        expire_after = None if self._clock.is_live else SystemClock().now()
        written = 0
        # Before the rows: who meets their fingerprint must find what it stands for.
        self._client.put(self._keys.schema(group.name, writing.schema.fingerprint), writing.schema.text)
        with self._client.script(writing.script) as session:
            for chunk in rows.iter_slices(pace.portion(writing.rows_per_chunk)):
                encoded = writing.encode(chunk, now, expire_after)
                if self._keys.hash_tags:
                    slots = [self._keys.slot(entity_id) for entity_id in chunk[ENTITY_ID]]
                    calls = script_calls_by_row(writing, session.digest, encoded, slots)
                else:
                    calls = script_calls(writing, session.digest, encoded)
                written += session.receive(report)
                pace.wait(chunk.height)
                session.send(calls, chunk.height)
            written += session.receive(report)
        return written


def _unheard(rows: int) -> None:
    """Nobody asked for progress."""


def _latest_per_entity(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns each entity's newest row; among rows that are equally new, the last.

    Only keys and times are sorted, the wide rows are gathered once.
    """
    position = "_position"
    newest = (
        rows.lazy()
        .select(ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT)
        .with_row_index(position)
        .sort(EVENT_TIMESTAMP, INGESTED_AT, position)
        .group_by(ENTITY_ID)
        .agg(pl.col(position).last())
        .collect()
    )
    return rows[newest[position].sort()]


def _checked(group: Group, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns entity id, times as integer microseconds, and features; refuses rows that cannot be stored."""
    failures = _column_failures(group, rows)
    if not failures:
        frame = rows.select(
            entity_id_expression(group.entity),
            *(utc_micros(column, rows.schema).to_physical() for column in (EVENT_TIMESTAMP, INGESTED_AT)),
            *(pl.col(feature.ref.column).cast(polars_type(feature.dtype)) for feature in group.features),
        )
        failures = _value_failures(group, frame)
        if not failures:
            return frame
    raise InvalidRowsError(group.name, failures, "Validate rows with the group's schema before they are written.")


def _column_failures(group: Group, rows: pl.DataFrame) -> list[str]:
    features = {feature.ref.column: feature.dtype for feature in group.features}
    required = [*group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT, *features]
    schema = rows.schema
    missing = [column for column in required if column not in schema]
    if missing:
        return [f"column {column!r} is missing" for column in missing]
    declared: dict[str, Dtype] = {**group.entity.key_dtypes, **features}
    failures = [
        f"column {column!r} holds {schema[column]}, declared is {dtype}"
        for column, dtype in declared.items()
        if schema[column] not in {polars_type(dtype), pl.Null()}
    ]
    return failures + [
        f"column {column!r} holds {schema[column]}, not timestamps"
        for column in (EVENT_TIMESTAMP, INGESTED_AT)
        if not schema[column].is_temporal()
    ]


def _value_failures(group: Group, frame: pl.DataFrame) -> list[str]:
    failures = [
        f"{count} row(s) have no {name}"
        for name in (ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT)
        if (count := frame[name].null_count())
    ]
    timestamps = [feature.ref.column for feature in group.features if feature.dtype == TIMESTAMP]
    for column in (EVENT_TIMESTAMP, INGESTED_AT, *timestamps):
        count = frame.select((~pl.col(column).to_physical().is_between(EARLIEST, LATEST)).sum()).item()
        if count:
            failures.append(f"{count} value(s) of {column!r} lie outside the years 1 to 9999")
    return failures
