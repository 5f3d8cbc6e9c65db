"""Filling the online store from the offline store, where keys were lost or more rows are to be seen than before.

Nothing is computed: the offline store has every row. Online, the newest row wins, so a refill beside running writers
is harmless, and one that was cut off is completed by the next.
"""

from __future__ import annotations

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.changes.settling import Settler
from feature_store.clock import Clock
from feature_store.day_windows import day_window
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.frames import entity_id_expression
from feature_store.offline.latest import rows_that_count
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.reconcile.online_sample import files_with_rows
from feature_store.visibility import Visibility


def push_online(group: RegisteredGroup, *, offline: OfflineStore, online: OnlineStore, clock: Clock) -> WriteReport:
    """Writes the latest visible row of each entity to the online store; see `FeatureStore.push_online`."""
    window = Visibility.of(group.features).window(clock.now())
    keys = list(group.entity.join_keys)
    entity_id = entity_id_expression(group.entity)
    settler = Settler(group, offline, online, clock)
    settler.left_behind()
    if settler.windows is not None:
        looked = settler.all_entities().entities
        return WriteReport(rows=looked, written=looked)
    retracted = settler.retracted()
    total = WriteReport()
    seen: pl.DataFrame | None = None
    # The newest day first: what is read most is back first, and older rows of the same entities need no writing.
    for day in sorted({file.date for file in files_with_rows(group, offline, window)}, reverse=True):
        of_day = day_window(day)
        rows = offline.collect(
            group,
            lambda rows: rows_that_count(rows.with_columns(entity_id), None, retracted),
            Window(max(window.start, of_day.start), min(window.end, of_day.end)),
        ).drop(ENTITY_ID)
        if seen is not None:
            rows = rows.join(seen, on=keys, how="anti", maintain_order="left")
        report = online.write(group, rows)
        total += report
        new = rows.select(keys).unique()
        seen = new if seen is None else pl.concat([seen, new])
    # What is seen when its time comes, and by readers whose clocks stand a little behind.
    near = settler.near_rows(clock.now()).filter(pl.col(EVENT_TIMESTAMP) > clock.now()).drop(ENTITY_ID)
    return total + online.write(group, near) if near.height else total


def shows_more(before: RegisteredGroup, after: RegisteredGroup) -> bool:
    """Tells whether rows may be visible by a group's definition that were not, or not there, by the one before it.

    So it is where a time to live is longer, for what had expired by the shorter one is gone; where the layout is
    another, for its keys are; and where there is a window more, which the tiles that stand online were not made for.
    """
    former = {feature.ref: feature.online_ttl_seconds for feature in before.features}
    longer = any(
        feature.online_ttl_seconds > former.get(feature.ref, feature.online_ttl_seconds) for feature in after.features
    )
    is_wider = any(feature.window is not None and feature.ref not in former for feature in after.features)
    return longer or is_wider or before.online_layout != after.online_layout
