"""Why a windowed feature has its value: which events are inside of the window, which have left it, and when.

The slow, talkative twin of the fold, for one entity and one feature; it goes by the same tails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.clock import LATEST, nearest_datetime, to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.window_spec import OTHER_EVENTS, WindowSpec
from feature_store.offline.store import SOURCE_FILE, OfflineStore
from feature_store.partitions import Window
from feature_store.windows.extents import DAY_MICROS
from feature_store.windows.instants import restored
from feature_store.windows.plain_fold import Event, value_of

EVENTS_SHOWN = 50
"""Events in an explanation: the nearest to the instant."""

Place = Literal["inside", "left", "later", "ignored"]


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """One event of the entity, and its place.

    Attributes:
        place: `inside` the window; `left`: before its tail; `later` than the instant; `ignored`: its column is null, or
            the window's condition is not true of it.
        event_timestamp: When it happened (UTC).
        values: What the window reads of it.
        leaves_at: From when on no reader sees it in this window (UTC); None where it never leaves.
        ingested_at: When the store wrote it (UTC).
        file: Its file, below the offline store's root.
    """

    place: Place
    event_timestamp: datetime
    values: Mapping[str, Any]
    leaves_at: datetime | None
    ingested_at: datetime
    file: str


@dataclass(frozen=True, slots=True)
class ExplainedWindow:
    """The window of a feature at an instant.

    Attributes:
        function: What its events come to: `total of amount`.
        tail: Its events are later than this (UTC); None for the whole life of the entity.
        until: Its events are of this instant or earlier (UTC).
        value: What they come to.
        inside: How many events it holds.
        newest: When the newest event was ingested that it holds (UTC): so fresh is its head. None where it holds none.
        next_change: When the first event leaves it, if none is added (UTC); None where none does.
        events: The events nearest to the instant, the newest first, at most `EVENTS_SHOWN`.
    """

    function: str
    tail: datetime | None
    until: datetime
    value: Any
    inside: int
    newest: datetime | None
    next_change: datetime | None
    events: tuple[ExplainedEvent, ...]


def explain_window(
    entity_id: str, feature: Feature, group: RegisteredGroup, at: datetime, offline: OfflineStore
) -> ExplainedWindow:
    """Explains a windowed feature of one entity at one instant.

    Args:
        entity_id: The entity.
        feature: The feature.
        group: The group that computes it, as it is registered.
        at: The instant (UTC).
        offline: Holds the events.
    """
    if feature.window is None:
        raise AssertionError
    spec, instant = feature.window, to_micros(at)
    tail = spec.extent.tails(instant)
    span = Window(nearest_datetime(tail - DAY_MICROS), nearest_datetime(instant + DAY_MICROS))
    rows = offline.history(group.rows, entity_id, span).to_dicts()
    events = [each for row in _standing(rows) for each in _events_of(row, spec)]
    explained = [_explained(event, row, spec, instant, tail) for event, row in events]
    held = [each for each in explained if each.place == "inside"]
    leaving = [each.leaves_at for each in held if each.leaves_at is not None]
    return ExplainedWindow(
        function=spec.function if spec.column is None else f"{spec.function} of {spec.column}",
        tail=None if spec.length is None else nearest_datetime(tail),
        until=at,
        value=value_of(spec, feature.dtype, [event for event, _ in events], instant),
        inside=len(held),
        newest=max((each.ingested_at for each in held), default=None),
        next_change=min(leaving, default=None),
        events=tuple(_nearest(explained)),
    )


def _standing(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows that count: of one instant the first, which `history` puts before those that lose."""
    found: dict[datetime, Mapping[str, Any]] = {}
    for row in rows:
        found.setdefault(row[EVENT_TIMESTAMP], row)
    return list(found.values())


def _events_of(row: Mapping[str, Any], spec: WindowSpec) -> list[tuple[Event, Mapping[str, Any]]]:
    time, inputs = to_micros(row[EVENT_TIMESTAMP]), spec.inputs
    events = [Event(time, {name: row[name] for name in inputs})]
    if row[OTHER_EVENTS] is not None:
        others = msgspec.json.decode(row[OTHER_EVENTS])
        events += [Event(time, {name: restored(other.get(name), inputs[name]) for name in inputs}) for other in others]
    return [(event, row) for event in events]


def _explained(event: Event, row: Mapping[str, Any], spec: WindowSpec, instant: int, tail: int) -> ExplainedEvent:
    place: Place = "inside"
    if event.time > instant:
        place = "later"
    elif event.time <= tail:
        place = "left"
    elif not _counts(event, spec):
        place = "ignored"
    return ExplainedEvent(
        place=place,
        event_timestamp=row[EVENT_TIMESTAMP],
        values=event.values,
        leaves_at=_leaves_at(event.time, spec),
        ingested_at=row[INGESTED_AT],
        file=row[SOURCE_FILE],
    )


def _leaves_at(time: int, spec: WindowSpec) -> datetime | None:
    """Returns the first instant whose tail is not before the event: the next hop at or after it, and the length."""
    if spec.length is None or spec.hop is None:
        return None
    leaves = -(-time // spec.hop) * spec.hop + spec.length
    return nearest_datetime(leaves) if leaves <= LATEST else None


def _nearest(events: Sequence[ExplainedEvent]) -> Sequence[ExplainedEvent]:
    """Returns the events around the instant, newest first."""
    later = [event for event in events if event.place == "later"]
    others = [event for event in events if event.place != "later"]
    shown = later[-EVENTS_SHOWN // 10 :] if later else []
    return [*shown, *others][:EVENTS_SHOWN]


@dataclass(frozen=True, slots=True)
class WindowStep:
    """From when on a windowed feature has a value.

    Attributes:
        since: The first instant (UTC).
        value: The value then.
        inside: How many events the window holds then.
        happened: What changed: `2 events`, `1 event left`.
    """

    since: datetime
    value: Any
    inside: int
    happened: str


def window_course(
    entity_id: str, feature: Feature, group: RegisteredGroup, until: datetime, offline: OfflineStore, *, limit: int
) -> list[WindowStep]:
    """Returns the course of a windowed feature's value: at each event that counts, and whenever some leave the window.

    Args:
        entity_id: The entity.
        feature: The feature.
        group: The group that computes it, as it is registered.
        until: The last instant (UTC).
        offline: Holds the events.
        limit: Steps at most, the last ones.

    Returns:
        The steps, the newest first.
    """
    if feature.window is None:
        raise AssertionError
    spec, last = feature.window, to_micros(until)
    rows = _standing(offline.history(group.rows, entity_id).to_dicts())
    events = [event for row in rows for event, _ in _events_of(row, spec)]
    counted = [event for event in events if event.time <= last and _counts(event, spec)]
    came: dict[int, int] = {}
    left: dict[int, int] = {}
    for event in counted:
        came[event.time] = came.get(event.time, 0) + 1
        leaves = _leaves_at(event.time, spec)
        if leaves is not None and to_micros(leaves) <= last:
            left[to_micros(leaves)] = left.get(to_micros(leaves), 0) + 1
    steps = []
    for time in sorted({*came, *left}, reverse=True)[:limit]:
        parts = [_events_text(came[time])] if time in came else []
        parts += [f"{_events_text(left[time])} left"] if time in left else []
        held = sum(spec.extent.tails(time) < event.time <= time for event in counted)
        value = value_of(spec, feature.dtype, counted, time)
        steps.append(WindowStep(nearest_datetime(time), value, held, ", ".join(parts)))
    return steps


def _counts(event: Event, spec: WindowSpec) -> bool:
    columns = [column for column in (spec.column, spec.category) if column is not None]
    if any(event.values[column] is None for column in columns):
        return False
    return spec.condition is None or bool(event.values[spec.condition])


def _events_text(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
