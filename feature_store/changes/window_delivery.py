"""Bringing a windowed group online: the events of entities become their tiles.

Events that are later than all in the tiles of an entity join them. For all else, late events, rows that changed or are
gone, entities without a value, the value is made anew of the entity's events, those of the offline store and of streams
that are not drained; nothing is ever taken out of a sum.

The version of a value is read before the events are, and it is set only if nobody has set it since. So whatever order
writers come in, the last value is made of all that was in the offline store when its writer began, and a writer that
brought more comes after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import Clock, SystemClock, nearest_datetime, to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import longest_reach
from feature_store.errors import OnlineStoreError, WindowOverflowError
from feature_store.frames import entity_id_expression
from feature_store.offline.latest import rows_that_count
from feature_store.offline.store import OfflineStore
from feature_store.online.undrained import Undrained
from feature_store.online.window_values import VERSION, Replacement, WindowValues
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.windows.instants import events_of
from feature_store.windows.tile_building import TileBuilder
from feature_store.windows.tile_cuts import LAG_MICROS, TileSteps
from feature_store.windows.tile_format import header_of
from feature_store.windows.tile_parts import EntityEvents
from feature_store.windows.tile_schema import TileSchema

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

ENTITIES_AT_ONCE = 50_000
ATTEMPTS = 20
_NEVER = 0


class TakenBack(Protocol):
    """What the write path knows of rows that count no more."""

    def retracted(self) -> pl.DataFrame | None:
        """Returns `entity_id`, `event_timestamp` and `ingested_at` (until when) of undrained retractions, if any."""
        ...

    def without_withdrawn(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns rows that a stream knows without those that others have withdrawn."""
        ...


class WindowDelivery:
    """Brings the tiles of one windowed group online.

    Args:
        group: The rows of the group.
        offline: Says what is right.
        online: Is written.
        clock: The store's present.
        taken_back: Tells which rows count no more.
    """

    def __init__(
        self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock, taken_back: TakenBack
    ) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock
        self._taken_back = taken_back
        self._entity_id = entity_id_expression(group.entity)
        self._specs = [feature.window for feature in group.windows if feature.window is not None]
        self._schema = TileSchema.of(self._specs)
        self._dtypes = {name: dtype for spec in self._specs for name, dtype in spec.inputs.items()}
        self._builder = TileBuilder(self._schema, TileSteps.of(spec.extent for spec in self._specs), self._dtypes)

    def deliver(self, rows: pl.DataFrame, gone: pl.DataFrame) -> tuple[WriteReport, int]:
        """Brings the entities online whose rows have changed in the offline store, or are gone.

        Args:
            rows: Rows that are new or differ, as they are stored.
            gone: Join keys and times of rows that are gone.

        Raises:
            OnlineStoreError: If the online store does not answer, or others write the same entities all the time.
            WindowOverflowError: If values do not fit into 64 bits.
        """
        rows = rows.with_columns(self._entity_id)
        lost = set(gone.select(self._entity_id.unique())[ENTITY_ID].to_list())
        ids = rows[ENTITY_ID].unique(maintain_order=True).to_list()
        later = [entity_id for entity_id in ids if entity_id not in lost]
        for start in range(0, len(later), ENTITIES_AT_ONCE):
            some = later[start : start + ENTITIES_AT_ONCE]
            own = rows if len(some) == len(ids) else rows.filter(pl.col(ENTITY_ID).is_in(some))
            lost |= set(self._joined(own, some))
        self.entities(sorted(lost))
        return self._report(rows), gone.height

    def deliver_streamed(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Does what `deliver` does for rows of a stream, which are not in the offline store yet."""
        del standing
        if rows.height:
            drained = self._online.ingestion.state(self._group.name).drained
            last = int(rows[EVENT_TIMESTAMP].to_physical().max())  # type: ignore[arg-type] # not empty
            Undrained(self._online, self._group).add(rows, drained, self._expiry(max(last, self._now())))
        self.deliver(rows, retracted)

    def all_entities(self) -> int:
        """Makes the value of each entity of either store anew; returns how many there are.

        Raises:
            OnlineStoreError: If the online store does not answer; to do it again completes the work.
            WindowOverflowError: If values do not fit into 64 bits.
        """
        known = self._offline.collect(
            self._group, lambda rows: rows.select(self._entity_id.unique()), self._window()
        ).to_series()
        looked = 0
        ids = chained(dict.fromkeys(known.to_list()), WindowValues(self._online, self._group).entity_ids())
        while batch := list(islice(ids, ENTITIES_AT_ONCE)):
            self.entities(batch)
            looked += len(batch)
        return looked

    def entities(self, entity_ids: Sequence[str]) -> None:
        """Makes the values of some entities anew.

        Raises:
            OnlineStoreError: If the online store does not answer, or others write the same entities all the time.
            WindowOverflowError: If values do not fit into 64 bits.
        """
        if not entity_ids:
            return
        values = WindowValues(self._online, self._group)
        self._online.put_schema(self._group.name, self._schema.fingerprint, self._schema.text)
        for start in range(0, len(entity_ids), ENTITIES_AT_ONCE):
            some = list(entity_ids[start : start + ENTITIES_AT_ONCE])
            for _ in range(ATTEMPTS):
                # Before the offline store is read: who sets a value after this has read it as late, or later.
                versions = [b"" if raw is None else raw[VERSION] for raw in values.fetch(some)]
                lost = values.replace(self._replacements(some, versions, self._rows_of(some), None))
                some = [some[place] for place in lost]
                if not some:
                    break
            else:
                raise OnlineStoreError(
                    f"{len(some):,} entities of feature group {self._group.name!r} are written by others all the time, "
                    f"for example {some[0]!r}: write again."
                )

    def _joined(self, rows: pl.DataFrame, entity_ids: list[str]) -> list[str]:
        """Joins rows to the values of their entities, and returns the entities for which that cannot be."""
        values = WindowValues(self._online, self._group)
        raws = values.fetch(entity_ids)
        first = dict(rows.group_by(ENTITY_ID).agg(pl.col(EVENT_TIMESTAMP).to_physical().min()).iter_rows())
        now = self._now()
        joining: list[str] = []
        others: list[str] = []
        for entity_id, raw in zip(entity_ids, raws, strict=True):
            is_later = raw is not None and self._is_later(raw, first[entity_id], now)
            (joining if is_later else others).append(entity_id)
        if not joining:
            return others
        kept = set(joining)
        standing = [raw for entity_id, raw in zip(entity_ids, raws, strict=True) if entity_id in kept]
        if others:
            rows = rows.filter(pl.col(ENTITY_ID).is_in(joining))
        versions = [raw[VERSION] for raw in standing if raw is not None]
        lost = values.replace(self._replacements(joining, versions, rows, standing))
        return [*others, *(joining[place] for place in lost)]

    def _is_later(self, raw: bytes, first: int, now: int) -> bool:
        """Tells whether an event is later than all in the tiles of a value, and these not of a clock far ahead."""
        try:
            header = header_of(raw)
        except ValueError:
            return False
        if header.fingerprint != self._schema.fingerprint or header.written > now + LAG_MICROS:
            return False
        return not header.tiles or header.event < first

    def _report(self, rows: pl.DataFrame) -> WriteReport:
        now = self._now()
        times = rows[EVENT_TIMESTAMP].to_physical()
        ahead = int((times > now).sum())
        expired = int((times <= now - longest_reach(self._specs)).sum())
        return WriteReport(rows=rows.height, written=rows.height - ahead - expired, expired=expired, pending=ahead)

    def _now(self) -> int:
        return to_micros(self._clock.now())

    def _window(self) -> Window:
        first = self._now() - longest_reach(self._specs) - LAG_MICROS
        return Window(nearest_datetime(first), datetime.max.replace(tzinfo=UTC))

    def _rows_of(self, entity_ids: Sequence[str]) -> pl.DataFrame:
        """Returns all rows of some entities that count: of each instant the version that was ingested last."""
        state = self._online.ingestion.state(self._group.name)
        retracted = self._taken_back.retracted() if state.streamed else None
        rows = self._offline.collect(
            self._group,
            lambda rows: rows_that_count(rows.with_columns(self._entity_id), entity_ids, retracted),
            self._window(),
        )
        if state.streamed:
            undrained = Undrained(self._online, self._group).of(entity_ids, state.drained)
            if undrained.height:
                known = self._taken_back.without_withdrawn(undrained).lazy().with_columns(self._entity_id)
                rows = pl.concat([rows, rows_that_count(known, None, retracted).collect().select(rows.columns)])
        return rows

    def _replacements(
        self,
        entity_ids: Sequence[str],
        versions: Sequence[bytes],
        rows: pl.DataFrame,
        standing: Sequence[bytes | None] | None,
    ) -> list[Replacement]:
        rows = rows.sort(EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True)
        rows = rows.unique([ENTITY_ID, EVENT_TIMESTAMP], keep="last", maintain_order=True)
        codes = pl.DataFrame({ENTITY_ID: entity_ids, "_code": np.arange(len(entity_ids), dtype=np.int64)})
        events = events_of(rows, self._dtypes).join(codes, on=ENTITY_ID, how="left").sort("_code", EVENT_TIMESTAMP)
        try:
            built = self._builder.build(
                EntityEvents(
                    events["_code"].to_numpy(),
                    events[EVENT_TIMESTAMP].to_physical().to_numpy(),
                    events[INGESTED_AT].to_physical().to_numpy(),
                    {name: events[name] for name in self._schema.columns},
                ),
                len(entity_ids),
                self._now(),
                entity_ids,
                standing,
            )
        except WindowOverflowError as error:
            raise WindowOverflowError(self._group.name, error.failures, error.remedy) from None
        tokens = os.urandom(8 * len(entity_ids))
        replacements = []
        each = zip(entity_ids, versions, built.values, built.last_events, strict=True)
        for place, (name, version, value, last) in enumerate(each):
            token = tokens[8 * place : 8 * place + 8]
            stamped = value and value[: VERSION.start] + token + value[VERSION.stop :]
            replacements.append(Replacement(name, version, self._expiry(last), stamped))
        return replacements

    def _expiry(self, last: int) -> int:
        """Returns when a key goes whose last event was then (microseconds since 1970), in milliseconds; 0 for never."""
        if any(spec.length is None for spec in self._specs):
            return _NEVER
        end = last + longest_reach(self._specs) + LAG_MICROS
        # Under a clock that stands in another time, the server must not drop what that clock still sees.
        if not self._clock.is_live and end <= to_micros(SystemClock().now()):
            return _NEVER
        return -(-end // 1000)


def chained(known: dict[str, None], others: Iterable[str]) -> Iterator[str]:
    """Yields entities that are known, then others that are not."""
    yield from list(known)
    for entity_id in others:
        if entity_id not in known:
            known[entity_id] = None
            yield entity_id
