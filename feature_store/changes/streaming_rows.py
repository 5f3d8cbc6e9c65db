"""Rows of streams on their way: online at once, offline when they are drained.

A streamer gives rows their ingestion times before anybody else can have them, and says when they are in the topic; a
drainer says up to when all of them are in the offline store. What lies between is left alone by repairs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.changes.delivery import delivery_of
from feature_store.changes.settling import Settler
from feature_store.clock import Clock
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import OnlineStoreError
from feature_store.frames import entity_id_expression
from feature_store.offline.store import OfflineStore
from feature_store.online.retractions import Retraction

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

_LOG = logging.getLogger(__name__)


class StreamedRows:
    """What a streamer does with the rows that it has computed.

    Args:
        group: The group as it is registered.
        offline: Asked for the row before one that is taken back, where the stream no longer knows it.
        online: Written.
        clock: The store's present.
    """

    def __init__(self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock
        settler = Settler(group, offline, online, clock)
        self._delivery = delivery_of(settler, group, online, clock)

    def claim(self, streamer: str, at_least: datetime) -> datetime:
        """Returns when rows are ingested that a streamer gives now: later than all that the store holds.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        return self._online.ingestion.claim(self._group.name, streamer=streamer, at_least=at_least)

    def committed(self, streamer: str) -> None:
        """Says that the rows of a streamer's last claim are in the topic of rows.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        self._online.ingestion.committed(self._group.name, streamer)

    def deliver(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Brings rows online, and takes rows back; the entity's row before one that is gone takes its place.

        Args:
            rows: New and changed rows, as they are stored.
            retracted: Join keys, `event_timestamp` and `ingested_at` of rows that are gone.
            standing: The rows that the stream knows of the entities of those: as they are stored.

        Raises:
            OnlineStoreError: If the online store does not answer; to deliver again changes nothing that is done.
        """
        if retracted.height:
            self._online.retractions.add(self._group.name, self._identified(retracted))
        self._delivery.deliver_streamed(rows, retracted, standing)
        if rows.height:
            self._online.retractions.given_again(self._group.name, self._identified(rows))

    def promote(self) -> None:
        """Brings rows online whose time has come.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        self._online.pending.promote(self._group)

    def rows_of(self, entities: pl.DataFrame) -> pl.DataFrame:
        """Returns join keys and event time of all rows that the offline store holds of some entities.

        Raises:
            StorageError: If the storage does not answer.
        """
        identity = [*self._group.entity.join_keys, EVENT_TIMESTAMP]
        rows = self._offline.scan(self._group).select(identity)
        return rows.join(entities.lazy(), on=entities.columns, how="semi").unique().collect()

    def _identified(self, rows: pl.DataFrame) -> Iterator[Retraction]:
        identified = rows.select(
            entity_id_expression(self._group.entity),
            *(pl.col(column).to_physical() for column in (EVENT_TIMESTAMP, INGESTED_AT)),
        )
        return (Retraction(*row) for row in identified.iter_rows())


class DrainedRows:
    """What a drainer says of the rows that it carries into the offline store.

    Args:
        group: The group as it is registered.
        offline: Holds what was drained.
        online: Is told, and settled.
        clock: The store's present.
    """

    def __init__(self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._online = online
        self._settler = Settler(group, offline, online, clock)
        self._mark: datetime | None = None
        self._others_withdrew = False
        self._unsettled: list[pl.DataFrame] = []

    def begin(self) -> None:
        """Takes note of the rows that are in the topic now."""
        try:
            state = self._online.ingestion.state(self._group.name)
            self._others_withdrew = state.withdrawn is not None and (
                state.drained is None or state.withdrawn > state.drained
            )
            self._mark = self._online.ingestion.drain_mark(self._group.name)
        except OnlineStoreError as error:
            _LOG.warning("It is not noted how far %s is drained: %s", self._group.name, error)

    def write(self, rows: pl.DataFrame) -> None:
        """Takes note of rows that were written."""
        if self._others_withdrew:
            # Online, such a row may have stood behind one that was withdrawn before it was drained.
            self._unsettled.append(rows)

    def withdraw(self, gone: pl.DataFrame) -> None:
        """Takes note of rows that were taken back: join keys and `event_timestamp`."""
        self._unsettled.append(gone)

    def end(self) -> None:
        """Says that all rows of then are in the offline store, and settles entities that may have come apart."""
        try:
            if self._unsettled:
                entity_id = entity_id_expression(self._group.entity)
                ids = pl.concat([rows.select(entity_id) for rows in self._unsettled])[ENTITY_ID].unique().to_list()
                self._settler.entities(ids, drained=self._mark)
            # Last: a drainer that dies before does all of it again.
            if self._mark is not None:
                self._online.retractions.drained(self._group.name, self._mark)
                self._online.ingestion.drained(self._group.name, self._mark)
        except OnlineStoreError as error:
            _LOG.warning("The online store of %s is settled by the next repair: %s", self._group.name, error)
        self._unsettled = []
