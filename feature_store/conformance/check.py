"""Runs all checks of a group's function."""

from __future__ import annotations

from functools import partial

from feature_store.changes.validation import validate
from feature_store.conformance.instants import causality, look_back
from feature_store.conformance.parts import entities, events_apart, order, partitions
from feature_store.conformance.probe import Probe, events_of
from feature_store.conformance.processes import processes
from feature_store.conformance.repetition import clock, repeatable
from feature_store.conformance.result import BrokenPromiseError, ConformanceResult, Verdict, judged
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.windowed_group import InstantsOf
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.partitions import Window


def check_conformance(group: FeatureGroup, span: Window, *, seed: int = 0) -> list[ConformanceResult]:
    """Checks a group's function against the contract on the events of a span.

    Args:
        group: The feature group; it need not be registered.
        span: Whole partitions, at least two for all checks to tell something. All of its events are held in memory.
        seed: Chooses the sampled entities, instants and orders; equal seeds give equal results.

    Returns:
        One result per check: `repeatable` (run again, after other runs), `clock` (run at other times), `partitions`
        (in parts = in one pass), `events` (of a windowed group: each event alone = among others), `entities` (entities
        apart = all at once), `causality` (later events change no row), `order` (the order of the events and their
        chunks do not matter), `lookback` (events before the look-back change nothing), `process` (new processes give
        the same) and `valid` (the schema accepts the rows).

    Raises:
        InvalidRequestError: If the span is not of whole partitions, or the function emits no row in it.
        MissingSourceError: If events of the span or its look-back have not landed.
    """
    group = group.rows
    windows = list(group.partitioning.windows(span))
    events = events_of(group, Window(span.start - group.lookback, span.end))
    probe = Probe(group, span, windows, events, seed)
    if probe.rows.is_empty():
        raise InvalidRequestError(
            f"Feature group {group.name!r} has no rows from {span.start.isoformat()} to {span.end.isoformat()}, "
            f"of {events.height:,} events: choose partitions that have some."
        )
    results = []
    for name, check in _CHECKS.items():
        if check is events_apart and not isinstance(group.transform, InstantsOf):
            continue
        results.append(judged(name, probe.identity, partial(check, probe)))
        if check is entities:
            probe.entity_local = results[-1].passed is True
    return results


def _valid(probe: Probe, _: Verdict) -> str:
    try:
        validate(probe.group, probe.rows)
    except InvalidRowsError as error:
        raise BrokenPromiseError("; ".join(error.failures)) from None
    return f"{probe.rows.height:,} rows satisfy {probe.group.schema.__name__}."


_CHECKS = {
    "repeatable": repeatable,
    "clock": clock,
    "partitions": partitions,
    "events": events_apart,
    "entities": entities,
    "causality": causality,
    "order": order,
    "lookback": look_back,
    "process": processes,
    "valid": _valid,
}
