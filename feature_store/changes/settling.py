"""Settling: entities get online what the offline store says of them now, by whatever way they came apart.

Nothing is computed here. Rows that are on their way to the offline store, from streams, are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.changes.window_delivery import WindowDelivery, chained
from feature_store.clock import Clock
from feature_store.day_windows import day_window
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import OnlineStoreError
from feature_store.frames import TIMESTAMP_TYPE, entity_id_expression
from feature_store.offline.latest import latest_rows, rows_that_count
from feature_store.offline.store import OfflineStore
from feature_store.offline.superseded import SUPERSEDED_AT
from feature_store.offline.unfinished import left_behind
from feature_store.online.pending import RECENT
from feature_store.online.repair import Remover
from feature_store.online.stamps import to_datetime
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    from feature_store.online.ingestion_clock import IngestionState
    from feature_store.online.store import OnlineStore

_LOG = logging.getLogger(__name__)

ENTITIES_PER_READ = 1000


@dataclass(frozen=True, slots=True)
class SettlingReport:
    """What settling did.

    Attributes:
        group: The group.
        entities: Entities that were looked at.
        removed: Rows removed from the online store: the offline store has none, or an older one.
        in_flight: Rows left alone because they are on their way to the offline store: a stream is not drained.
        moved_on: Rows left alone because somebody wrote them meanwhile.
        written: What became of the offline store's rows that were written.
    """

    group: str
    entities: int
    removed: int
    in_flight: int
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

    def __init__(self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock
        self.windows: WindowDelivery | None = None
        if group.online_layout == "window":
            self.windows = WindowDelivery(group, offline, online, clock, self)

    def all_entities(self) -> SettlingReport:
        """Settles all entities of either store. All keys of the servers are looked through, without blocking them.

        Raises:
            OnlineStoreError: If the online store does not answer; to settle again completes the work.
        """
        if self.windows is not None:
            return self._rebuilt(self.windows, None)
        now = self._clock.now()
        rows = self.near_rows(now)
        remover = Remover(self._online, self._group)
        known = dict.fromkeys(rows[ENTITY_ID].unique(maintain_order=True))
        state = self._online.ingestion.state(self._group.name)
        return self._settle(now, rows, chained(known, remover.entity_ids()), remover, state)

    def entities(self, entity_ids: Sequence[str], *, drained: datetime | None = None) -> SettlingReport:
        """Settles some entities, also for readers whose clocks stand a little behind.

        Args:
            entity_ids: The entities.
            drained: Up to when all rows of streams are in the offline store, where it is not noted yet.

        Raises:
            OnlineStoreError: If the online store does not answer; to settle again completes the work.
        """
        if self.windows is not None:
            return self._rebuilt(self.windows, entity_ids)
        now = self._clock.now()
        rows = self.near_rows(now, entity_ids)
        remover = Remover(self._online, self._group)
        state = self._online.ingestion.state(self._group.name)
        if drained is not None:
            state = replace(state, drained=drained)
        remover.forget_nearby(entity_ids, state.is_undrained)
        return self._settle(now, rows, iter(entity_ids), remover, state, frozenset(entity_ids))

    def left_behind(self) -> None:
        """Does online what writers that died have left undone.

        Raises:
            OnlineStoreError: If the online store does not answer; what is left is found again.
        """
        marks = left_behind(self._offline.root, self._group.name)
        state = self._online.ingestion.state(self._group.name) if marks else None
        if state is not None and state.streamed and state.last is not None:
            # They may have withdrawn rows that streams had given anew: the next drain looks at those.
            self._online.ingestion.withdrawn(self._group.name, state.last)
        for unfinished in marks:
            if unfinished.days:
                self.entities(self._entities_of(unfinished.days))
            else:
                self.all_entities()
            self.note_delivery(unfinished.began, everything=not unfinished.days)
            unfinished.done()

    def note_delivery(self, began: datetime, *, everything: bool = False) -> None:
        """Says that what a write has changed is online now; see `online.deliveries`."""
        try:
            self._online.deliveries.add(self._group.name, began, self._clock.now(), everything=everything)
        except OnlineStoreError as error:
            _LOG.warning("It is not noted how long a write of %s took: %s", self._group.name, error)

    def near_rows(self, now: datetime, entity_ids: Sequence[str] | None = None) -> pl.DataFrame:
        """Returns the rows of entities that the offline store says are seen around an instant.

        These are each entity's newest row of a while before, and all after it, those ahead of the clock among them:
        what readers see whose clocks stand a little behind, and what is seen when its time comes. Rows that a stream
        has taken back do not count, drained or not.

        Args:
            now: The instant.
            entity_ids: The entities; None for all.

        Returns:
            The group's columns and `entity_id`, in order of event time.
        """
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        recent = max(now, first + RECENT) - RECENT
        retracted = self.retracted()
        settled = latest_rows(self._offline, self._group, recent, entity_ids, without=retracted)
        # No end: the clock of the machine that wrote a row may stand before this one.
        entity_id = entity_id_expression(self._group.entity)

        def young(rows: pl.LazyFrame) -> pl.LazyFrame:
            later = rows.filter(pl.col(EVENT_TIMESTAMP) > recent).with_columns(entity_id)
            ordered = rows_that_count(later, entity_ids, retracted).sort(
                EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True
            )
            return ordered.unique([ENTITY_ID, EVENT_TIMESTAMP], keep="last", maintain_order=True)

        newest = self._offline.collect(self._group, young, Window(recent, last))
        return pl.concat([settled, newest.select(settled.columns)])

    def without_withdrawn(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns rows that a stream knows without those that others have withdrawn.

        These are rows that the offline store has held, and holds no more. What a stream itself has taken back ends at
        one of its own times: given anew since, it stands.
        """
        if rows.is_empty():
            return rows
        identity = [*self._group.entity.join_keys, EVENT_TIMESTAMP]
        times = rows[EVENT_TIMESTAMP]
        window = Window(times.min(), times.max() + timedelta(microseconds=1))  # type: ignore[arg-type, operator]
        ends = self._offline.superseded(self._group, window).group_by(identity).agg(pl.col(SUPERSEDED_AT).max())
        # Streamers have odd times; see `IngestionClock.claim`.
        former = ends.filter(pl.col(SUPERSEDED_AT).to_physical() % 2 == 0).select(identity)
        if former.is_empty():
            return rows
        held = self._offline.collect(self._group, lambda rows: rows.select(identity), window)
        gone = former.join(held, on=identity, how="anti")
        return rows.join(gone, on=identity, how="anti", maintain_order="left")

    def retracted(self) -> pl.DataFrame | None:
        """Returns `entity_id`, `event_timestamp` and `ingested_at` (until when) of undrained retractions, if any."""
        retractions = self._online.retractions.undrained(self._group.name)
        if not retractions:
            return None
        ids, events, until = zip(*retractions, strict=True)
        return pl.DataFrame(
            {
                ENTITY_ID: pl.Series(ids, dtype=pl.String),
                EVENT_TIMESTAMP: pl.Series(events, dtype=pl.Int64).cast(TIMESTAMP_TYPE),
                INGESTED_AT: pl.Series(until, dtype=pl.Int64).cast(TIMESTAMP_TYPE),
            }
        )

    def _rebuilt(self, windows: WindowDelivery, entity_ids: Sequence[str] | None) -> SettlingReport:
        if entity_ids is None:
            looked = windows.all_entities()
        else:
            looked = len(entity_ids)
            windows.entities(entity_ids)
        return SettlingReport(self._group.name, looked, 0, 0, 0, WriteReport())

    def _settle(
        self,
        now: datetime,
        rows: pl.DataFrame,
        entity_ids: Iterator[str],
        remover: Remover,
        state: IngestionState,
        only: frozenset[str] | None = None,
    ) -> SettlingReport:
        # Those of the offline store are written below; those of streams may be in no other place yet.
        self._online.pending.forget(
            self._group,
            lambda row: (only is None or row.entity_id in only) and not state.is_undrained(to_datetime(row.ingested)),
        )
        known = rows.select(ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT).iter_rows()
        right: dict[str, list[tuple[datetime, datetime]]] = {}
        for entity_id, event, ingested in known:
            right.setdefault(entity_id, []).append((event, ingested))
        looked = removed = in_flight = moved = 0
        while batch := list(islice(entity_ids, ENTITIES_PER_READ)):
            looked += len(batch)
            # Looked at before they are judged: what is written in between is another row, and stays.
            seen = remover.look(batch)
            wrong, waiting = self._wrong(seen, right, state, now)
            done = remover.remove(wrong)
            removed += done
            moved += len(wrong) - done
            in_flight += waiting
        report = self._online.write(self._group, rows.drop(ENTITY_ID))
        return SettlingReport(self._group.name, looked, removed, in_flight, moved, report)

    def _wrong(
        self,
        seen: dict[str, bytes],
        right: dict[str, list[tuple[datetime, datetime]]],
        state: IngestionState,
        now: datetime,
    ) -> tuple[dict[str, bytes], int]:
        """Returns the rows that are to go, and how many of the others wait for the offline store.

        A row goes if the offline store does not have it and newest wins would keep it.
        """
        visible = Visibility.of(self._group.features).window(now)
        wrong: dict[str, bytes] = {}
        waiting = 0
        for entity_id, times in Remover.times(self._group, seen).items():
            rows = right.get(entity_id, [])
            standing = max((row for row in rows if row[0] <= now), default=None)
            # A row of the offline store, in this version or an earlier one, or an older row: newest wins mends it.
            is_known = any(event == times[0] and times[1] <= ingested for event, ingested in rows)
            if is_known or (standing is not None and times < standing):
                continue
            if standing is None and times[0] < visible.start:
                continue
            if state.is_undrained(times[1]):
                waiting += 1
            else:
                wrong[entity_id] = seen[entity_id]
        return wrong, waiting

    def _entities_of(self, days: Sequence[object]) -> list[str]:
        """Returns the entities with a row, present or former, on some days."""
        found = [pl.Series(ENTITY_ID, [], dtype=pl.String)]
        entity_id = entity_id_expression(self._group.entity)
        for day in days:
            window = day_window(day)  # type: ignore[arg-type]
            held = self._offline.collect(self._group, lambda rows: rows.select(entity_id.unique()), window)
            found.append(held.to_series())
            found.append(self._offline.superseded(self._group, window).select(entity_id.unique()).to_series())
        return pl.concat(found).unique().to_list()
