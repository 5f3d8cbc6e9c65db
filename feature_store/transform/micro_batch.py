"""The transform on a stream: which rows a micro-batch of events adds or changes, given the events before it.

The same function on the same events as in a batch pass, so the rows are the same. An event that comes late changes the
rows of its entity up to one look-back later: these are computed again, and those that differ are emitted again. Rows
that no longer exist are told too. Nothing here knows Kafka, a store or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from feature_store.changes.validation import row_faults, validate
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.equality import rows_missing_from
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema
from feature_store.transform.bad_events import GONE, SEQUENCE, BadEvents
from feature_store.transform.compute import apply_transform

_OF_FUNCTIONS = (Exception, pl.exceptions.PanicException)
"""What a group's function may raise over one message: anything. A panic of Polars is no `Exception`."""
LAST_ROW = "_last_row"
_FIRST = "_first"
_FAR = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MicroBatchRows:
    """What a micro-batch comes to.

    Attributes:
        rows: Rows that are new or differ from before, validated, without `ingested_at`.
        retracted: Join keys and event time of rows that were there before and are no more.
        rejected: Position in the micro-batch of each event that leads to rows which are rejected, and why. All other
            new events are part of the entities' past from now on.
        last_rows: What `Past.last_rows` is for the entities from now on.
    """

    rows: pl.DataFrame
    retracted: pl.DataFrame
    rejected: dict[int, str]
    last_rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the entities of new events.

    Attributes:
        events: Their events from one look-back before the earliest new one on, or more: what was accepted, and what
            the source's files hold beside it.
        last_rows: Join keys and `_last_row`: the latest event time of a row that was emitted for an entity; entities
            of which it is not known are absent.
        removed: Those of the events that new ones replace or remove, with the `_sequence` of what does; None for none.
    """

    events: pl.DataFrame
    last_rows: pl.DataFrame
    removed: pl.DataFrame | None = None


def compute_micro_batch(group: FeatureGroup, new: pl.DataFrame, past: Past) -> MicroBatchRows:
    """Computes the rows that new events add or change.

    Args:
        group: The feature group.
        new: New events of the source, none of them in the past, with their position in `_sequence`, and `_gone`.
        past: What is known of their entities.
    """
    try:
        return _changes(group, new, past)
    except _OF_FUNCTIONS as error:
        return _without_bad(group, new, past, error)


def _changes(group: FeatureGroup, new: pl.DataFrame, past: Past) -> MicroBatchRows:
    """Returns what new events come to, if all rows are good.

    Raises:
        InvalidRowsError: If a row is rejected.
        Exception: Whatever the group's function raises.
    """
    keys = list(group.entity.join_keys)
    identity = [*keys, EVENT_TIMESTAMP]
    before, after, first = _events(group, new, past)
    rows = validate(group, _affected(group, after, first))
    last_rows = rows.group_by(keys).agg(pl.col(EVENT_TIMESTAMP).max().alias(LAST_ROW))
    # Rows that were there before lie at or after the new event only if it comes late; seldom, so seldom computed.
    touched = (
        before.select(keys)
        .unique()
        .join(first, on=keys)
        .join(past.last_rows, on=keys, how="left")
        .filter(pl.col(LAST_ROW).is_null() | (pl.col(LAST_ROW) >= pl.col(_FIRST)))
        .select(keys)
    )
    if touched.is_empty():
        return MicroBatchRows(rows, rows.select(identity).clear(), {}, last_rows)
    former = validate(group, _affected(group, before.join(touched, on=keys, how="semi"), first))
    retracted = former.select(identity).join(rows.select(identity), on=identity, how="anti")
    return MicroBatchRows(rows_missing_from(rows, former), retracted, {}, last_rows)


def _events(group: FeatureGroup, new: pl.DataFrame, past: Past) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Returns the events before, the events after, and the time from which on the rows of each entity may change."""
    keys = list(group.entity.join_keys)
    present = new.filter(~pl.col(GONE)).drop(SEQUENCE, GONE)
    kept, changed = past.events, present.select(*keys, EVENT_TIMESTAMP)
    if past.removed is not None and past.removed.height:
        removed = past.removed.filter(pl.col(SEQUENCE).is_in(new[SEQUENCE].to_list())).drop(SEQUENCE)
        kept = past.events.join(removed, on=removed.columns, how="anti", nulls_equal=True)
        changed = pl.concat([changed, removed.select(changed.columns)])
    first = changed.group_by(keys).agg(pl.col(EVENT_TIMESTAMP).min().alias(_FIRST))
    return past.events, pl.concat([kept, present]), first


def _affected(group: FeatureGroup, events: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows from each entity's first new event on, as the function emits them."""
    begin = first[_FIRST].min()
    if begin is None:
        return nothing(group).rows
    assert isinstance(begin, datetime)
    rows = apply_transform(group, events.lazy(), Window(begin, _FAR))
    keys = list(group.entity.join_keys)
    rows = rows.join(first, on=keys, how="left", nulls_equal=True)
    # A row of an entity without new events is none of ours; one without a time is for the validation to name.
    rows = rows.filter((pl.col(EVENT_TIMESTAMP) >= pl.col(_FIRST)).fill_null(pl.col(EVENT_TIMESTAMP).is_null()))
    return rows.drop(_FIRST)


def rows_since(group: FeatureGroup, events: pl.DataFrame, since: datetime) -> pl.DataFrame:
    """Returns the rows that some events come to, at or after an instant: validated.

    Args:
        group: The feature group.
        events: All events of the rows' entities from one look-back before the instant on.
        since: The instant.
    """
    return validate(group, apply_transform(group, events.lazy(), Window(since, _FAR)))


def _without_bad(group: FeatureGroup, new: pl.DataFrame, past: Past, error: BaseException) -> MicroBatchRows:
    """Returns what new events come to without those that lead to bad rows; each of these is found."""
    keys = list(group.entity.join_keys)

    def faults(events: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame | None:
        try:
            _, after, first = _events(group, events, Past(known, past.last_rows, past.removed))
            after = after.join(first, on=keys, how="semi")
            return row_faults(group, _affected(group, after, first))
        except _OF_FUNCTIONS:
            return None

    bad = BadEvents(group, faults, past.events)
    pending = bad.sorted_out(new)
    if pending is None:
        return _halves(group, new, past, error)
    try:
        good = _changes(group, pending, past) if pending.height else nothing(group)
    except _OF_FUNCTIONS as again:
        return _halves(group, new, past, again)
    return MicroBatchRows(good.rows, good.retracted, bad.rejected, good.last_rows)


def _halves(group: FeatureGroup, new: pl.DataFrame, past: Past, error: BaseException) -> MicroBatchRows:
    """Halves the entities until those are found whose events the function cannot take, and tries these one by one."""
    keys = list(group.entity.join_keys)
    entities = new.select(keys).unique(maintain_order=True)
    if entities.height > 1:
        middle = entities.height // 2
        halves = (new.join(half, on=keys, how="semi") for half in (entities[:middle], entities[middle:]))
        return _merged([compute_micro_batch(group, half, _past_of(past, half.select(keys))) for half in halves])
    good, rejected = new.clear(), {}
    for event in new.sort(SEQUENCE).iter_slices(1):
        try:
            _changes(group, pl.concat([good, event]), past)
        except _OF_FUNCTIONS as reason:
            rejected[int(event[SEQUENCE].item())] = str(reason) if new.height > 1 else str(error)
        else:
            good = pl.concat([good, event])
    result = _changes(group, good, past) if good.height else nothing(group)
    return MicroBatchRows(result.rows, result.retracted, rejected, result.last_rows)


def _past_of(past: Past, entities: pl.DataFrame) -> Past:
    keys = entities.columns
    return Past(past.events.join(entities, on=keys, how="semi"), past.last_rows, past.removed)


def _merged(results: list[MicroBatchRows]) -> MicroBatchRows:
    """Returns what micro-batches of different entities come to."""
    rejected = {position: reason for result in results for position, reason in result.rejected.items()}
    return MicroBatchRows(
        pl.concat([result.rows for result in results]),
        pl.concat([result.retracted for result in results]),
        rejected,
        pl.concat([result.last_rows for result in results]),
    )


def nothing(group: FeatureGroup, rejected: dict[int, str] | None = None) -> MicroBatchRows:
    """Returns what a micro-batch without a good event comes to."""
    rows = pl.DataFrame(schema=computed_schema(group))
    keys = list(group.entity.join_keys)
    return MicroBatchRows(
        rows,
        rows.select(*keys, EVENT_TIMESTAMP),
        rejected or {},
        rows.select(*keys, pl.col(EVENT_TIMESTAMP).alias(LAST_ROW)),
    )
