"""How events are cut, ordered and laid out in memory must not matter; nor whose events are among them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from feature_store.conformance.probe import Probe
from feature_store.conformance.result import NotShownError, Verdict
from feature_store.partitions import Window
from feature_store.transform.compute import compute

_TICK = timedelta(microseconds=1)
_CUTS = 6
_SHUFFLES = 2
_CHUNKS = 7
_SPLITS = 10
_ALONE = 6
_TIMES = "_times"
_NUMBER = "#"  # no column of events can be meant by this name


def partitions(probe: Probe, verdict: Verdict) -> str:
    """Checks that one pass, partition by partition, and pieces as a stream gives them, come to the same rows."""
    if len(probe.windows) > 1:
        parts = [compute(probe.group, window) for window in probe.windows]
        verdict.expect(probe.rows, pl.concat(parts), "Partition by partition instead of in one pass:")
    pieces = list(_pieces(probe))
    rows = [probe.rows_of(probe.events_for(piece), piece) for piece in pieces]
    cuts = ", ".join(piece.start.isoformat() for piece in pieces[1:])
    verdict.expect(probe.rows, pl.concat(rows), f"In {len(pieces)} pieces, cut at {cuts}:")
    said = f"{len(probe.windows)} partitions one by one, and {len(pieces)} pieces of other lengths, = one pass"
    return f"{said}: {probe.rows.height:,} rows."


def _pieces(probe: Probe) -> Iterator[Window]:
    """Cuts the span at random instants, at those of rows, and right after them."""
    random = probe.random()
    times: list[datetime] = probe.rows[probe.identity[0]].drop_nulls().unique().sort().to_list()
    length = (probe.span.end - probe.span.start) // _TICK
    cuts = {probe.span.start + random.randrange(length) * _TICK for _ in range(2)}
    for number, time in enumerate(random.sample(times, min(_CUTS, len(times)))):
        cuts.add(time + (number % 2) * _TICK)
    bounds = [probe.span.start, *sorted(cut for cut in cuts if probe.span.start < cut < probe.span.end), probe.span.end]
    yield from (Window(start, end) for start, end in itertools.pairwise(bounds))


def events_apart(probe: Probe, verdict: Verdict) -> str:
    """Checks that the function of a windowed group maps its events one by one: halves of them give halves of the rows.

    The events are split by each digit of their binary numbers, so any two of them are once apart.
    """
    numbered = probe.events.with_row_index(_NUMBER)
    digits = min(max(numbered.height - 1, 1).bit_length(), _SPLITS)
    whole = _unordered(probe.events_that_count(probe.events))
    for digit in range(digits):
        halves = [
            probe.events_that_count(numbered.filter((pl.col(_NUMBER) // 2**digit) % 2 == side).drop(_NUMBER))
            for side in (0, 1)
        ]
        verdict.expect(whole, _unordered(pl.concat(halves)), "From the events in two halves, one after the other:")
    return f"{numbered.height:,} events in halves, {digits} times = all at once: each is mapped by itself."


def _unordered(events: pl.DataFrame) -> pl.DataFrame:
    """Returns events with how often each is there, which tells them apart where all else is equal."""
    return events.group_by(pl.all()).agg(pl.len().alias(_TIMES))


def order(probe: Probe, verdict: Verdict) -> str:
    """Checks that the order of the events, and the chunks in which they lie, do not matter."""
    events, time = probe.events, probe.identity[0]
    orders = {
        "in reverse": events.reverse(),
        "in order of time": events.sort(time, maintain_order=True),
        "in order of entity and time": events.sort([*probe.entity_keys, time], maintain_order=True),
        "in order of time, those of one time reversed": events.reverse().sort(time, maintain_order=True),
    }
    for number in range(_SHUFFLES):
        shuffled = events.sample(fraction=1, shuffle=True, seed=probe.seed + number)
        orders[f"shuffled by the seed {probe.seed + number}"] = shuffled
    for name, frame in orders.items():
        verdict.expect(probe.rows, probe.rows_of(frame), f"With the same events {name}:")
    size = max(1, -(-events.height // _CHUNKS))
    chunks = pl.concat([events.slice(start, size) for start in range(0, events.height, size)], rechunk=False)
    verdict.expect(probe.rows, probe.rows_of(chunks), f"With the same events in {chunks.n_chunks()} chunks of memory:")
    return f"{len(orders)} other orders of the events, and other chunks, give the same rows. {_ties(probe)}"


def _ties(probe: Probe) -> str:
    shared = int(probe.events.select(probe.identity[0], *probe.entity_keys).is_duplicated().sum())
    if shared:
        return f"{shared:,} events share their entity and time with another."
    return "No two events share entity and time: what would come of them is not shown."


def entities(probe: Probe, verdict: Verdict) -> str:
    """Checks that the rows of an entity depend on its own events alone.

    The entities are split into halves by each digit of their binary numbers, so any two of them are once apart.
    """
    keys = probe.entity_keys
    if not keys:
        absent = [key for key in probe.group.entity.join_keys if key not in probe.events.columns]
        raise NotShownError(
            f"The events of {probe.group.source.name!r} have no column {', '.join(absent)}: which events belong to "
            "an entity cannot be seen from outside of the function."
        )
    found = probe.events.select(keys).unique().sort(keys).sample(fraction=1, shuffle=True, seed=probe.seed)
    numbered = found.with_row_index(_NUMBER)
    if found.height == 1:
        return _without_half(probe, verdict)
    digits = min((found.height - 1).bit_length(), _SPLITS)
    for digit in range(digits):
        for side in (0, 1):
            half = numbered.filter((pl.col(_NUMBER) // 2**digit) % 2 == side).drop(_NUMBER)
            _expect_alone(probe, verdict, half, f"From the events of {half.height:,} of {found.height:,} entities:")
    for number in range(min(_ALONE, found.height)):
        one = found[number]
        shown = ", ".join(f"{key}={value!r}" for key, value in one.to_dicts()[0].items())
        _expect_alone(probe, verdict, one, f"From the events of {shown} alone:")
    return f"{found.height:,} entities in halves, {digits} times, and {min(_ALONE, found.height)} alone = all at once."


def _expect_alone(probe: Probe, verdict: Verdict, chosen: pl.DataFrame, circumstance: str) -> None:
    keys = chosen.columns
    own = chosen.cast({key: probe.rows.schema[key] for key in keys})
    alone = probe.rows_of(probe.events.join(chosen, on=keys, how="semi", nulls_equal=True, maintain_order="left"))
    expected, actual = (rows.join(own, on=keys, how="semi", nulls_equal=True) for rows in (probe.rows, alone))
    verdict.expect(expected, actual, circumstance)


def _without_half(probe: Probe, verdict: Verdict) -> str:
    """Gives half of the events of the only entity to another one."""
    [key, *_] = probe.entity_keys
    dtype = probe.events.schema[key]
    if dtype != pl.String and not dtype.is_integer():
        raise NotShownError("The events are those of one entity: whether others matter is not shown.")
    other = pl.concat_str(pl.col(key), pl.lit("~")) if dtype == pl.String else pl.col(key) + 1
    every_second = pl.int_range(pl.len()) % 2 == 0
    mine = pl.col(key) == probe.events[key][0]
    shared = probe.events.with_columns(pl.when(every_second).then(other.cast(dtype)).otherwise(pl.col(key)).alias(key))
    expected, actual = (probe.rows_of(frame).filter(mine) for frame in (shared.filter(mine), shared))
    verdict.expect(expected, actual, "With half of the events given to another entity:")
    return "The events are those of one entity; half of them given to another one change no row of it."
