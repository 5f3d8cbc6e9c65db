"""Reading values: keys of many entities and groups in one round trip, decoded by the visibility rule.

The same for every layout, and free of Polars and SQLAlchemy: a model server imports this in a blink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from feature_store.catalog import Catalog, Selection
from feature_store.clock import Clock, to_micros
from feature_store.definitions.names import ENTITY_ID
from feature_store.errors import InvalidRequestError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import FoldsMany, GroupRead, RowAheadError, Status
from feature_store.online.layouts import layout_of
from feature_store.online.schemas import Schemas, UnknownSchemaError
from feature_store.online.stamps import to_datetime

if TYPE_CHECKING:
    import polars as pl

    from feature_store.online.async_client import AsyncClient
    from feature_store.online.client import Client
    from feature_store.online.pending import Pending

Form = Literal["values", "rows", "states", "frame"]
"""What an answer is made of: values by label, lists of values in the order of the labels, `FeatureState`s by label, or
columns."""

Replies = list["bytes | None"]


@dataclass(frozen=True, slots=True)
class FeatureState:
    """What the online store knows of one feature of one entity.

    Attributes:
        value: The visible value; unless the status is `present`, the feature's default, or None where it has none.
        status: `present`; `null` (known to be null); `missing` (never written, or in a row that the store's
            present has not reached); `expired` (its time to live is over).
        event_timestamp: When the stored row became knowable (aware UTC), None where there is none.
        ingested_at: When the stored row was written to the store (aware UTC), likewise.
    """

    value: Any
    status: Status
    event_timestamp: datetime | None
    ingested_at: datetime | None


class _Part(NamedTuple):
    """One group of a request, and what the caller calls its features."""

    reading: GroupRead
    labels: list[str]


class _Ahead(NamedTuple):
    """One entity's row of one group that a reader's clock has not reached, and where its replies begin."""

    reading: GroupRead
    entity_id: str
    start: int
    key: str


@dataclass(frozen=True, slots=True)
class Connections:
    """What all reads of one online store share.

    Attributes:
        client: Gives the synchronous connections.
        async_client: Gives the running event loop's connections.
        keys: How keys are spelled.
        clock: Tells the present that the visibility rule is applied at.
        schemas: Schemas of rows that were written by other definitions than the catalog's.
        pending: Rows whose time may have come.
    """

    client: Callable[[], Client]
    async_client: Callable[[], AsyncClient]
    keys: KeySpace
    clock: Clock
    schemas: Schemas
    pending: Pending


class PreparedRead:
    """How to answer a request for some features, worked out once: model servers ask for the same again and again.

    Threads and event loops may share it. Every answer has one element per entity id, in order.

    Args:
        connections: What all reads share.
        selections: What is asked for.
        catalog: What it was selected from.

    Every method raises `InvalidRequestError` if an entity id is not text, or is no id of the features' entity, and
    `OnlineStoreError` if the server does not answer, or refuses; there are no partial answers.
    """

    def __init__(self, connections: Connections, selections: Sequence[Selection], catalog: Catalog) -> None:
        self._client = connections.client
        self._async_client = connections.async_client
        self._keys = connections.keys
        self._clock = connections.clock
        self._schemas = connections.schemas
        self._labels = [selection.label for selection in selections]
        by_group: dict[str, list[Selection]] = {}
        for selection in selections:
            by_group.setdefault(selection.feature.group, []).append(selection)
        self._parts = []
        self._pending = connections.pending
        groups = [catalog.group(name) for name in by_group]
        # Events of windowed groups that lie ahead of the clock are in their values.
        self._groups = [group for group in groups if group.online_layout != "window"]
        for group, members in zip(groups, by_group.values(), strict=True):
            features = [member.feature for member in members]
            reading = layout_of(group).reading(self._keys, group, features, self._schemas)
            self._parts.append(_Part(reading, [member.label for member in members]))
        self._only = self._parts[0].reading if len(self._parts) == 1 else None
        only: object = self._only
        self._many = only.many if isinstance(only, FoldsMany) else None
        self._width = sum(part.reading.width for part in self._parts)
        entities = {catalog.groups[name].entity.name: catalog.groups[name].entity for name in by_group}
        # Any text is the id of an entity with a single key of text; others are looked at one by one.
        self._picky = [e for e in entities.values() if list(e.join_keys.values()) != [str]]

    def values(self, entity_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the visible values by label, None for what is null, missing or expired."""
        answer: list[dict[str, Any]] = self.read("values", entity_ids)
        return answer

    def states(self, entity_ids: Sequence[str]) -> list[dict[str, FeatureState]]:
        """Returns values with the reason for each, and the row's times, by label."""
        answer: list[dict[str, FeatureState]] = self.read("states", entity_ids)
        return answer

    def fetch(self, units: Sequence[list[str]]) -> Replies:
        """Returns the values of the keys in units, of this read or of several, in one round trip."""
        return self._client().fetch(units) if units else []

    async def afetch(self, units: Sequence[list[str]]) -> Replies:
        """Does what `fetch` does, without blocking the event loop."""
        return await self._async_client().fetch(units) if units else []

    def look(self) -> None:
        """Writes rows of the groups whose time has come, if nobody has looked for a second."""
        self._pending.look(self._groups)

    async def alook(self) -> None:
        """Does what `look` does, without blocking the event loop."""
        if self._pending.is_due(self._groups):
            import asyncio

            await asyncio.to_thread(self.look)

    def read(self, form: Form, entity_ids: Sequence[str]) -> Any:
        """Returns the answer in a form: a dict per entity id by label, or a frame of `entity_id` and the labels."""
        if self._pending.is_due(self._groups):
            self._pending.look(self._groups)
        units = self.units(entity_ids)
        replies = self._client().fetch(units) if units else []
        while True:
            try:
                return self.decode(form, entity_ids, replies)
            except UnknownSchemaError as unknown:
                [text] = self.fetch([[self._keys.schema(unknown.group, unknown.fingerprint)]])
                self._schemas.learn(unknown, text)
            except RowAheadError:
                now = self._now()
                ahead = self._ahead(entity_ids, replies, now)
                self._step_back(replies, ahead, self.fetch([[each.key] for each in ahead]), now)

    async def aread(self, form: Form, entity_ids: Sequence[str]) -> Any:
        """Does what `read` does, without blocking the event loop."""
        if self._pending.is_due(self._groups):
            await self.alook()
        units = self.units(entity_ids)
        replies = await self._async_client().fetch(units) if units else []
        while True:
            try:
                return self.decode(form, entity_ids, replies)
            except UnknownSchemaError as unknown:
                [text] = await self.afetch([[self._keys.schema(unknown.group, unknown.fingerprint)]])
                self._schemas.learn(unknown, text)
            except RowAheadError:
                now = self._now()
                ahead = self._ahead(entity_ids, replies, now)
                self._step_back(replies, ahead, await self.afetch([[each.key] for each in ahead]), now)

    def decode(self, form: Form, entity_ids: Sequence[str], replies: Replies) -> Any:
        """Returns the answer in a form, of the values of all keys.

        Raises:
            UnknownSchemaError: If a row's schema must be looked up first.
            RowAheadError: If a row lies ahead of the clock, and the one before it must be looked up.
        """
        if form == "values":
            return self._decode_values(entity_ids, replies)
        if form == "rows":
            return self._decode_rows(entity_ids, replies)
        return self._decode_states(entity_ids, replies) if form == "states" else self._decode_frame(entity_ids, replies)

    def _ahead(self, entity_ids: Sequence[str], replies: Replies, now: int) -> list[_Ahead]:
        """Returns the rows that lie ahead of this reader's clock."""
        found = []
        start = 0
        for entity_id in entity_ids:
            for reading, _ in self._parts:
                end = start + reading.width
                if reading.is_ahead(replies[start:end], now):
                    found.append(_Ahead(reading, entity_id, start, reading.nearby_key(entity_id)))
                start = end
        return found

    def _step_back(self, replies: Replies, ahead: Sequence[_Ahead], nearby: Replies, now: int) -> None:
        """Puts the rows before them in the places of rows that lie ahead."""
        for each, raw in zip(ahead, nearby, strict=True):
            reading = each.reading
            replies[each.start : each.start + reading.width] = reading.nearby(each.entity_id, raw, now)

    def units(self, entity_ids: Sequence[str]) -> list[list[str]]:
        """Returns the keys to fetch: one list per entity and group, each to be read at one instant."""
        if isinstance(entity_ids, str):
            raise InvalidRequestError(f"Entity ids are a list, got the text {entity_ids!r}: write [{entity_ids!r}].")
        for entity_id in entity_ids:
            if not isinstance(entity_id, str):
                raise InvalidRequestError(
                    f"Entity ids are text, got {entity_id!r}: use str(...), or Entity.entity_id(...)."
                )
            if not entity_id.isascii():
                _check_unicode(entity_id)
        for entity in self._picky:
            for entity_id in entity_ids:
                entity.keys_of(entity_id)
        self._keys.check(entity_ids)
        if self._only is not None:
            return [self._only.keys(entity_id) for entity_id in entity_ids]
        return [part.reading.keys(entity_id) for entity_id in entity_ids for part in self._parts]

    def _now(self) -> int:
        # Taken after the answer: whatever a writer's clock let in before it, this one has reached as well.
        return to_micros(self._clock.now())

    def _decode_values(self, entity_ids: Sequence[str], replies: Replies) -> list[dict[str, Any]]:
        now = self._now()
        labels, width = self._labels, self._width
        only = self._only
        if self._many is not None and len(entity_ids) > 1:
            return [dict(zip(labels, row, strict=True)) for row in self._many(entity_ids, replies, now)]
        if only is not None and width == 1:
            return [
                dict(zip(labels, only.values(entity_id, (raw,), now), strict=True))
                for entity_id, raw in zip(entity_ids, replies, strict=True)
            ]
        if only is not None:
            return [
                dict(zip(labels, only.values(entity_id, replies[start : start + width], now), strict=True))
                for entity_id, start in zip(entity_ids, range(0, len(replies), width), strict=True)
            ]
        answers = []
        start = 0
        for entity_id in entity_ids:
            answer = dict.fromkeys(labels)
            for reading, of_group in self._parts:
                end = start + reading.width
                answer.update(zip(of_group, reading.values(entity_id, replies[start:end], now), strict=True))
                start = end
            answers.append(answer)
        return answers

    def _decode_rows(self, entity_ids: Sequence[str], replies: Replies) -> list[list[Any]]:
        only, width = self._only, self._width
        if only is None:
            return [list(answer.values()) for answer in self._decode_values(entity_ids, replies)]
        now = self._now()
        if self._many is not None and len(entity_ids) > 1:
            return [list(row) for row in self._many(entity_ids, replies, now)]
        if width == 1:
            return [
                list(only.values(entity_id, (raw,), now)) for entity_id, raw in zip(entity_ids, replies, strict=True)
            ]
        return [
            list(only.values(entity_id, replies[start : start + width], now))
            for entity_id, start in zip(entity_ids, range(0, len(replies), width), strict=True)
        ]

    def _decode_states(self, entity_ids: Sequence[str], replies: Replies) -> list[dict[str, FeatureState]]:
        now = self._now()
        answers = []
        start = 0
        for entity_id in entity_ids:
            states: dict[str, FeatureState] = {}
            for reading, labels in self._parts:
                end = start + reading.width
                row = reading.row(entity_id, replies[start:end], now)
                start = end
                event = None if row.event is None else to_datetime(row.event)
                ingested = None if row.ingested is None else to_datetime(row.ingested)
                for label, value, status in zip(labels, row.values, row.statuses, strict=True):
                    states[label] = FeatureState(value, status, event, ingested)
            answers.append({label: states[label] for label in self._labels})
        return answers

    def _decode_frame(self, entity_ids: Sequence[str], replies: Replies) -> pl.DataFrame:
        import polars as pl

        now = self._now()
        columns: dict[str, pl.Series] = {}
        offset = 0
        for reading, labels in self._parts:
            if len(self._parts) == 1:
                of_group = replies
            else:
                starts = range(offset, len(replies), self._width)
                of_group = [value for start in starts for value in replies[start : start + reading.width]]
            offset += reading.width
            columns.update(zip(labels, reading.columns(entity_ids, of_group, now), strict=True))
        ids = pl.Series(ENTITY_ID, entity_ids, dtype=pl.String)
        return pl.DataFrame([ids, *(columns[label].alias(label) for label in self._labels)])


def _check_unicode(entity_id: str) -> None:
    """Refuses what cannot be sent before it is: the reads that share a round trip would fail with it."""
    try:
        entity_id.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"Entity id {entity_id!r} is not valid Unicode and cannot be part of a key: remove the lone surrogate."
        ) from None
