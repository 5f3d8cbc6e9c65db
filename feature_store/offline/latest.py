"""The offline store's answer at one instant, for entities that are sampled by a hash of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import entity_id_expression
from feature_store.hash_sampling import among_sampled, least_hashed
from feature_store.offline.footers import row_counts
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.visibility import Visibility

_ROWS_PER_ENTITY = 64
"""So many rows are looked at for each entity that is wanted, at most, before the sample is drawn."""


def sampled_entities(
    offline: OfflineStore, group: RegisteredGroup, now: datetime, most: int, *, turn: int = 0, spans: int = 1
) -> list[str]:
    """Returns ids of entities that had a row of late: those whose keys have the least hashes.

    Args:
        offline: Holds the rows.
        group: The group.
        now: Rows of later events are left out.
        most: Entities at most.
        turn: Another number draws another sample.
        spans: How many times to live to look back: with 1 all have a visible row, with 2 there are some among them
            whose values must be gone by now.
    """
    visibility = Visibility.of(group.features)
    window = visibility.window(now)
    for _ in range(1, spans):
        window = Window(visibility.window(window.start).start, window.end)
    files = offline.files(group.name, window)
    rows = sum(row_counts(group, files))
    share = min(1.0, most * _ROWS_PER_ENTITY / max(rows, 1))

    def sample(rows: pl.LazyFrame) -> pl.LazyFrame:
        ids = rows.select(entity_id_expression(group.entity))
        return least_hashed(ids.filter(among_sampled(share, turn)).unique(), most, turn)

    return offline.collect(group, sample, window, streaming=True).to_series().sort().to_list()


def latest_rows(
    offline: OfflineStore,
    group: RegisteredGroup,
    now: datetime,
    entity_ids: Sequence[str] | None = None,
    *,
    without: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Returns the row of each entity that is visible at an instant: the newest one.

    Args:
        offline: Holds the rows.
        group: The group.
        now: The instant.
        entity_ids: The entities; None for all.
        without: `entity_id`, `event_timestamp` and `ingested_at` of rows that do not count: those that were ingested
            earlier than that.

    Returns:
        The group's columns and `entity_id`, one row per entity that has one within the longest time to live.
    """

    def newest(rows: pl.LazyFrame) -> pl.LazyFrame:
        counting = rows_that_count(rows.with_columns(entity_id_expression(group.entity)), entity_ids, without)
        ordered = counting.sort(EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True)
        return ordered.group_by(ENTITY_ID, maintain_order=True).last()

    return offline.collect(group, newest, Visibility.of(group.features).window(now))


def rows_that_count(rows: pl.LazyFrame, entity_ids: Sequence[str] | None, without: pl.DataFrame | None) -> pl.LazyFrame:
    """Returns the rows of some entities, but those that streams have taken back.

    Args:
        rows: With `entity_id`.
        entity_ids: The entities; None for all.
        without: As `without_retracted`; None for nothing.
    """
    if entity_ids is not None:
        rows = rows.filter(pl.col(ENTITY_ID).is_in(list(entity_ids)))
    return rows if without is None else without_retracted(rows, without)


def without_retracted(rows: pl.LazyFrame, retracted: pl.DataFrame) -> pl.LazyFrame:
    """Returns rows (with `entity_id`) without those that were taken back; see `latest_rows`."""
    until = retracted.lazy().group_by(ENTITY_ID, EVENT_TIMESTAMP).agg(pl.col(INGESTED_AT).max().alias("_until"))
    marked = rows.join(until, on=[ENTITY_ID, EVENT_TIMESTAMP], how="left", maintain_order="left")
    return marked.filter(pl.col("_until").is_null() | (pl.col(INGESTED_AT) >= pl.col("_until"))).drop("_until")
