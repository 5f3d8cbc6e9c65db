"""The transform on a stream: which rows a micro-batch of events adds or changes, given the events before it.

The same function on the same events as in a batch pass, so the rows are the same. An event that comes late changes the
rows of its entity up to one look-back later: these are computed again, and those that differ are emitted again. Rows
that no longer exist are told too. Nothing here knows Kafka, a store or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from feature_store.changes.validation import validate
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.equality import rows_missing_from
from feature_store.errors import InvalidRowsError
from feature_store.partitions import Window
from feature_store.rows.polars_schema import computed_schema
from feature_store.transform.compute import apply_transform

SEQUENCE = "_sequence"
"""Column of new events: their position in the micro-batch. No column of events begins with an underscore."""
LAST_ROW = "_last_row"
_FIRST = "_first"
_FAR = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MicroBatchRows:
    """What a micro-batch comes to.

    Attributes:
        rows: Rows that are new or differ from before, validated, without `ingested_at`.
        retracted: Join keys and event time of rows that were there before and are no more.
        refused: Position in the micro-batch of each event that leads to rows which are refused, and why. All other
            new events are part of the entities' past from now on.
        last_rows: What `Past.last_rows` is for the entities from now on.
    """

    rows: pl.DataFrame
    retracted: pl.DataFrame
    refused: dict[int, str]
    last_rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the entities of new events.

    Attributes:
        events: Their accepted events from one look-back before the earliest new one on, or more.
        last_rows: Join keys and `_last_row`: the latest event time of a row that was emitted for an entity; entities
            of which it is not known are absent.
        seeds: Events of before the stream began, from the source's files. What the stream delivers may be among them.
    """

    events: pl.DataFrame
    last_rows: pl.DataFrame
    seeds: pl.DataFrame | None = None

    def of(self, entities: pl.DataFrame) -> Past:
        """Returns what is known of some entities alone."""
        keys = entities.columns
        seeds = None if self.seeds is None else self.seeds.join(entities, on=keys, how="semi")
        return Past(self.events.join(entities, on=keys, how="semi"), self.last_rows, seeds)


def compute_micro_batch(group: FeatureGroup, new: pl.DataFrame, past: Past) -> MicroBatchRows:
    """Computes the rows that new events add or change.

    Args:
        group: The feature group.
        new: New events of the source, none of them in the past, with their position in `_sequence`.
        past: What is known of their entities.
    """
    try:
        rows, retracted, last_rows = _changes(group, new.drop(SEQUENCE), past)
    except (InvalidRowsError, pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
        return _one_by_one(group, new, past, error)
    return MicroBatchRows(rows, retracted, {}, last_rows)


def _changes(group: FeatureGroup, new: pl.DataFrame, past: Past) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    keys = list(group.entity.join_keys)
    identity = [*keys, EVENT_TIMESTAMP]
    first = new.group_by(keys).agg(pl.col(EVENT_TIMESTAMP).min().alias(_FIRST))
    known = past.events
    if past.seeds is not None and past.seeds.height:
        # What the stream delivers too counts once, and as delivered.
        delivered = pl.concat([past.events, new])
        known = pl.concat([past.seeds.join(delivered, on=delivered.columns, how="anti", nulls_equal=True), known])
    after = _affected(group, pl.concat([known, new]), first)
    last_rows = after.group_by(keys).agg(pl.col(EVENT_TIMESTAMP).max().alias(LAST_ROW))
    if known.is_empty():
        return after, after.select(identity).clear(), last_rows
    # Rows that were there before lie at or after the new event only if it comes late; seldom, so seldom computed.
    touched = (
        known.select(keys)
        .unique()
        .join(first, on=keys)
        .join(past.last_rows, on=keys, how="left")
        .filter(pl.col(LAST_ROW).is_null() | (pl.col(LAST_ROW) >= pl.col(_FIRST)))
        .select(keys)
    )
    if touched.is_empty():
        return after, after.select(identity).clear(), last_rows
    before = _affected(group, known.join(touched, on=keys, how="semi"), first)
    changed = rows_missing_from(after, before)
    retracted = before.select(identity).join(after.select(identity), on=identity, how="anti")
    return changed, retracted, last_rows


def _affected(group: FeatureGroup, events: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Returns the valid rows from each entity's first new event on."""
    begin = first[_FIRST].min()
    assert isinstance(begin, datetime)
    rows = apply_transform(group, events.lazy(), Window(begin, _FAR))
    keys = list(group.entity.join_keys)
    rows = rows.join(first, on=keys, how="left", nulls_equal=True)
    # A row of an entity without new events is none of ours; one without a time is for the validation to name.
    rows = rows.filter((pl.col(EVENT_TIMESTAMP) >= pl.col(_FIRST)).fill_null(pl.col(EVENT_TIMESTAMP).is_null()))
    return validate(group, rows.drop(_FIRST))


def rows_since(group: FeatureGroup, events: pl.DataFrame, since: datetime) -> pl.DataFrame:
    """Returns the rows that some events come to, at or after an instant: validated.

    Args:
        group: The feature group.
        events: All events of the rows' entities from one look-back before the instant on.
        since: The instant.
    """
    return validate(group, apply_transform(group, events.lazy(), Window(since, _FAR)))


def _one_by_one(group: FeatureGroup, new: pl.DataFrame, past: Past, error: Exception) -> MicroBatchRows:
    """Halves the entities until those with the bad events are found, and tries the events of these one by one."""
    keys = list(group.entity.join_keys)
    entities = new.select(keys).unique(maintain_order=True)
    results = []
    if entities.height > 1:
        middle = entities.height // 2
        results = [
            compute_micro_batch(group, new.join(half, on=keys, how="semi"), past.of(half))
            for half in (entities[:middle], entities[middle:])
        ]
        return _merged(group, results)
    if new.height > 1:
        # Nothing is known of its last row any more: what an event changes is compared with what there was before it.
        unknown = past.last_rows.clear()
        events = past.events
        for event in new.sort(SEQUENCE).iter_slices(1):
            results.append(compute_micro_batch(group, event, Past(events, unknown, past.seeds)))
            if not results[-1].refused:
                events = pl.concat([events, event.drop(SEQUENCE)])
        return _merged(group, results)
    (position,) = new[SEQUENCE]
    return nothing(group, {position: str(error)})


def _merged(group: FeatureGroup, results: list[MicroBatchRows]) -> MicroBatchRows:
    identity = [*group.entity.join_keys, EVENT_TIMESTAMP]
    # A later event of an entity may have changed a row again: the last one counts.
    steps = pl.concat([result.rows.with_columns(_step=pl.lit(step)) for step, result in enumerate(results)])
    gone = pl.concat([result.retracted.with_columns(_gone=pl.lit(step)) for step, result in enumerate(results)])
    latest = steps.unique(identity, keep="last", maintain_order=True)
    last_gone = gone.unique(identity, keep="last", maintain_order=True)
    joined = latest.join(last_gone, on=identity, how="left")
    rows = joined.filter(pl.col("_gone").is_null() | (pl.col("_gone") < pl.col("_step"))).drop("_step", "_gone")
    retracted = last_gone.drop("_gone").join(rows, on=identity, how="anti")
    refused = {position: reason for result in results for position, reason in result.refused.items()}
    last_rows = pl.concat([result.last_rows for result in results])
    keys = list(group.entity.join_keys)
    return MicroBatchRows(rows, retracted, refused, last_rows.group_by(keys).agg(pl.col(LAST_ROW).max()))


def nothing(group: FeatureGroup, refused: dict[int, str] | None = None) -> MicroBatchRows:
    """Returns what a micro-batch without a good event comes to."""
    rows = pl.DataFrame(schema=computed_schema(group))
    keys = list(group.entity.join_keys)
    return MicroBatchRows(
        rows,
        rows.select(*keys, EVENT_TIMESTAMP),
        refused or {},
        rows.select(*keys, pl.col(EVENT_TIMESTAMP).alias(LAST_ROW)),
    )
