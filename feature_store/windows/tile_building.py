"""Building the tiles of entities from their events. What a value holds depends on the events and the writer's instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.errors import InvalidRowsError
from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import plain_value, state_of
from feature_store.windows.tile_cuts import TileSteps, kept_as_instants
from feature_store.windows.tile_format import HEADER, MAGIC
from feature_store.windows.tile_schema import TileSchema

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityEvents:
    """Events of some entities, sorted by entity and time.

    Attributes:
        codes: Number of each event's entity, from 0 on.
        times: Microseconds since 1970.
        ingested: When its row was ingested, likewise.
        columns: The columns that windows read, in the order of the events.
    """

    codes: Ints
    times: Ints
    ingested: Ints
    columns: Mapping[str, pl.Series]


@dataclass(frozen=True, slots=True)
class BuiltTiles:
    """The values of some entities.

    Attributes:
        values: One for each entity; empty where no window can hold an event of it.
        last_events: Time of the latest event of each, microseconds since 1970; 0 where there is none.
    """

    values: list[bytes]
    last_events: list[int]


def build_tiles(
    schema: TileSchema, steps: TileSteps, dtypes: Mapping[str, Dtype], events: EntityEvents, entities: int, now: int
) -> BuiltTiles:
    """Returns the values of entities.

    Args:
        schema: What the tiles hold.
        steps: How long they are.
        dtypes: Dtypes of the columns.
        events: All events of the entities that some window can hold; others do no harm.
        entities: How many entities there are; their codes are below.
        now: The writer's instant, microseconds since 1970.

    Raises:
        InvalidRowsError: If a decimal does not fit into 64 bits.
    """
    instants = kept_as_instants(events.codes, events.times, now)
    numbers, starts = steps.starts(events.codes[~instants], events.times[~instants], now)
    tiles = np.full(len(events.times), -1, dtype=np.int64)
    tiles[~instants] = numbers
    held = instants | (tiles >= 0)
    rows = _plain_rows(schema, dtypes, events)
    values: list[bytes] = []
    last_events: list[int] = []
    bounds = np.searchsorted(events.codes, np.arange(entities + 1))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        places = begin + np.flatnonzero(held[begin:end])
        if not len(places):
            values.append(b"")
            last_events.append(0)
            continue
        those = tiles[places]
        numbered = np.unique(those[those >= 0])
        states = [[] for _ in schema.keys]  # type: ignore[var-annotated]
        for number in numbered.tolist():
            members = [rows[place] for place in places[those == number].tolist()]
            for column, key in zip(states, schema.keys, strict=True):
                column.append(state_of(key, members))
        single = [
            [rows[place][0], *(rows[place][1][name] for name in schema.columns)] for place in places[those < 0].tolist()
        ]
        seconds = starts[numbered] // SECOND_MICROS
        base = int(seconds[0]) if len(seconds) else 0
        last = int(events.times[places[those >= 0][-1]]) if len(numbered) else 0
        head = HEADER.pack(
            MAGIC, schema.fingerprint, bytes(8), last, int(events.ingested[begin:end].max()), base, 0,
            len(numbered), len(single),
        )  # fmt: skip
        offsets = (seconds - base).astype("<i8").tobytes()
        values.append(head + offsets + msgspec.msgpack.encode([states, single]))
        last_events.append(int(events.times[places[-1]]))
    return BuiltTiles(values, last_events)


def _plain_rows(
    schema: TileSchema, dtypes: Mapping[str, Dtype], events: EntityEvents
) -> list[tuple[int, dict[str, Any]]]:
    columns: dict[str, Sequence[Any]] = {}
    for name in schema.columns:
        dtype = dtypes[name]
        try:
            columns[name] = [plain_value(value, dtype) for value in events.columns[name].to_list()]
        except OverflowError as error:
            raise InvalidRowsError("", [f"column {name!r}: {error}"], "Use a smaller scale=.") from None
    if not columns:
        return [(time, {}) for time in events.times.tolist()]
    return [
        (time, dict(zip(columns, row, strict=True)))
        for time, row in zip(events.times.tolist(), zip(*columns.values(), strict=True), strict=True)
    ]
