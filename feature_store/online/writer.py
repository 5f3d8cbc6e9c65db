"""Writing rows: which of them are pushed, in what portions, and what became of each.

The same for every layout. Newest wins is decided inside the server, by the layout's script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import EARLIEST, LATEST, Clock, SystemClock, to_micros
from feature_store.definitions.dtypes import TIMESTAMP
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.frames import entity_id_expression, utc_micros
from feature_store.online.client import Client
from feature_store.online.keys import KeySpace
from feature_store.online.layout import GroupWrite
from feature_store.online.layouts import layout_of
from feature_store.online.pace import Pace
from feature_store.online.pending import RECENT_MICROS, Pending, PendingRow, put_head
from feature_store.online.protocol import preamble_of, script_calls, script_calls_by_row
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall
from feature_store.rows.polars_schema import polars_type
from feature_store.rows.schema import RowSchema
from feature_store.visibility import Visibility


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows of a write. The other counts add up to `rows`.

    Attributes:
        rows: Rows that were passed.
        written: Rows that now stand in the online store.
        stale: Rows that lost against a newer one that stood there already.
        superseded: Rows that have a newer one beside them in the same write.
        expired: Rows whose time to live is over for all features.
        pending: Rows whose event lies ahead of the clock: they stand when their time has come.
    """

    rows: int = 0
    written: int = 0
    stale: int = 0
    superseded: int = 0
    expired: int = 0
    pending: int = 0

    def __add__(self, other: WriteReport) -> WriteReport:
        return WriteReport(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class Writer:
    """Writes to one server.

    Args:
        client: Connections to it.
        keys: How its keys are spelled.
        clock: Tells the present that decides which rows are visible.
        pending: Keeps the rows whose time has not come.
    """

    def __init__(self, client: Client, keys: KeySpace, clock: Clock, pending: Pending) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._pending = pending

    def write(
        self,
        group: RegisteredGroup,
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
        visible, ahead = _divided(frame, present)
        latest = _standing_rows(visible, present - RECENT_MICROS)
        _, alive = _divided(latest, present - Visibility.of(group.features).longest)
        report = progress or _unheard
        report(frame.height - alive.height - ahead.height)
        written = self._push(group, alive, now, report, Pace(max_rows_per_second)) if alive.height else 0
        if ahead.height:
            self._keep_pending(group, ahead, now)
            report(ahead.height)
        return WriteReport(
            rows=frame.height,
            written=written,
            stale=alive.height - written,
            superseded=visible.height - latest.height,
            expired=latest.height - alive.height,
            pending=ahead.height,
        )

    def withdraw(self, group: RegisteredGroup, gone: pl.DataFrame, standing: pl.DataFrame) -> int:
        """Takes rows back; see `OnlineStore.withdraw`."""
        now = self._clock.now()
        keys = list(group.entity.join_keys)
        times = gone.select(
            entity_id_expression(group.entity),
            *(utc_micros(column, gone.schema).to_physical() for column in (EVENT_TIMESTAMP, INGESTED_AT)),
        )
        self._pending.withdraw(group, times.select(ENTITY_ID, EVENT_TIMESTAMP).iter_rows())
        rows = _checked(group, standing.join(gone.select(keys).unique(), on=keys, how="semi"))
        present, longest = to_micros(now), Visibility.of(group.features).longest
        visible = _latest_per_entity(rows.filter(pl.col(EVENT_TIMESTAMP) <= present))
        alive = visible.filter(pl.col(EVENT_TIMESTAMP) + longest > present)
        writing = layout_of(group).writing(self._keys, group)
        encoded = writing.encode(alive, now, self._expire_after())
        arguments = dict(zip(alive[ENTITY_ID], encoded.arguments, strict=True))
        head = preamble_of(writing, [b"withdraw", writing.recent(to_micros(now) - RECENT_MICROS)])
        self._publish_schema(group, writing)
        taken = 0
        with self._client.script(writing.script) as session:
            for chunk in times.iter_slices(writing.rows_per_chunk):
                calls = []
                for entity_id, event, ingested in chunk.iter_rows():
                    words = [*head, bulk(writing.times(event, ingested)), arguments.get(entity_id, writing.nothing())]
                    number = len(head) + 1 + writing.arguments_per_row
                    packed = script_call(
                        session.digest, (writing.keys_per_row, writing.keys_of(entity_id)), (number, b"".join(words))
                    )
                    calls.append(ScriptCall(self._keys.slot(entity_id), packed))
                session.send(calls, len(calls))
                taken += session.receive(_unheard)
        return taken

    def _push(
        self, group: RegisteredGroup, rows: pl.DataFrame, now: datetime, report: Callable[[int], None], pace: Pace
    ) -> int:
        """Sends rows, encoding each chunk while the server works on the one before; returns how many it wrote."""
        writing = layout_of(group).writing(self._keys, group)
        expire_after = self._expire_after()
        head = put_head(writing, to_micros(now))
        written = 0
        self._publish_schema(group, writing)
        with self._client.script(writing.script) as session:
            for chunk in rows.iter_slices(pace.portion(writing.rows_per_chunk)):
                encoded = writing.encode(chunk, now, expire_after)
                if self._keys.hash_tags:
                    slots = [self._keys.slot(entity_id) for entity_id in chunk[ENTITY_ID]]
                    calls = script_calls_by_row(writing, session.digest, encoded, head, slots)
                else:
                    calls = script_calls(writing, session.digest, encoded, head)
                written += session.receive(report)
                pace.wait(chunk.height)
                session.send(calls, chunk.height)
            written += session.receive(report)
        return written

    def _keep_pending(self, group: RegisteredGroup, rows: pl.DataFrame, now: datetime) -> None:
        writing = layout_of(group).writing(self._keys, group)
        self._publish_schema(group, writing)
        encoded = writing.encode(rows, now, self._expire_after())
        preamble = [bulk(text.encode()) for text in writing.preamble]
        number = len(preamble) + writing.arguments_per_row
        waiting = [
            PendingRow(
                entity_id, event, ingested, (writing.keys_per_row, keys), (number, b"".join([*preamble, arguments]))
            )
            for entity_id, event, ingested, keys, arguments in zip(
                rows[ENTITY_ID], rows[EVENT_TIMESTAMP], rows[INGESTED_AT], encoded.keys, encoded.arguments, strict=True
            )
        ]
        self._pending.add(group, waiting)

    def _publish_schema(self, group: RegisteredGroup, writing: GroupWrite) -> None:
        # Before the rows: who meets their fingerprint must find what it stands for.
        self._client.put(self._keys.schema(group.name, writing.schema.fingerprint), writing.schema.text)

    def _expire_after(self) -> datetime | None:
        # Under a clock that stands in another time, the server must not drop what that clock still sees.
        return None if self._clock.is_live else SystemClock().now()


def _unheard(rows: int) -> None:
    """Nobody asked for progress."""


def _divided(rows: pl.DataFrame, instant: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the rows of events up to an instant, and the others."""
    times = rows[EVENT_TIMESTAMP]
    if rows.is_empty() or times.max() <= instant:  # type: ignore[operator]
        return rows, rows.clear()
    if times.min() > instant:  # type: ignore[operator]
        return rows.clear(), rows
    is_past = times <= instant
    return rows.filter(is_past), rows.filter(~is_past)


def _standing_rows(rows: pl.DataFrame, recent: int) -> pl.DataFrame:
    """Returns the rows that some reader may see: each entity's newest one, and around the present those before it.

    A reader whose clock stands a little behind sees the row before the newest: rows later than `recent` (microseconds
    since 1970) go one after another, each for its turn.
    """
    if rows.height <= 1:
        return rows
    is_young = pl.col(EVENT_TIMESTAMP) > recent
    young = rows.filter(is_young)
    if young.is_empty():
        return _latest_per_entity(rows)
    young = young.sort(INGESTED_AT, maintain_order=True).unique(
        [ENTITY_ID, EVENT_TIMESTAMP], keep="last", maintain_order=True
    )
    return pl.concat([_latest_per_entity(rows.filter(~is_young)), young.sort(EVENT_TIMESTAMP)])


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


def _checked(group: RegisteredGroup, rows: pl.DataFrame) -> pl.DataFrame:
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


def _column_failures(group: RegisteredGroup, rows: pl.DataFrame) -> list[str]:
    declared = RowSchema.of(group)
    schema = rows.schema
    missing = [column for column in declared.stored if column not in schema]
    if missing:
        return [f"column {column!r} is missing" for column in missing]
    failures = [
        f"column {column!r} holds {schema[column]}, declared is {dtype}"
        for column, dtype in {**declared.keys, **declared.features}.items()
        if schema[column] not in {polars_type(dtype), pl.Null()}
    ]
    return failures + [
        f"column {column!r} holds {schema[column]}, not timestamps"
        for column in (EVENT_TIMESTAMP, INGESTED_AT)
        if not schema[column].is_temporal()
    ]


def _value_failures(group: RegisteredGroup, frame: pl.DataFrame) -> list[str]:
    failures = [
        f"{count} row(s) have no {name}"
        for name in (ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT)
        if (count := frame[name].null_count())
    ]
    timestamps = [feature.ref.column for feature in group.features if feature.dtype == TIMESTAMP]
    for column in (EVENT_TIMESTAMP, INGESTED_AT, *timestamps):
        micros = frame[column].to_physical()
        first, last = micros.min(), micros.max()
        if first is not None and (first < EARLIEST or last > LATEST):  # type: ignore[operator]
            count = int((~micros.is_between(EARLIEST, LATEST)).sum())
            failures.append(f"{count} value(s) of {column!r} lie outside the years 1 to 9999")
    return failures
