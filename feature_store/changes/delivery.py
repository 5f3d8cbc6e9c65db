"""Bringing what has changed online: as rows, of which the newest stands, or as tiles of windows. The layout decides.

Whoever writes delivers here: batches, ingest, pushes and Spark what is in the offline store by then, streams what is
not there yet.
"""

from __future__ import annotations

from typing import Protocol

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.changes.settling import Settler
from feature_store.clock import Clock
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE, entity_id_expression
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport


class Delivery(Protocol):
    """A way to bring changes online. To deliver again changes nothing that is done.

    Both methods raise `OnlineStoreError` if the online store fails.
    """

    def deliver(self, rows: pl.DataFrame, gone: pl.DataFrame) -> tuple[WriteReport, int]:
        """Brings changes online that are in the offline store.

        Args:
            rows: Rows that are new or differ, as they are stored.
            gone: Join keys, `event_timestamp` and `ingested_at` (up to when they were ingested) of rows that are gone.

        Returns:
            What became of the rows, and how many went.
        """
        ...

    def deliver_streamed(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Brings changes of a stream online, which are not in the offline store yet.

        Args:
            rows: As in `deliver`.
            retracted: What is gone, likewise.
            standing: The rows that the stream knows of the entities of those.
        """
        ...


def delivery_of(settler: Settler, group: RegisteredGroup, online: OnlineStore, clock: Clock) -> Delivery:
    """Returns how changes of a group are brought online."""
    return settler.windows or _RowDelivery(settler, group, online, clock)


class _RowDelivery:
    """Rows: the newest of each entity stands, decided inside the server."""

    def __init__(self, settler: Settler, group: RegisteredGroup, online: OnlineStore, clock: Clock) -> None:
        self._settler = settler
        self._group = group
        self._online = online
        self._clock = clock

    def deliver(self, rows: pl.DataFrame, gone: pl.DataFrame) -> tuple[WriteReport, int]:
        withdrawn = 0
        if gone.height:
            ids = gone.select(entity_id_expression(self._group.entity).unique())[ENTITY_ID].to_list()
            near = self._settler.near_rows(self._clock.now(), ids).drop(ENTITY_ID)
            withdrawn = self._online.withdraw(self._group, gone, near)
            # Read again: what another writer brought between the two was older than the row that is gone.
            self._online.write(self._group, self._settler.near_rows(self._clock.now(), ids).drop(ENTITY_ID))
        report = self._online.write(self._group, rows) if rows.height else WriteReport()
        return report, withdrawn

    def deliver_streamed(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        if retracted.height:
            before = self._before(retracted, standing)
            self._online.withdraw(self._group, retracted, before)
            self._online.write(self._group, before)
        if rows.height:
            self._online.write(self._group, rows)

    def _before(self, retracted: pl.DataFrame, standing: pl.DataFrame) -> pl.DataFrame:
        ids = retracted.select(entity_id_expression(self._group.entity).unique())[ENTITY_ID].to_list()
        now = self._clock.now()
        known = self._settler.near_rows(now, ids).drop(ENTITY_ID)
        # Those ahead of the clock wait where they are.
        standing = self._settler.without_withdrawn(standing.filter(pl.col(EVENT_TIMESTAMP) <= now))
        drained = self._online.ingestion.state(self._group.name).drained
        # Of two versions of one row, the stream's is the later one, unless others gave theirs since the last drain.
        is_fresh = pl.lit(drained is not None) & (pl.col(INGESTED_AT) > pl.lit(drained, dtype=TIMESTAMP_TYPE))
        ranked = pl.concat(
            [
                known.with_columns((is_fresh.fill_null(value=False).cast(pl.Int8) * 2).alias("_rank")),
                standing.select(known.columns).with_columns(pl.lit(1, dtype=pl.Int8).alias("_rank")),
            ]
        )
        identity = [*self._group.entity.join_keys, EVENT_TIMESTAMP]
        ranked = ranked.sort(EVENT_TIMESTAMP, "_rank", maintain_order=True)
        return ranked.unique(identity, keep="last", maintain_order=True).select(known.columns)
