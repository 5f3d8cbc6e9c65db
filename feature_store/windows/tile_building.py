"""Building the values of entities: from their events, or from the values that stand and later events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.definitions.dtypes import Dtype
from feature_store.errors import WindowOverflowError
from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import merged, state_of
from feature_store.windows.tile_cuts import LAG_MICROS, TileSteps, kept_as_instants
from feature_store.windows.tile_format import HEADER, MAGIC, variable_part
from feature_store.windows.tile_parts import (
    EntityEvents,
    Numbered,
    Standing,
    inside_of,
    numbered,
    numpy_form,
    standing_tiles,
    with_instants,
)
from feature_store.windows.tile_records import Records, TotalOverflowError, records_of_events, reduced
from feature_store.windows.tile_schema import WIDE, TileSchema

Ints = npt.NDArray[np.int64]

_MOST_SECONDS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class BuiltTiles:
    """The values of some entities.

    Attributes:
        values: One for each entity; empty where no window can hold an event of it.
        last_events: Time of the latest event of each, microseconds since 1970; 0 where there is none.
    """

    values: list[bytes]
    last_events: list[int]


@dataclass(frozen=True, slots=True)
class _Tiles:
    """New tiles of all entities, sorted by entity and time.

    Attributes:
        codes: The entity of each.
        starts: Where each begins, seconds since 1970.
        records: What they hold.
        states: For each key of the schema their states.
    """

    codes: Ints
    starts: Ints
    records: Records
    states: list[list[Any]]


class TileBuilder:
    """Builds the values of a group's entities.

    Args:
        schema: What the tiles hold.
        steps: How long they are.
        dtypes: Dtypes of the columns of events.
    """

    def __init__(self, schema: TileSchema, steps: TileSteps, dtypes: Mapping[str, Dtype]) -> None:
        self.schema = schema
        self._steps = steps
        self._dtypes = dtypes

    def build(
        self,
        events: EntityEvents,
        entities: int,
        now: int,
        names: Sequence[str] = (),
        standing: Sequence[bytes | None] | None = None,
    ) -> BuiltTiles:
        """Returns the values of entities.

        Args:
            events: All events of the entities that some window can hold, or, of entities of which a value stands, all
                that are later than those in it. Others do no harm.
            entities: How many entities there are; their codes are below.
            now: The writer's instant, microseconds since 1970; not long before that of the values that stand.
            names: Their ids, for errors.
            standing: The values that stand, of this schema; None where there is none.

        Raises:
            WindowOverflowError: If a decimal, or a total of integers, does not fit into 64 bits, or a total of floats
                is greater than any float.
            ValueError: If a value that stands is none of the schema.
        """
        old = standing_tiles(self.schema, standing if standing is not None else [None] * entities)
        new = numbered(self.schema, self._dtypes, events, now - LAG_MICROS)
        every = with_instants(self.schema, self._dtypes, old, new)
        single = kept_as_instants(every.codes, every.times, now)
        tiled = np.flatnonzero(~single)
        try:
            tiles = self._tiles(old, every, tiled, now, names)
        except OverflowError as error:
            raise WindowOverflowError(
                "", [f"a total is greater than any float ({error})"], "Scale the column."
            ) from None
        last_tiled = _greatest(every.codes[tiled], every.times[tiled], entities)
        last_events = _greatest(every.codes, every.times, entities)
        ingested = _greatest(events.codes, events.ingested, entities)
        for column, name in ((last_tiled, "event"), (last_events, "event"), (ingested, "ingested")):
            column[old.owners] = np.maximum(column[old.owners], old.headers[name])
        variable = self._variable(every, np.flatnonzero(single), tiles, entities)
        values = self._encoded(tiles, last_tiled, ingested, now, variable, entities)
        return BuiltTiles(values, np.maximum(last_events, _NONE + 1).tolist())

    def _tiles(self, old: Standing, every: Numbered, tiled: Ints, now: int, names: Sequence[str]) -> _Tiles:
        """Returns the tiles that tiles and events come to."""
        schema = self.schema
        columns = {name: column.at(tiled) for name, column in every.columns.items()}
        codes = np.concatenate([old.codes, every.codes[tiled]])
        times = np.concatenate([inside_of(old.starts), every.times[tiled]])
        oldest = np.concatenate([old.starts * SECOND_MICROS, every.times[tiled]])
        order = np.lexsort((times, codes)) if len(old.codes) else np.arange(len(codes))
        numbers, starts = self._steps.tiles(codes[order], times[order], (now - LAG_MICROS) - oldest[order])
        kept = order[numbers >= 0]
        numbers = numbers[numbers >= 0]
        begins = np.flatnonzero(np.diff(numbers, prepend=-1)) if len(numbers) else numbers
        of_events = records_of_events(schema, every.codes[tiled], every.times[tiled], columns)
        records = old.records.joined(of_events, len(old.codes)).at(kept)
        try:
            made = reduced(schema, records, begins)
        except TotalOverflowError as error:
            code = int(codes[kept][begins][error.record])
            raise WindowOverflowError(
                "", [f"entity {names[code] if names else code!r}: {error}"], "Annotate the window as float."
            ) from None
        ends = np.append(begins[1:], len(kept))[: len(begins)]
        states: list[list[Any]] = [[] for _ in schema.keys]
        if schema.keys:
            older = len(old.codes)
            pieces = kept.tolist()
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                members = pieces[begin:end]
                fresh = [every.plain[int(tiled[place - older])] for place in members if place >= older]
                events = [event for event in fresh if event is not None]
                for column, key, known in zip(states, schema.keys, old.states, strict=True):
                    parts = [known[place] for place in members if place < older]
                    column.append(merged(key, [*parts, state_of(key, events)] if events else parts))
        return _Tiles(codes[kept][begins], starts, made, states)

    def _variable(self, every: Numbered, single: Ints, tiles: _Tiles, entities: int) -> dict[int, tuple[bytes, int]]:
        """Returns the variable parts of the entities that have one, and how many instants they hold."""
        owners = every.codes[single]
        bounds = np.searchsorted(tiles.codes, np.arange(entities + 1))
        sums: dict[int, list[tuple[int, int, list[float]]]] = {}
        for (field, tile), more in tiles.records.extra.items():
            code = int(tiles.codes[tile])
            sums.setdefault(code, []).append((field, tile - int(bounds[code]), more))
        wanted = np.unique(
            np.concatenate([owners, tiles.codes if self.schema.keys else owners[:0], np.array(list(sums), np.int64)])
        )
        first, last = np.searchsorted(owners, wanted), np.searchsorted(owners, wanted, "right")
        found = {}
        for code, begin, end in zip(wanted.tolist(), first.tolist(), last.tolist(), strict=True):
            events = [event for place in single[begin:end].tolist() if (event := every.plain[place]) is not None]
            own = [column[bounds[code] : bounds[code + 1]] for column in tiles.states]
            try:
                found[code] = variable_part(self.schema, own, sums.get(code, []), events), len(events)
            except (OverflowError, msgspec.MsgspecError) as error:
                raise WindowOverflowError("", [f"values do not fit into 64 bits ({error})"], "Use a float.") from None
        return found

    def _encoded(
        self,
        tiles: _Tiles,
        last_tiled: Ints,
        ingested: Ints,
        now: int,
        variable: Mapping[int, tuple[bytes, int]],
        entities: int,
    ) -> list[bytes]:
        bounds = np.searchsorted(tiles.codes, np.arange(entities + 1))
        counts = np.diff(bounds)
        owners = np.flatnonzero(counts)
        first = bounds[:-1][owners]
        bases = np.zeros(entities, dtype=np.int64)
        bases[owners] = tiles.starts[first]
        offsets = tiles.starts - bases[tiles.codes]
        bits = np.zeros(entities, dtype=np.uint64)
        if len(first):
            for place, column in enumerate(tiles.records.fields):
                used = np.logical_or.reduceat(column != 0, first)
                bits[owners] |= np.where(used, np.uint64(1 << place), np.uint64(0))
            wide = np.maximum.reduceat(offsets, first) > _MOST_SECONDS
            bits[owners] |= np.where(wide, np.uint64(1 << WIDE), np.uint64(0))
        records: list[bytes] = [b""] * entities
        for pattern in np.unique(bits[owners]).tolist():
            members = owners[bits[owners] == np.uint64(pattern)]
            self._fill_in(pattern, members, bounds, offsets, tiles.records, records)
        values: list[bytes] = []
        pack, nothing, fingerprint = HEADER.pack, (b"", 0), self.schema.fingerprint
        last = np.where(counts > 0, last_tiled, 0)
        columns = (last, np.maximum(ingested, _NONE + 1), bases, bits, counts)
        for code, (event, at, base, pattern, count) in enumerate(
            zip(*(each.tolist() for each in columns), strict=True)
        ):
            more, single = variable.get(code, nothing)
            if count or single:
                head = pack(MAGIC, fingerprint, bytes(8), event, at, now, base, pattern, count, single)
                values.append(head + records[code] + more)
            else:
                values.append(b"")
        return values

    def _fill_in(
        self, pattern: int, members: Ints, bounds: Ints, offsets: Ints, made: Records, found: list[bytes]
    ) -> None:
        """Fills in the records of entities whose records have the same fields."""
        _, places = self.schema.record(pattern)
        form = numpy_form(self.schema, pattern)
        counts = (bounds[1:] - bounds[:-1])[members]
        before = np.cumsum(counts) - counts
        tiles = np.arange(int(counts.sum())) + np.repeat(bounds[:-1][members] - before, counts)
        array = np.zeros(len(tiles), dtype=form)
        array["start"] = offsets[tiles]
        for place in places:
            array[f"f{place}"] = made.fields[place][tiles]
        packed = array.tobytes()
        width = form.itemsize
        for code, begin, count in zip(members.tolist(), before.tolist(), counts.tolist(), strict=True):
            found[code] = packed[begin * width : (begin + count) * width]


_NONE = -(2**63)


def _greatest(codes: Ints, values: Ints, entities: int) -> Ints:
    """Returns the greatest value of each entity, given values in the order of the entities' codes."""
    found = np.full(entities, _NONE, dtype=np.int64)
    if len(codes):
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        found[codes[begins]] = np.maximum.reduceat(values, begins)
    return found
