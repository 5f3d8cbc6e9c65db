"""Settling: entities get online what the offline store says of them now, by whatever way they came apart.

Nothing is computed here. Rows that are on their way to the offline store, from streams, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import Group
from feature_store.changes.admission import MOST_AHEAD
from feature_store.clock import Clock
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.source import day_window
from feature_store.frames import entity_id_expression
from feature_store.monitoring.latest import latest_rows
from feature_store.offline.store import OfflineStore
from feature_store.offline.unfinished import left_behind
from feature_store.online.repair import Remover
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    from feature_store.online.ingestion_clock import IngestionState
    from feature_store.online.store import OnlineStore

ENTITIES_PER_READ = 1000


@dataclass(frozen=True, slots=True)
class SettledEntities:
    """What settling did.

    Attributes:
        entities: Entities that were looked at.
        removed: Rows removed from the online store: the offline store has none, or an older one.
        on_their_way: Rows left alone because the offline store will have them: streams bring them online first.
        moved_on: Rows left alone because somebody wrote them meanwhile.
        written: What became of the offline store's rows that were written.
    """

    entities: int
    removed: int
    on_their_way: int
    moved_on: int
    written: WriteReport


class Settler:
    """Settles the entities of one group.

    Args:
        group: The group.
        offline: Says what is right.
        online: Is settled.
        clock: Tells the instant.
    """

    def __init__(self, group: Group, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock

    def all_entities(self) -> SettledEntities:
        """Settles all entities of either store. All keys of the servers are looked through, without blocking them.

        Raises:
            OnlineStoreError: If the online store does not answer; to settle again completes the work.
        """
        now = self._clock.now()
        rows = latest_rows(self._offline, self._group, now)
        ids = dict.fromkeys(rows[ENTITY_ID])
        remover = Remover(self._online, self._group)
        return self._settle(now, rows, self._chained(ids, remover.entity_ids()))

    def entities(self, entity_ids: Sequence[str]) -> SettledEntities:
        """Settles some entities.

        Raises:
            OnlineStoreError: If the online store does not answer; to settle again completes the work.
        """
        now = self._clock.now()
        rows = latest_rows(self._offline, self._group, now, entity_ids)
        return self._settle(now, rows, iter(entity_ids))

    def left_behind(self) -> None:
        """Does online what writers that died have left undone.

        Raises:
            OnlineStoreError: If the online store does not answer; what is left is found again.
        """
        for unfinished in left_behind(self._offline.root, self._group.name):
            if unfinished.days:
                self.entities(self._entities_of(unfinished.days))
            else:
                self.all_entities()
            unfinished.done()

    def standing(self, entity_ids: Sequence[str], *, without: pl.DataFrame | None = None) -> pl.DataFrame:
        """Returns the row of each of some entities that the offline store says is visible now: the group's columns.

        Args:
            entity_ids: The entities.
            without: Join keys and event times of rows that do not count: they are about to go.
        """
        return latest_rows(self._offline, self._group, self._clock.now(), entity_ids, without=without).drop(ENTITY_ID)

    def ahead(self, now: datetime) -> pl.DataFrame:
        """Returns the rows whose time is still to come: the group's columns."""
        latest = min(now, datetime.max.replace(tzinfo=UTC) - MOST_AHEAD) + MOST_AHEAD
        rows = self._offline.scan(self._group, Window(now, latest)).collect()
        return rows.filter(pl.col(EVENT_TIMESTAMP) > now)

    def _settle(self, now: datetime, rows: pl.DataFrame, entity_ids: Iterator[str]) -> SettledEntities:
        state = self._online.ingestion.state(self._group.name)
        right = {
            entity_id: (event, ingested)
            for entity_id, event, ingested in rows.select(ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT).iter_rows()
        }
        remover = Remover(self._online, self._group)
        looked = removed = on_their_way = moved = 0
        while batch := list(islice(entity_ids, ENTITIES_PER_READ)):
            looked += len(batch)
            # Looked at before they are judged: what is written in between is another row, and stays.
            seen = remover.look(batch)
            wrong, waiting = self._wrong(seen, right, state, now)
            done = remover.remove(wrong)
            removed += done
            moved += len(wrong) - done
            on_their_way += waiting
        report = self._online.write(self._group, pl.concat([rows.drop(ENTITY_ID), self.ahead(now)]))
        return SettledEntities(looked, removed, on_their_way, moved, report)

    def _wrong(
        self,
        seen: dict[str, bytes],
        right: dict[str, tuple[datetime, datetime]],
        state: IngestionState,
        now: datetime,
    ) -> tuple[dict[str, bytes], int]:
        """Returns the rows that are to go, and how many of the others wait for the offline store."""
        visible = Visibility.of(self._group.features).window(now)
        wrong: dict[str, bytes] = {}
        waiting = 0
        for entity_id, times in Remover.times(self._group, seen).items():
            known = right.get(entity_id)
            event, ingested = times
            if known is None and event < visible.start:
                continue
            if known is not None and times <= known:
                continue
            if known is not None and event == known[0] and not state.is_undrained(ingested):
                # The same row, which a streamer has put back and stamped anew, or one that offline has yet to withdraw.
                wrong[entity_id] = seen[entity_id]
                continue
            if state.is_undrained(ingested):
                waiting += 1
                continue
            wrong[entity_id] = seen[entity_id]
        return wrong, waiting

    def _entities_of(self, days: Sequence[object]) -> list[str]:
        """Returns the entities with a row, present or former, on some days."""
        found = [pl.Series(ENTITY_ID, [], dtype=pl.String)]
        entity_id = entity_id_expression(self._group.entity)
        for day in days:
            window = day_window(day)  # type: ignore[arg-type]
            found.append(self._offline.scan(self._group, window).select(entity_id.unique()).collect().to_series())
            found.append(self._offline.superseded(self._group, window).select(entity_id.unique()).to_series())
        return pl.concat(found).unique().to_list()

    @staticmethod
    def _chained(known: dict[str, None], others: Iterable[str]) -> Iterator[str]:
        yield from known
        for entity_id in others:
            if entity_id not in known:
                known[entity_id] = None
                yield entity_id
