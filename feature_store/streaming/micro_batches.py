"""From the messages of a micro-batch to what they come to: rows, rows taken back, dead letters, new state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from operator import or_

import polars as pl

from feature_store.clock import nearest_datetime, to_micros
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.errors import FeatureStoreError
from feature_store.frames import entity_id_expression
from feature_store.streaming.context import StreamContext
from feature_store.streaming.decoding import VERSION_HEADER, EventDecoder, Payload
from feature_store.streaming.delivery import Delivery
from feature_store.streaming.payloads import KeyReader
from feature_store.streaming.state import GroupState
from feature_store.transform.bad_events import GONE, SEQUENCE
from feature_store.transform.micro_batch import (
    MicroBatchRows,
    Past,
    compute_micro_batch,
    nothing,
    rows_since,
)

_PARTITION = "_partition"
_FIRST = to_micros(datetime(1, 1, 2, tzinfo=UTC))


@dataclass(slots=True)
class Outcome:
    """What a micro-batch comes to.

    Attributes:
        rows: Rows that are new or differ from before, without `ingested_at`.
        retracted: Join keys and event time of rows that are gone.
        standing: Rows that are left to the entities of these, as far as the state tells.
        rejected: Position of each message that becomes a dead letter, and why.
        accepted: Partition to the events that the state takes.
        last_rows: See `MicroBatchRows.last_rows`.
        repeated: Number of events that had been delivered before.
    """

    rows: pl.DataFrame
    retracted: pl.DataFrame
    standing: pl.DataFrame
    rejected: dict[int, str] = field(default_factory=dict)
    accepted: dict[int, pl.DataFrame] = field(default_factory=dict)
    last_rows: pl.DataFrame | None = None
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages that go through together.

    Attributes:
        withdrawn: Messages without a value, before the others: their entities are gone.
        messages: The others.
    """

    withdrawn: list[Delivery]
    messages: list[Delivery]


class MicroBatches:
    """Computes what messages come to, given the state.

    Args:
        streamer: The group, its stream, and the clock.
        state: Read, and told by `accept`.
    """

    def __init__(self, streamer: StreamContext, state: GroupState) -> None:
        self._own = streamer
        self._state = state
        self._decoder = EventDecoder(streamer.stream)
        self._keys = KeyReader(streamer.stream) if streamer.stream.entity is not None else None

    def chunks(self, messages: Sequence[Delivery]) -> Iterator[Chunk]:
        """Yields messages in order, cut where an entity is withdrawn that has had an event since the last cut."""
        how = self._own.stream.tombstones
        if how == "reject" or all(message.value is not None for message in messages):
            yield Chunk([], list(messages))
            return
        withdrawn: list[Delivery] = []
        others: list[Delivery] = []
        seen: set[bytes | None] = set()
        for message in messages:
            if message.value is not None:
                others.append(message)
                seen.add(message.key)
            elif how == "withdraw":
                if message.key in seen:
                    yield Chunk(withdrawn, others)
                    withdrawn, others, seen = [], [], set()
                withdrawn.append(message)
        yield Chunk(withdrawn, others)

    def outcome(self, messages: Sequence[Delivery], *, fresh: bool) -> Outcome:
        """Returns what messages with a value come to.

        Args:
            messages: In order of delivery.
            fresh: Whether they are judged for the first time: what was accepted before is not late now.
        """
        metrics = self._own.metrics
        with metrics.stage("decode"):
            events, rejected = self._events(messages, fresh=fresh)
        with metrics.stage("state"):
            new, past = self._new_events(events, rejected, fresh=fresh)
        with metrics.stage("transform"):
            result = self._computed(new, past)
            standing = self._standing(new, result.retracted, result.rows)
        rejected |= result.rejected
        accepted = {
            number: part.filter(~pl.col(SEQUENCE).is_in(list(result.rejected))) if result.rejected else part
            for number, part in new.items()
        }
        repeated = events.height - sum(part.height for part in new.values())
        return Outcome(result.rows, result.retracted, standing, rejected, accepted, result.last_rows, max(repeated, 0))

    def withdrawal(self, messages: Sequence[Delivery], *, fresh: bool) -> Outcome:
        """Returns what it comes to that the entities of some messages are gone: all of their rows are."""
        group = self._own.group
        empty = nothing(group)
        outcome = Outcome(empty.rows, empty.retracted, empty.rows)
        assert self._keys is not None
        ids = self._keys.entity_ids([message.key for message in messages])
        by_partition: dict[int, list[dict[str, KeyValue]]] = {}
        for position, (message, entity_id) in enumerate(zip(messages, ids, strict=True)):
            try:
                keys = group.entity.keys_of(entity_id)
            except FeatureStoreError as error:
                outcome.rejected[position] = (
                    f"The message has no value, and its key names no {group.entity.name}: {error}"
                )
                continue
            by_partition.setdefault(message.partition, []).append(keys)
        gone = [empty.retracted]
        for number, found in by_partition.items():
            schema = {key: self._own.stream.columns[key] for key in group.entity.join_keys}
            entities = pl.DataFrame(found, schema=schema).unique()
            events = self._state.events_of(number, entities)
            if events.height:
                outcome.accepted[number] = events.with_columns(pl.lit(value=True).alias(GONE), _zero())
                known = rows_since(group, events, nearest_datetime(max(self._state.complete_from(number), _FIRST)))
                gone.append(known.select(empty.retracted.columns))
            if fresh:
                stored = self._own.delivered(partial(self._own.delivery.rows_of, entities))
                gone.append(stored.select(empty.retracted.columns))
        outcome.retracted = pl.concat(gone).unique()
        return outcome

    def accept(self, outcome: Outcome) -> None:
        """Adds the events of an outcome to the state."""
        empty = nothing(self._own.group).last_rows
        for number, part in outcome.accepted.items():
            last_rows = empty if outcome.last_rows is None else outcome.last_rows
            self._state.add(number, part.drop(SEQUENCE), last_rows)

    def landed(self, number: int, events: pl.DataFrame) -> Outcome:
        """Returns what it comes to that files have landed which the entities of a partition lacked."""
        group = self._own.group
        keys = list(group.entity.join_keys)
        known = [segment.rows.select(keys) for segment in self._state.lanes[number].events.segments]
        empty = nothing(group)
        if not known or events.is_empty():
            return Outcome(empty.rows, empty.retracted, empty.rows)
        ours = events.join(pl.concat(known).unique(), on=keys, how="semi")
        new = ours.with_row_index(SEQUENCE).with_columns(
            pl.col(SEQUENCE).cast(pl.Int64), pl.lit(value=False).alias(GONE)
        )
        new, past = self._state.without_repeated(number, new)
        result = compute_micro_batch(group, new, Past(past.events, past.last_rows.clear(), past.removed))
        standing = self._standing({number: new}, result.retracted, result.rows)
        return Outcome(result.rows, result.retracted, standing)

    def _events(self, messages: Sequence[Delivery], *, fresh: bool) -> tuple[pl.DataFrame, dict[int, str]]:
        """Returns the typed events, with their position and partition, and what was rejected."""
        stream, entity = self._own.stream, self._own.group.entity
        payloads = []
        for message in messages:
            version = dict(message.headers).get(VERSION_HEADER) if message.headers else None
            payloads.append(Payload(message.value, version))
        decoded = self._decoder.decode(payloads)
        rejected = dict(decoded.rejected)
        numbers = [messages[position].partition for position in decoded.positions]
        events = decoded.events.with_columns(
            pl.Series(SEQUENCE, decoded.positions, dtype=pl.Int64), pl.Series(_PARTITION, numbers, dtype=pl.Int64)
        )
        needed = [*entity.join_keys, EVENT_TIMESTAMP]
        conditions = {f"Field {name!r} is null.": pl.col(name).is_null() for name in needed}
        if fresh:
            latest = self._own.clock.now() + stream.most_ahead
            told = f"after {latest.isoformat()}, the store's present and {stream.most_ahead}"
            ahead = f"The event lies in the future: {told}."
            conditions[ahead] = pl.col(EVENT_TIMESTAMP) > latest
        if self._keys is not None:
            ids = self._keys.entity_ids([messages[position].key for position in decoded.positions])
            events = events.with_columns(pl.Series(ENTITY_ID, ids, dtype=pl.String))
            wrong = pl.col(ENTITY_ID).ne_missing(entity_id_expression(entity))
            conditions[f"The message's key is not the id of its {entity.name}."] = wrong
        if events.height and events.select(reduce(or_, conditions.values()).any()).item():
            for reason, condition in conditions.items():
                bad = events.filter(condition)[SEQUENCE]
                rejected |= dict.fromkeys(bad.to_list(), reason)
                # Of a message that tells of two events neither counts, if one is bad.
                events = events.filter(~pl.col(SEQUENCE).is_in(bad.to_list()))
        return events.drop(ENTITY_ID, strict=False), rejected

    def _new_events(
        self, events: pl.DataFrame, rejected: dict[int, str], *, fresh: bool
    ) -> tuple[dict[int, pl.DataFrame], dict[int, Past]]:
        """Returns the events of each partition that count, and what is known of their entities."""
        new, past = {}, {}
        allowed = self._own.stream.allowed_lateness
        now = to_micros(self._own.clock.now())
        parts = dict(events.partition_by(_PARTITION, as_dict=True, include_key=False).items())
        for (number,), part in parts.items():
            lane = self._state.lanes[number]
            if lane.seeded_from is None:
                self._state.begin_lane(number, part[EVENT_TIMESTAMP].to_physical())
        self._own.seed(self._state)
        for (number,), part in parts.items():
            late = self._state.lanes[number].too_late(part[EVENT_TIMESTAMP].to_physical(), allowed, now)
            if fresh and late.any():
                reason = f"The event comes more than {allowed} behind the newest one."
                positions = part.filter(late)[SEQUENCE].to_list()
                rejected |= dict.fromkeys(positions, reason)
                part = part.filter(~pl.col(SEQUENCE).is_in(positions))  # noqa: PLW2901
            if part.height:
                new[number], past[number] = self._state.without_repeated(number, part)
        return new, past

    def _computed(self, new: dict[int, pl.DataFrame], past: dict[int, Past]) -> MicroBatchRows:
        parts = [part for part in new.values() if part.height]
        if not parts:
            return nothing(self._own.group)
        removed = [known.removed for known in past.values() if known.removed is not None]
        known = Past(
            pl.concat([known.events for known in past.values()]),
            pl.concat([known.last_rows for known in past.values()]),
            pl.concat(removed) if removed else None,
        )
        return compute_micro_batch(self._own.group, pl.concat(parts), known)

    def _standing(self, new: dict[int, pl.DataFrame], retracted: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns the rows that are left to each entity of which one is taken back, as far back as the state tells."""
        if retracted.is_empty():
            return rows.clear()
        group = self._own.group
        entities = retracted.select(group.entity.join_keys.keys()).unique()
        found = [rows.clear()]
        for number, part in new.items():
            events = self._state.events_of(number, entities, part.drop(SEQUENCE))
            if events.height:
                since = nearest_datetime(max(self._state.complete_from(number), _FIRST))
                found.append(rows_since(group, events, since))
        return pl.concat(found)


def _zero() -> pl.Expr:
    return pl.lit(0, dtype=pl.Int64).alias(SEQUENCE)
