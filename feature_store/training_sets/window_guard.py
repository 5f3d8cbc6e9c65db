"""The leak guard's look at windowed features: their events from the raw files, folded in plain Python, one by one."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import OTHER_EVENTS, WindowSpec
from feature_store.storage.location import Location
from feature_store.training_sets.leaks import DIFFERENT, FUTURE, MISSING, OUTDATED, Findings, Offender, Sample, grouped
from feature_store.training_sets.raw_rows import (
    MICROS_PER_DAY,
    Observation,
    bits,
    date_of,
    date_of_micros,
    default_of,
    moment,
    rows_by_entity,
)
from feature_store.windows.plain_fold import Event, value_of

_NEAR = 50
"""How many events before and after a label are tried as the instant that a wrong value is of."""


class _Window(NamedTuple):
    label: str
    spec: WindowSpec
    dtype: Dtype
    default: Any


def check_windows(
    history: Callable[[str, date, date], Sequence[Location]],
    group: str,
    features: Mapping[str, Any],
    samples: Sequence[Sample],
    changed_files: Collection[str],
    found: Findings,
) -> None:
    """Checks all sampled values of one windowed group; see `leak_guard.check_leaks`."""
    keys = next(iter(features.values()))["join_keys"]
    windows = [
        _Window(label, WindowSpec(**feature["window"]), Dtype.parse(feature["dtype"]), default_of(feature))
        for label, feature in features.items()
    ]
    by_entity = grouped(samples, keys)
    if not by_entity:
        return
    first = min(window.spec.extent.tails(sample.time) for window in windows for sample in samples)
    last = max(sample.time for sample in samples) + MICROS_PER_DAY
    inputs = {name: dtype for window in windows for name, dtype in window.spec.inputs.items()}
    changed = sorted(date_of(path) for path in changed_files if path.split("/", 1)[0] == group)
    paths = history(group, date_of_micros(first), date_of_micros(last))
    seen = rows_by_entity(paths, keys, {*inputs, OTHER_EVENTS}, by_entity)
    for entity, of_entity in by_entity.items():
        events = _events(seen[entity], inputs)
        times = [event.time for event in events]
        for sample in of_entity:
            for window in windows:
                tail = date_of_micros(window.spec.extent.tails(sample.time))
                if any(tail <= day <= date_of_micros(sample.time) for day in changed):
                    found.skipped += 1
                    continue
                found.checked += 1
                expected = _at(window, events, sample.time)
                if expected is None:
                    expected = window.default
                value = sample.values[window.label]
                if _same(value, expected):
                    continue
                kind, event = _kind(window, events, times, sample.time, value)
                found.add(
                    Offender(
                        kind=kind,
                        file=sample.file,
                        row=sample.row,
                        feature=window.label,
                        label_time=moment(sample.time),
                        keys=dict(zip(keys, entity, strict=True)),
                        found=value,
                        expected=expected,
                        event_time=None if event is None else moment(event),
                    )
                )


def _events(rows: Sequence[Observation], inputs: Mapping[str, Dtype]) -> list[Event]:
    """Returns the events of an entity, in order of time: of two rows of one instant, those of the later one."""
    standing: dict[int, Observation] = {}
    for row in sorted(rows, key=lambda row: row[:4]):
        standing[row.event] = row
    events = []
    for time, row in sorted(standing.items()):
        events.append(Event(time, {name: _input(row.value(name), dtype) for name, dtype in inputs.items()}))
        others = row.value(OTHER_EVENTS)
        if others:
            events += [
                Event(time, {name: _input(event.get(name), dtype) for name, dtype in inputs.items()})
                for event in json.loads(others)
            ]
    return events


def _input(value: Any, dtype: Dtype) -> Any:
    """Returns a value of a raw row or of `other_events` in the type that is folded."""
    if value is None:
        return None
    if dtype.name == "timestamp":
        return moment(value)
    if dtype.name == "date":
        return date.fromisoformat(value) if isinstance(value, str) else date_of_micros(value)
    if dtype.name == "decimal":
        return Decimal(value)
    return float(value) if dtype.name == "float" else value


def _at(window: _Window, events: Sequence[Event], time: int) -> Any:
    return _as_stored(value_of(window.spec, window.dtype, events, time))


def _as_stored(value: Any) -> Any:
    """Returns a value as it is read from the set: times in microseconds, a map as its pairs."""
    if isinstance(value, dict):
        return [{"key": key, "value": _as_stored(each)} for key, each in value.items()]
    if isinstance(value, list):
        return [_as_stored(each) for each in value]
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // (moment(1) - moment(0))
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days * MICROS_PER_DAY
    return value


def _same(value: Any, expected: Any) -> bool:
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[key], expected[key]) for key in value)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return bool(bits(value) == bits(expected))


def _kind(
    window: _Window, events: Sequence[Event], times: Sequence[int], time: int, value: Any
) -> tuple[str, int | None]:
    """Says where a wrong value may come from: the instant of another event, or none that is known."""
    if value is None:
        return MISSING, None
    after, before = bisect_right(times, time), bisect_left(times, time)
    for event in dict.fromkeys(times[after : after + _NEAR]):
        if _same(value, _at(window, events, event)):
            return FUTURE, event
    for event in dict.fromkeys(reversed(times[max(0, before - _NEAR) : after])):
        if _same(value, _at(window, events, event)):
            return OUTDATED, event
    return DIFFERENT, None
