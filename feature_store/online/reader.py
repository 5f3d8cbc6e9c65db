"""Reading values: keys of many entities and groups in one round trip, decoded by the visibility rule.

The same for every layout, and free of Polars and SQLAlchemy: a model server imports this in a blink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Catalog, Selection
from feature_store.clock import Clock, to_micros
from feature_store.errors import InvalidRequestError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import DecodedRow, GroupRead, Status
from feature_store.online.layouts import layout_of
from feature_store.online.stamps import to_datetime

if TYPE_CHECKING:
    from feature_store.online.client import Client

KEYS_PER_MGET = 500
"""Beyond this an `MGET` is split: longer ones stall other readers."""

MOST_PLANS = 128
"""Plans remembered for repeated requests."""


@dataclass(frozen=True, slots=True)
class FeatureState:
    """What the online store knows of one feature of one entity.

    Attributes:
        value: The visible value; None unless the status is `present`.
        status: `present`; `null` (known to be null); `missing` (never written, or in a row that the store's
            present has not reached); `expired` (its time to live is over).
        event_timestamp: When the stored row became knowable (aware UTC), None where there is none.
        ingested_at: When the stored row was written to the store (aware UTC), likewise.
    """

    value: Any
    status: Status
    event_timestamp: datetime | None
    ingested_at: datetime | None


class _Plan:
    """How to read some features: what to ask per entity, and where in the answer each feature's value goes."""

    def __init__(self, keys: KeySpace, selections: Sequence[Selection], catalog: Catalog) -> None:
        by_group: dict[str, list[Selection]] = {}
        for selection in selections:
            by_group.setdefault(selection.feature.group, []).append(selection)
        self.groups: list[tuple[GroupRead, list[str]]] = []
        for name, members in by_group.items():
            group = catalog.group(name)
            reading = layout_of(group).reading(keys, group, [member.feature for member in members])
            self.groups.append((reading, [member.label for member in members]))
        self.labels = [selection.label for selection in selections]
        # Keeps alive what the plan is remembered by.
        self.origin = (catalog, [selection.feature for selection in selections])


class Reader:
    """Reads from one server.

    Args:
        client: Connections to it.
        keys: How its keys are spelled.
        clock: Tells the present that the visibility rule is applied at.
    """

    def __init__(self, client: Client, keys: KeySpace, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._plans: dict[tuple[object, ...], _Plan] = {}

    def values(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], catalog: Catalog
    ) -> list[dict[str, Any]]:
        """Returns the visible values per entity, by label; see `OnlineStore.read`."""
        plan = self._plan(selections, catalog)
        answers: list[dict[str, Any]] = []
        for rows in self._rows(entity_ids, plan):
            if len(rows) == 1:
                answers.append(dict(zip(plan.labels, rows[0][1].values, strict=True)))
                continue
            answer = dict.fromkeys(plan.labels)
            for labels, row in rows:
                answer.update(zip(labels, row.values, strict=True))
            answers.append(answer)
        return answers

    def states(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], catalog: Catalog
    ) -> list[dict[str, FeatureState]]:
        """Returns the states per entity, by label; see `OnlineStore.read_states`."""
        plan = self._plan(selections, catalog)
        answers: list[dict[str, FeatureState]] = []
        for rows in self._rows(entity_ids, plan):
            states: dict[str, FeatureState] = {}
            for labels, row in rows:
                event = None if row.event is None else to_datetime(row.event)
                ingested = None if row.ingested is None else to_datetime(row.ingested)
                for label, value, status in zip(labels, row.values, row.statuses, strict=True):
                    states[label] = FeatureState(value, status, event, ingested)
            answers.append({label: states[label] for label in plan.labels})
        return answers

    def _plan(self, selections: Sequence[Selection], catalog: Catalog) -> _Plan:
        # To plan costs a third of a small read, and servers ask for the same features again and again. Records of
        # a catalog never change, so that their identity says enough; the plan holds them, so that it stays theirs.
        origin = (id(catalog), *((selection.label, id(selection.feature)) for selection in selections))
        plan = self._plans.get(origin)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[origin] = _Plan(self._keys, selections, catalog)
        return plan

    def _rows(self, entity_ids: Sequence[str], plan: _Plan) -> Iterator[list[tuple[list[str], DecodedRow]]]:
        """Yields for each entity one decoded row per group."""
        _check(entity_ids)
        self._keys.check(entity_ids)
        blocks = [reading.keys(entity_id) for entity_id in entity_ids for reading, _ in plan.groups]
        if not blocks:
            return
        replies = self._client.fetch(list(_chunks(blocks)))
        # Taken after the answer: whatever a writer's clock let in before it, this one has reached as well.
        now = to_micros(self._clock.now())
        start = 0
        lengths = [len(block) for block in blocks[: len(plan.groups)]]
        for entity_id in entity_ids:
            rows = []
            for (reading, labels), length in zip(plan.groups, lengths, strict=True):
                rows.append((labels, reading.decode(entity_id, replies[start : start + length], now)))
                start += length
            yield rows


def _chunks(blocks: list[list[str]]) -> Iterator[list[str]]:
    """Joins blocks of keys to lists of about `KEYS_PER_MGET`, and never cuts one: a row is read at one instant."""
    chunk: list[str] = []
    for block in blocks:
        if chunk and len(chunk) + len(block) > KEYS_PER_MGET:
            yield chunk
            chunk = []
        chunk += block
    if chunk:
        yield chunk


def _check(entity_ids: Sequence[str]) -> None:
    if isinstance(entity_ids, str):
        raise InvalidRequestError(f"Entity ids are a list, got the text {entity_ids!r}: write [{entity_ids!r}].")
    for entity_id in entity_ids:
        if not isinstance(entity_id, str):
            raise InvalidRequestError(
                f"Entity ids are text, got {entity_id!r}: use str(...), or Entity.entity_id(...)."
            )
