"""Tiles that any writer made at any time, folded by any later reader, are what plain Python says of the raw events."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_spec import WindowSpec
from feature_store.rows.polars_schema import polars_type
from feature_store.windows.plain_fold import Event, value_of
from feature_store.windows.tile_building import TileBuilder
from feature_store.windows.tile_cuts import LAG_MICROS, TileSteps
from feature_store.windows.tile_folding import TileFold
from feature_store.windows.tile_folding_many import values_of_many
from feature_store.windows.tile_format import decode_tiles
from feature_store.windows.tile_parts import EntityEvents
from feature_store.windows.tile_schema import TileSchema
from tests.windows.test_fold import EXTENTS, HOUR, MINUTE, VALUES, spelled, windows_of

DAY = 24 * HOUR
SIZES = [*EXTENTS, (20 * MINUTE, 10 * MINUTE), (3 * DAY, HOUR)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[tuple[int, Event]]]:
    column = draw(st.sampled_from(sorted(VALUES)))
    moment = st.builds(
        lambda hop, beside: hop * 5 * MINUTE + beside, st.integers(-30, 700), st.sampled_from([-1, 0, 0, 1, 77])
    )
    event = st.builds(
        lambda time, value, true, category: Event(
            time,
            {
                "value": value.replace(fold=0) if isinstance(value, datetime) else value,
                "true": true,
                "category": category,
            },
        ),
        moment | st.sampled_from([0, DAY, DAY - 1, DAY + 1]),
        st.none() | VALUES[column],
        st.sampled_from([True, True, False, None]),
        st.sampled_from(["x", "y", None]),
    )
    return column, draw(st.lists(st.tuples(st.integers(0, 2), event), max_size=25))


def windows(column: str, data: st.DataObject) -> list[tuple[WindowSpec, Dtype]]:
    functions = data.draw(st.lists(st.sampled_from(windows_of(column)), min_size=1, max_size=4))
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4))
    found = []
    for name, arguments, dtype in functions:
        filtered, split = data.draw(st.booleans()), data.draw(st.booleans())
        if dtype.startswith(("list", "map")) or name in {"top", "bottom", "age"}:
            split = False
        for length, hop in sizes:
            spec = WindowSpec(
                name, "value", column, "true" if filtered else None, "category" if split else None, length, hop,
                **arguments,
            )  # fmt: skip
            found.append((spec, Dtype.parse(f"map[{dtype}]" if split else dtype)))
    return found


def events_of(events: list[tuple[int, Event]], dtypes: dict[str, Dtype]) -> EntityEvents:
    ordered = sorted(events, key=lambda pair: (pair[0], pair[1].time))
    columns = {
        name: pl.Series(name, [event.values[name] for _, event in ordered], dtype=polars_type(dtype))
        for name, dtype in dtypes.items()
    }
    codes = np.array([code for code, _ in ordered], dtype=np.int64)
    times = np.array([event.time for _, event in ordered], dtype=np.int64)
    return EntityEvents(codes, times, times, columns)


@settings(max_examples=int(os.environ.get("WINDOW_EXAMPLES", "60")))
@given(histories(), st.data())
def test_tiles_of_any_writer_say_what_the_events_say(
    history: tuple[str, list[tuple[int, Event]]], data: st.DataObject
) -> None:
    column, events = history
    asked = windows(column, data)
    specs = [spec for spec, _ in asked]
    schema, steps = TileSchema.of(specs), TileSteps.of(spec.extent for spec in specs)
    dtypes = {"value": Dtype.parse(column), "true": Dtype("bool"), "category": Dtype("string")}
    latest = max((event.time for _, event in events), default=0)
    written = latest + data.draw(st.sampled_from([-LAG_MICROS, -1, 0, 1, MINUTE, HOUR, 5 * HOUR, DAY, 9 * DAY]))
    built = TileBuilder(schema, steps, dtypes).build(events_of(events, dtypes), 4, written)
    fold = TileFold(schema, asked, specs[0].extent)
    later = st.integers(0, 3 * DAY) | st.sampled_from([0, 1, 5 * MINUTE, HOUR, DAY, 40 * DAY])
    for wait in data.draw(st.lists(later, min_size=1, max_size=5)):
        at = data.draw(st.sampled_from([written + wait, -(-(written + wait) // (5 * MINUTE)) * 5 * MINUTE]))
        for code, raw in enumerate(built.values):
            own = [event for c, event in events if c == code]
            expected = [value_of(spec, dtype, own, at) for spec, dtype in asked]
            if raw:
                found: list[Any] = fold.values(decode_tiles(schema, raw), at)
            else:
                found = [spec.empty(dtype) for spec, dtype in asked]
            assert list(map(spelled, found)) == list(map(spelled, expected)), asked
        check_many(fold, schema, [raw for raw in built.values if raw], at)


def check_many(fold: TileFold, schema: TileSchema, raws: list[bytes], at: int) -> None:
    """Folded together, entities have the values that each has alone."""
    if not raws or schema.keys:
        return
    columns, left = values_of_many(fold, raws, at)
    for place, (raw, row) in enumerate(zip(raws, zip(*columns, strict=True), strict=True)):
        if place not in left:
            assert list(map(spelled, row)) == list(map(spelled, fold.values(decode_tiles(schema, raw), at)))


@settings(max_examples=int(os.environ.get("WINDOW_EXAMPLES", "60")))
@given(histories(), st.data())
def test_later_events_join_the_tiles_that_stand(
    history: tuple[str, list[tuple[int, Event]]], data: st.DataObject
) -> None:
    column, events = history
    asked = windows(column, data)
    specs = [spec for spec, _ in asked]
    schema, steps = TileSchema.of(specs), TileSteps.of(spec.extent for spec in specs)
    dtypes = {"value": Dtype.parse(column), "true": Dtype("bool"), "category": Dtype("string")}
    builder = TileBuilder(schema, steps, dtypes)
    times = sorted({event.time for _, event in events})
    cuts = sorted(data.draw(st.lists(st.sampled_from(times), max_size=4))) if times else []
    values: list[bytes | None] = [None] * 4
    written = -(2**40)
    for begin, end in zip([-(2**62), *cuts], [*cuts, 2**62], strict=True):
        batch = [(code, event) for code, event in events if begin < event.time <= end]
        latest = max((event.time for _, event in batch), default=written)
        written = max(written, latest + data.draw(st.sampled_from([-LAG_MICROS, -1, 0, 1, MINUTE, HOUR, 9 * DAY])))
        built = builder.build(events_of(batch, dtypes), 4, written, standing=values)
        values = [raw or None for raw in built.values]
    fold = TileFold(schema, asked, specs[0].extent)
    later = st.integers(0, 3 * DAY) | st.sampled_from([0, 1, 5 * MINUTE, HOUR, DAY, 40 * DAY])
    for wait in data.draw(st.lists(later, min_size=1, max_size=4)):
        at = data.draw(st.sampled_from([written + wait, -(-(written + wait) // (5 * MINUTE)) * 5 * MINUTE]))
        for code, raw in enumerate(values):
            own = [event for c, event in events if c == code]
            expected = [value_of(spec, dtype, own, at) for spec, dtype in asked]
            found = [spec.empty(dtype) for spec, dtype in asked]
            if raw is not None:
                found = fold.values(decode_tiles(schema, raw), at)
            assert list(map(spelled, found)) == list(map(spelled, expected)), asked
        check_many(fold, schema, [raw for raw in values if raw], at)


def served(asked: list[tuple[WindowSpec, Dtype]], events: list[Event], written: int, at: int) -> list[Any]:
    """Returns what one entity's tiles say that were written at one instant and read at another."""
    specs = [spec for spec, _ in asked]
    schema = TileSchema.of(specs)
    builder = TileBuilder(schema, TileSteps.of(spec.extent for spec in specs), {"value": Dtype("float")})
    [raw] = builder.build(events_of([(0, event) for event in events], {"value": Dtype("float")}), 1, written).values
    return TileFold(schema, asked, specs[0].extent).values(decode_tiles(schema, raw), at)


def of_values(function: str, length: int, hop: int) -> tuple[WindowSpec, Dtype]:
    return WindowSpec(function, "value", "float", None, None, length, hop), Dtype("float")


def test_a_huge_value_that_has_left_the_window_leaves_no_trace() -> None:
    numbers = [1.0, 2.0, 3.0, 1e90, 4.0, 5.0, 6.0]
    events = [Event(DAY + place * HOUR, {"value": number}) for place, number in enumerate(numbers, 1)]
    at = events[-1].time
    assert served([of_values("total", 2 * HOUR, 5 * MINUTE)], events, at, at) == [11.0]
    assert served([of_values("total", 4 * HOUR, 5 * MINUTE)], events, at, at) == [1e90]
    tiny = [Event(DAY + place, {"value": number}) for place, number in enumerate([1e16, 1.0, -1e16, 1.0], 1)]
    assert served([of_values("total", HOUR, 5 * MINUTE)], tiny, DAY + HOUR // 2, DAY + HOUR // 2) == [2.0]
    seven = [Event(DAY + place, {"value": number}) for place, number in enumerate([0.1, 0.2, 1.1, 0.3, 0.4, 0.5, 0.1])]
    assert served([of_values("total", HOUR, 5 * MINUTE)], seven, DAY + HOUR // 2, DAY + HOUR // 2) == [2.7]


def test_windows_that_share_a_hop_count_a_late_read_event_once() -> None:
    asked = [of_values(function, hours * HOUR, 5 * MINUTE) for function in ("total", "mean") for hours in (6, 11)]
    events = [Event(2 * DAY + place * HOUR + 1, {"value": float(place)}) for place in range(12)]
    for wait in range(0, 12 * HOUR, 37 * MINUTE):
        at = events[-1].time + wait
        assert served(asked, events, events[-1].time, at) == [value_of(*window, events, at) for window in asked]


def test_a_busy_entity_has_one_tile_per_hop() -> None:
    asked = [of_values("total", hours * HOUR, hop) for hours, hop in ((1, 5 * MINUTE), (24, HOUR), (720, DAY))]
    specs = [spec for spec, _ in asked]
    schema = TileSchema.of(specs)
    chance = np.random.default_rng(1)
    now = 400 * DAY + 11 * HOUR
    times = np.sort(now - chance.integers(0, 40 * DAY, 100_000))
    times[-5000:] = now - np.arange(5000)[::-1] * 100
    events = EntityEvents(
        np.zeros(100_000, np.int64), times, times, {"value": pl.Series(chance.uniform(0, 9, 100_000))}
    )
    builder = TileBuilder(schema, TileSteps.of(spec.extent for spec in specs), {"value": Dtype("float")})
    [raw] = builder.build(events, 1, now).values
    tiles = decode_tiles(schema, raw)
    # 13 of five minutes, and one more for a reader whose clock stands behind; 25 hours, 31 days.
    assert len(tiles.starts) <= 14 + 26 + 32
    assert len(tiles.instants) <= 1000
