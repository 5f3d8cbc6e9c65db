"""Bringing a windowed group online: what the offline store holds of some entities becomes their tiles.

An entity's value is always made anew of events, never changed by arithmetic. Its version is read before the events are,
and it is set only if nobody has set it since: so whatever order writers come in, the last value is made of all that was
in the offline store when its writer began, and a writer that brought more comes after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import Clock, SystemClock, nearest_datetime, to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import WindowSpec, longest_reach
from feature_store.errors import OnlineStoreError
from feature_store.frames import entity_id_expression
from feature_store.offline.latest import rows_that_count
from feature_store.offline.store import OfflineStore
from feature_store.online.keys import KeySpace
from feature_store.online.window_values import VERSION, Replacement, WindowValues
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.windows.instants import events_of
from feature_store.windows.tile_building import EntityEvents, build_tiles
from feature_store.windows.tile_cuts import LAG_MICROS, TileSteps
from feature_store.windows.tile_schema import TileSchema

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

ENTITIES_AT_ONCE = 50_000
ATTEMPTS = 20
_NEVER = 0


class WindowDelivery:
    """Brings the tiles of one windowed group online.

    Args:
        group: The rows of the group.
        offline: Says what is right.
        online: Is written.
        clock: The store's present.
    """

    def __init__(self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock
        specs = [feature.window for feature in group.windows if feature.window is not None]
        self._specs: list[WindowSpec] = specs
        self._schema = TileSchema.of(specs)
        self._steps = TileSteps.of(spec.extent for spec in specs)
        self._dtypes = {name: dtype for spec in specs for name, dtype in spec.inputs.items()}

    def all_entities(self, retracted: pl.DataFrame | None) -> int:
        """Makes the value of each entity of either store anew; returns how many there are.

        Raises:
            OnlineStoreError: If the online store does not answer; to do it again completes the work.
            InvalidRowsError: If a decimal does not fit into 64 bits.
        """
        entity_id = entity_id_expression(self._group.entity)
        window = self._window(self._clock.now())
        known = self._offline.collect(self._group, lambda rows: rows.select(entity_id.unique()), window).to_series()
        looked = 0
        ids = self._chained(dict.fromkeys(known.to_list()), WindowValues(self._online, self._group).entity_ids())
        while batch := list(islice(ids, ENTITIES_AT_ONCE)):
            self.entities(batch, retracted)
            looked += len(batch)
        return looked

    def entities(self, entity_ids: Sequence[str], retracted: pl.DataFrame | None) -> None:
        """Makes the values of some entities anew.

        Args:
            entity_ids: The entities.
            retracted: Rows that streams have taken back and that the offline store still holds; see
                `Settler.retracted`.

        Raises:
            OnlineStoreError: If the online store does not answer, or others write the same entities all the time.
            InvalidRowsError: If a decimal does not fit into 64 bits.
        """
        values = WindowValues(self._online, self._group)
        self._publish()
        for start in range(0, len(entity_ids), ENTITIES_AT_ONCE):
            some = list(entity_ids[start : start + ENTITIES_AT_ONCE])
            for _ in range(ATTEMPTS):
                # Before the offline store is read: who sets a value after this has read it as late, or later.
                versions = [b"" if raw is None else raw[VERSION] for raw in values.fetch(some)]
                lost = values.replace(self._made(some, versions, retracted))
                some = [some[place] for place in lost]
                if not some:
                    break
            else:
                raise OnlineStoreError(
                    f"{len(some):,} entities of feature group {self._group.name!r} are written by others all the time, "
                    f"for example {some[0]!r}: write again."
                )

    def deliver(self, rows: pl.DataFrame, gone: pl.DataFrame, retracted: pl.DataFrame | None) -> WriteReport:
        """Brings the entities online whose rows have changed in the offline store, or are gone.

        Args:
            rows: Rows that are new or differ, as they are stored.
            gone: Join keys and times of rows that are gone.
            retracted: As in `entities`.

        Raises:
            OnlineStoreError: As in `entities`.
            InvalidRowsError: If a decimal does not fit into 64 bits.
        """
        entity_id = entity_id_expression(self._group.entity)
        touched = pl.concat([rows.select(entity_id), gone.select(entity_id)])[ENTITY_ID].unique(maintain_order=True)
        self.entities(touched.to_list(), retracted)
        return self.report(rows)

    def report(self, rows: pl.DataFrame) -> WriteReport:
        """Returns what became of rows that were brought online."""
        now = self._clock.now()
        times = rows[EVENT_TIMESTAMP].to_physical()
        ahead = int((times > to_micros(now)).sum())
        expired = int((times <= to_micros(now) - longest_reach(self._specs)).sum())
        return WriteReport(rows=rows.height, written=rows.height - ahead - expired, expired=expired, pending=ahead)

    def _window(self, now: datetime) -> Window:
        first = to_micros(now) - longest_reach(self._specs) - LAG_MICROS
        return Window(nearest_datetime(first), datetime.max.replace(tzinfo=UTC))

    def _made(
        self, entity_ids: Sequence[str], versions: Sequence[bytes], retracted: pl.DataFrame | None
    ) -> list[Replacement]:
        now = self._clock.now()
        entity_id = entity_id_expression(self._group.entity)

        def counting(rows: pl.LazyFrame) -> pl.LazyFrame:
            own = rows_that_count(rows.with_columns(entity_id), entity_ids, retracted)
            ordered = own.sort(EVENT_TIMESTAMP, INGESTED_AT, maintain_order=True)
            return ordered.unique([ENTITY_ID, EVENT_TIMESTAMP], keep="last", maintain_order=True)

        rows = self._offline.collect(self._group, counting, self._window(now))
        events = events_of(rows, self._dtypes)
        codes = pl.DataFrame({ENTITY_ID: entity_ids, "_code": np.arange(len(entity_ids), dtype=np.int64)})
        events = events.join(codes, on=ENTITY_ID, how="left").sort("_code", EVENT_TIMESTAMP)
        built = build_tiles(
            self._schema,
            self._steps,
            self._dtypes,
            EntityEvents(
                events["_code"].to_numpy(),
                events[EVENT_TIMESTAMP].to_physical().to_numpy(),
                events[INGESTED_AT].to_physical().to_numpy(),
                {name: events[name] for name in self._schema.columns},
            ),
            len(entity_ids),
            to_micros(now),
        )
        tokens = os.urandom(8 * len(entity_ids))
        replacements = []
        for place, (name, version, value, last) in enumerate(
            zip(entity_ids, versions, built.values, built.last_events, strict=True)
        ):
            token = tokens[8 * place : 8 * place + 8]
            stamped = value and value[: VERSION.start] + token + value[VERSION.stop :]
            replacements.append(Replacement(name, version, self._expiry(last), stamped))
        return replacements

    def _expiry(self, last: int) -> int:
        reach = longest_reach(self._specs)
        if any(spec.length is None for spec in self._specs):
            return _NEVER
        end = last + reach + LAG_MICROS
        # Under a clock that stands in another time, the server must not drop what that clock still sees.
        if not self._clock.is_live and end <= to_micros(SystemClock().now()):
            return _NEVER
        return -(-end // 1000)

    def _publish(self) -> None:
        # Before the values: who meets their fingerprint must find what it stands for.
        key = KeySpace.schema(self._group.name, self._schema.fingerprint)
        self._online._client().put(key, self._schema.text)  # noqa: SLF001

    @staticmethod
    def _chained(known: dict[str, None], others: Iterator[str]) -> Iterator[str]:
        yield from list(known)
        for entity_id in others:
            if entity_id not in known:
                known[entity_id] = None
                yield entity_id
