"""Checks that a group's function keeps the promises that the store relies on: pure, entity-local, of bounded look-back.

From them the store may run the function on a day, a year, one shard or a micro-batch and get equal rows. The checks
run the real function on real events; they read the source and write nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidRequestError, InvalidRowsError, MissingSourceError
from feature_store.frames import utc_micros
from feature_store.partitions import Window
from feature_store.transform.comparison import difference
from feature_store.transform.compute import apply_transform, compute
from feature_store.transform.validation import validate

_ENTITIES = 12
_INSTANTS = 8
_SHUFFLES = 3
_EXTRA_HISTORY = timedelta(days=7)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """The outcome of one check.

    Attributes:
        name: The check's name.
        passed: Whether the promise holds; None where the events at hand cannot show it.
        detail: What was compared, or the first rows that differ.
    """

    name: str
    passed: bool | None
    detail: str


def check_conformance(group: FeatureGroup, span: Window, *, seed: int = 0) -> list[ConformanceResult]:
    """Checks a group's function against the contract on the events of a span.

    Args:
        group: The feature group; it need not be registered.
        span: Whole partitions, at least two for all checks to tell something. All of its events are held in memory.
        seed: Chooses the sampled entities, instants and orders; equal seeds give equal results.

    Returns:
        One result per check: `repeatable` (run twice), `partitions` (partition by partition = one pass), `entities`
        (entity by entity = all at once), `causality` (later events change no row), `order` (the order of events does
        not matter), `lookback` (events before the look-back change nothing) and `valid` (the schema accepts the rows).

    Raises:
        InvalidRequestError: If the span is not of whole partitions, or the function emits no row in it.
        MissingSourceError: If events of the span or its look-back have not landed.
    """
    windows = list(group.partitioning.windows(span))
    events = group.source.scan(Window(span.start - group.lookback, span.end)).collect()
    rows = apply_transform(group, events.lazy(), span)
    if rows.is_empty():
        raise InvalidRequestError(
            f"Feature group {group.name!r} has no rows from {span.start.isoformat()} to {span.end.isoformat()}, "
            f"of {events.height:,} events: choose partitions that have some."
        )
    probe = _Probe(group, span, windows, events, rows, seed)
    return [
        _run("repeatable", probe.repeatable),
        _run("partitions", probe.partitions),
        _run("entities", probe.entities),
        _run("causality", probe.causality),
        _run("order", probe.order),
        _run("lookback", probe.look_back),
        _run("valid", probe.valid),
    ]


def _run(name: str, check: Callable[[], tuple[bool | None, str]]) -> ConformanceResult:
    try:
        passed, detail = check()
    except MissingSourceError as error:
        return ConformanceResult(name, None, str(error))
    except Exception as error:  # noqa: BLE001  the function under test is the user's and may raise anything
        return ConformanceResult(name, passed=False, detail=f"The function raised {type(error).__name__}: {error}")
    return ConformanceResult(name, passed, detail)


@dataclass(frozen=True, slots=True)
class _Probe:
    group: FeatureGroup
    span: Window
    windows: list[Window]
    events: pl.DataFrame
    rows: pl.DataFrame
    seed: int

    def repeatable(self) -> tuple[bool, str]:
        found = self._differs(self.rows, self._rows_of(self.events))
        return not found, found or f"Run twice, the same {self.rows.height:,} rows."

    def partitions(self) -> tuple[bool | None, str]:
        if len(self.windows) == 1:
            return None, "One partition cannot be cut further: test a range of several."
        parts = [compute(self.group, window) for window in self.windows]
        if any(part.schema != parts[0].schema for part in parts):
            return False, f"The columns differ from partition to partition: {sorted({str(p.schema) for p in parts})}."
        found = self._differs(self.rows, pl.concat(parts))
        return not found, found or f"{len(parts)} partitions one by one = one pass: {self.rows.height:,} rows."

    def entities(self) -> tuple[bool | None, str]:
        keys = list(self.group.entity.join_keys)
        absent = [key for key in keys if key not in self.events.columns]
        if absent:
            return None, (
                f"The events of {self.group.source.name!r} have no column {', '.join(absent)}: which events belong to "
                "an entity cannot be seen from outside of the function."
            )
        distinct = self.rows.select(keys).drop_nulls().unique().sort(keys)
        sampled = distinct.sample(min(_ENTITIES, distinct.height), seed=self.seed)
        for entity in sampled.to_dicts():
            own = pl.all_horizontal(pl.col(key) == value for key, value in entity.items())
            alone = self._rows_of(self.events.filter(own))
            found = self._differs(self.rows.filter(own), alone.filter(own))
            if found:
                return False, f"From the events of {_shown(entity)} alone: {found}"
        return True, f"{sampled.height:,} of {distinct.height:,} entities one by one = all at once."

    def causality(self) -> tuple[bool, str]:
        length = (self.span.end - self.span.start) // _TICK
        anywhere = self.span.start + self._random().randrange(length) * _TICK
        instants = [anywhere, *self._event_times()]
        for instant in instants:
            known = self.events.filter(self._event_time() <= instant)
            until = pl.col(EVENT_TIMESTAMP) <= instant
            found = self._differs(self.rows.filter(until), self._rows_of(known).filter(until))
            if found:
                return False, f"Without the events after {instant.isoformat()}, rows up to then change: {found}"
        return True, f"Events after {len(instants)} random instants change no row up to then."

    def order(self) -> tuple[bool, str]:
        orders = [self.events.reverse()]
        orders += [
            self.events.sample(fraction=1, shuffle=True, seed=self.seed + number) for number in range(_SHUFFLES - 1)
        ]
        for shuffled in orders:
            found = self._differs(self.rows, self._rows_of(shuffled))
            if found:
                return False, f"With the same events in another order: {found}"
        return True, f"{len(orders)} other orders of the events give the same rows."

    def look_back(self) -> tuple[bool, str]:
        lookback = self.group.lookback
        span = str(lookback).removesuffix(", 0:00:00")
        wanted = self.span.start - lookback - max(lookback, _EXTRA_HISTORY)
        begin = max(wanted, min(self.group.source.start, self.span.start - lookback))
        history = self.group.source.scan(Window(begin, self.span.end)).collect()
        rows = self._rows_of(history)
        found = self._differs(rows, self.rows)
        if found:
            return False, f"With events from {begin.isoformat()} on, the rows are others. Without them: {found}"
        instants = self._event_times()
        for instant in instants:
            within = history.filter(self._event_time() >= instant - lookback)
            at_instant = pl.col(EVENT_TIMESTAMP) == instant
            found = self._differs(rows.filter(at_instant), self._rows_of(within).filter(at_instant))
            if found:
                return False, f"Without the events of more than {span} before a row: {found} Declare a longer one."
        return True, f"Events before the look-back of {span} change nothing, cut exactly at {len(instants)} row times."

    def valid(self) -> tuple[bool, str]:
        try:
            validate(self.group, self.rows)
        except InvalidRowsError as error:
            return False, "; ".join(error.failures)
        return True, f"{self.rows.height:,} rows satisfy {self.group.schema.__name__}."

    def _rows_of(self, events: pl.DataFrame) -> pl.DataFrame:
        return apply_transform(self.group, events.lazy(), self.span)

    def _differs(self, expected: pl.DataFrame, actual: pl.DataFrame) -> str | None:
        return difference(expected, actual, [EVENT_TIMESTAMP, *self.group.entity.join_keys])

    def _event_time(self) -> pl.Expr:
        return utc_micros(EVENT_TIMESTAMP, self.events.schema)

    def _random(self) -> random.Random:
        return random.Random(self.seed)  # noqa: S311  a sample, not a secret

    def _event_times(self) -> list[datetime]:
        """Instants at which there are rows: there, a row that peeks at its successor or its past shows it."""
        times = self.rows[EVENT_TIMESTAMP].drop_nulls().unique().sort().to_list()
        return self._random().sample(times, min(_INSTANTS, len(times)))


def _shown(entity: dict[str, object]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in entity.items())
