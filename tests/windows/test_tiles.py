"""Tiles that any writer made at any time, folded by any later reader, are what plain Python says of the raw events."""

from __future__ import annotations

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


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=300, deadline=None)
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
