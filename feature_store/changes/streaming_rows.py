"""Rows of streams on their way: online at once, offline when they are drained.

A streamer gives rows their ingestion times before anybody else can have them, and says when they are in the topic; a
drainer says up to when all of them are in the offline store. What lies between is left alone by repairs.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import Group
from feature_store.changes.settling import Settler
from feature_store.clock import Clock
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.errors import OnlineStoreError
from feature_store.frames import entity_id_expression
from feature_store.offline.store import OfflineStore

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

_LOG = logging.getLogger(__name__)


class StreamedRows:
    """What a streamer does with the rows that it has computed.

    Args:
        record: The group as it is registered.
        offline: Asked for the row before one that is taken back, where the stream no longer knows it.
        online: Written.
        clock: The store's present.
    """

    def __init__(self, record: Group, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._record = record
        self._online = online
        self._settler = Settler(record, offline, online, clock)

    def claim(self, streamer: str, at_least: datetime) -> datetime:
        """Returns when rows are ingested that a streamer gives now: later than all that the store holds.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        return self._online.ingestion.claim(self._record.name, streamer=streamer, at_least=at_least)

    def committed(self, streamer: str) -> None:
        """Says that the rows of a streamer's last claim are in the topic of rows.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        self._online.ingestion.committed(self._record.name, streamer)

    def deliver(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Brings rows online, and takes rows back; the entity's row before one that is gone takes its place.

        Args:
            rows: New and changed rows, as they are stored.
            retracted: Join keys, `event_timestamp` and `ingested_at` of rows that are gone.
            standing: The newest rows that the stream knows of the entities of those: as they are stored.

        Raises:
            OnlineStoreError: If the online store does not answer; to deliver again changes nothing that is done.
        """
        if retracted.height:
            self._online.withdraw(self._record, retracted, self._before(retracted, standing))
        if rows.height:
            self._online.write(self._record, rows)

    def promote(self) -> None:
        """Brings rows online whose time has come.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        self._online.pending.promote(self._record)

    def _before(self, retracted: pl.DataFrame, standing: pl.DataFrame) -> pl.DataFrame:
        keys = list(self._record.entity.join_keys)
        ids = retracted.select(entity_id_expression(self._record.entity).unique())[ENTITY_ID].to_list()
        known = self._settler.standing(ids, without=retracted)
        newest = pl.concat([known, standing.select(known.columns)]).sort(EVENT_TIMESTAMP, maintain_order=True)
        return newest.group_by(keys, maintain_order=True).last().select(known.columns)


class DrainedRows:
    """What a drainer says of the rows that it carries into the offline store.

    Args:
        record: The group as it is registered.
        offline: Holds what was drained.
        online: Is told, and settled.
        clock: The store's present.
    """

    def __init__(self, record: Group, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._record = record
        self._online = online
        self._settler = Settler(record, offline, online, clock)
        self._mark: datetime | None = None
        self._withdrawn: list[pl.DataFrame] = []

    def begin(self) -> None:
        """Takes note of the rows that are in the topic now."""
        try:
            self._mark = self._online.ingestion.drain_mark(self._record.name)
        except OnlineStoreError as error:
            _LOG.warning("It is not noted how far %s is drained: %s", self._record.name, error)

    def withdraw(self, gone: pl.DataFrame) -> None:
        """Takes note of rows that were taken back: join keys and `event_timestamp`."""
        self._withdrawn.append(gone)

    def end(self) -> None:
        """Says that all rows of then are in the offline store, and settles the entities of those taken back."""
        try:
            if self._mark is not None:
                self._online.ingestion.drained(self._record.name, self._mark)
            if self._withdrawn:
                entity_id = entity_id_expression(self._record.entity)
                ids = pl.concat([gone.select(entity_id) for gone in self._withdrawn])[ENTITY_ID].unique().to_list()
                self._settler.entities(ids)
        except OnlineStoreError as error:
            _LOG.warning("The online store of %s is settled by the next repair: %s", self._record.name, error)
        self._withdrawn = []
