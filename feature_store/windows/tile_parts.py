"""What values are built from, as columns: events in numbers, and the tiles of values that stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.errors import WindowOverflowError
from feature_store.windows.columns import Column
from feature_store.windows.extents import SECOND_MICROS
from feature_store.windows.states import Columns, plain_value
from feature_store.windows.tile_format import HEAD_BYTES, HEADER, HEADER_FIELDS, MAGIC, decode_tiles
from feature_store.windows.tile_records import NUMPY, EventColumn, Extra, Records
from feature_store.windows.tile_schema import WIDE, TileSchema

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


@dataclass(slots=True)
class Numbered:
    """Events with their columns as numbers, and one by one where they are needed so.

    Attributes:
        codes: The entities.
        times: Microseconds since 1970.
        columns: The columns that fields read.
        plain: Times and columns in plain values; None where nobody asks for them.
    """

    codes: Ints
    times: Ints
    columns: dict[str, EventColumn]
    plain: list[tuple[int, Columns] | None]


@dataclass(slots=True)
class Standing:
    """The tiles of values that stand.

    Attributes:
        codes: The entity of each tile.
        starts: Where it begins, seconds since 1970.
        records: What it holds.
        states: For each key of the schema the states of the tiles.
        owners: The entities of which a value stands, in order, and
        headers: the headers of their values.
        instants: The events that are kept one by one, with the codes of their entities.
    """

    codes: Ints
    starts: Ints
    records: Records
    states: list[list[Any]]
    owners: Ints
    headers: npt.NDArray[Any]
    instants: list[tuple[int, int, Columns]] = field(default_factory=list)


def number_columns(schema: TileSchema) -> list[str]:
    """Returns the columns that the fields of a schema read."""
    found: dict[str, None] = {}
    for each in schema.fields:
        found |= dict.fromkeys(column for column in (each.column, each.condition) if column is not None)
    return list(found)


def numbered(schema: TileSchema, dtypes: Mapping[str, Dtype], events: EntityEvents, since: int) -> Numbered:
    """Returns events with their columns as numbers.

    Args:
        schema: What will be read of them.
        dtypes: Dtypes of the columns.
        events: The events.
        since: Those after this instant may be asked for one by one.

    Raises:
        WindowOverflowError: If a decimal does not fit into 64 bits.
    """
    columns = {}
    for name in number_columns(schema):
        series = events.columns[name]
        columns[name] = EventColumn(_numbers(series, dtypes[name]), series.is_not_null().to_numpy())
    plain: list[tuple[int, Columns] | None] = [None] * len(events.times)
    places = np.arange(len(plain)) if schema.keys else np.flatnonzero(events.times > since)
    if len(places):
        at = pl.Series(places)
        parts = [_plain(events.columns[name].gather(at), dtypes[name]) for name in schema.columns]
        rows = zip(*parts, strict=True) if parts else ((),) * len(places)
        for place, time, row in zip(places.tolist(), events.times[places].tolist(), rows, strict=True):
            plain[place] = time, dict(zip(schema.columns, row, strict=True))
    return Numbered(events.codes, events.times, columns, plain)


def with_instants(schema: TileSchema, dtypes: Mapping[str, Dtype], standing: Standing, new: Numbered) -> Numbered:
    """Returns events and those that values keep one by one, sorted by entity and time; what comes anew is new."""
    if not standing.instants:
        return new
    owners = {code for code, _, _ in standing.instants}
    given = {pair for pair in zip(new.codes.tolist(), new.times.tolist(), strict=True) if pair[0] in owners}
    kept = [event for event in standing.instants if event[:2] not in given]
    if not kept:
        return new
    codes = np.concatenate([np.array([code for code, _, _ in kept], dtype=np.int64), new.codes])
    times = np.concatenate([np.array([time for _, time, _ in kept], dtype=np.int64), new.times])
    order = np.lexsort((times, codes))
    columns = {}
    for name, column in new.columns.items():
        values = [row[name] for _, _, row in kept]
        is_there = np.array([value is not None for value in values])
        is_text = dtypes[name].name == "string"
        numbers = np.array([0 if value is None or is_text else value for value in values], dtype=column.values.dtype)
        columns[name] = EventColumn(
            np.concatenate([numbers, column.values])[order], np.concatenate([is_there, column.is_there])[order]
        )
    del schema
    plain = [*((time, row) for _, time, row in kept), *new.plain]
    return Numbered(codes[order], times[order], columns, [plain[place] for place in order.tolist()])


def standing_tiles(schema: TileSchema, values: Sequence[bytes | None]) -> Standing:
    """Returns the tiles of values, one for each entity in the order of their codes; None where there is none.

    Raises:
        ValueError: If a value is none of the schema.
    """
    owners = np.array([code for code, raw in enumerate(values) if raw is not None], dtype=np.int64)
    raws = [raw for raw in values if raw is not None]
    headers = headers_of(raws)
    if (headers["head"] != np.void(MAGIC + schema.fingerprint)).any():
        raise ValueError("these are tiles of another schema")
    counts = headers["tiles"].astype(np.int64)
    ends = np.cumsum(counts)
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    states: list[list[Any]] = [[] for _ in schema.keys]
    extra: Extra = {}
    instants: list[tuple[int, int, Columns]] = []
    total = int(counts.sum())
    starts = np.zeros(total, dtype=np.int64)
    fields = [np.zeros(total, dtype=_WORKING[each.code]) for each in schema.fields]
    has_more = np.zeros(len(raws), dtype=bool)
    for bits in np.unique(headers["fields"]).tolist():
        members = np.flatnonzero(headers["fields"] == np.uint64(bits))
        record, places = schema.record(bits)
        own = counts[members]
        has_more[members] = lengths[members] > HEADER.size + record.size * own
        array = joined_records(
            schema, bits, [(raws[at], count) for at, count in zip(members.tolist(), own.tolist(), strict=True)]
        )
        stops = np.cumsum(own)
        at = np.arange(len(array)) + np.repeat((ends - counts)[members] - (stops - own), own)
        starts[at] = array["start"].astype(np.int64) + np.repeat(headers["base"][members], own)
        for place in places:
            fields[place][at] = array[f"f{place}"]
    for at in np.flatnonzero(has_more).tolist():
        tiles = decode_tiles(schema, raws[at])
        for column, known in zip(states, tiles.states, strict=True):
            column.extend(known)
        before = int(ends[at] - counts[at])
        extra |= {(place, before + tile): more for place, tile, more in tiles.sums}
        instants += [(int(owners[at]), time, columns) for time, columns in tiles.instants]
    return Standing(np.repeat(owners, counts), starts, Records(fields, extra), states, owners, headers, instants)


_HEAD = np.dtype(
    [
        ("head", f"V{HEAD_BYTES}"),
        *((name, {"q": "<i8", "Q": "<u8", "I": "<u4"}.get(code, f"V{code[:-1]}")) for name, code in HEADER_FIELDS[2:]),
    ]
)


def headers_of(raws: Sequence[bytes]) -> npt.NDArray[Any]:
    """Returns the headers of values: `head` is magic and fingerprint, the others as in `tile_format.Header`.

    Raises:
        ValueError: If a value is too short for one.
    """
    joined = b"".join([raw[: HEADER.size] for raw in raws])
    if len(joined) != HEADER.size * len(raws):
        raise ValueError("a value is too short for tiles")
    return np.frombuffer(joined, dtype=_HEAD)


_WORKING = {"I": np.int64, "q": np.int64, "d": np.float64, "i": np.int64, "b": np.int64}
"""What fields are computed in."""


def joined_records(schema: TileSchema, bits: int, values: Sequence[tuple[bytes, int]]) -> npt.NDArray[Any]:
    """Returns the records of values of one form, one after another, given each value and how many it has.

    Raises:
        ValueError: If a value is shorter than it says.
    """
    form = numpy_form(schema, bits)
    begin, width = HEADER.size, form.itemsize
    joined = b"".join([raw[begin : begin + width * count] for raw, count in values])
    if len(joined) != width * sum(count for _, count in values):
        raise ValueError("there are fewer tiles than the header says")
    return np.frombuffer(joined, dtype=form)


def numpy_form(schema: TileSchema, bits: int) -> np.dtype[Any]:
    """Returns the form of records with some of the fields, `start`, `f0`, `f3` and so on; see `TileSchema.record`."""
    _, places = schema.record(bits)
    parts = [("start", "<i8" if bits >> WIDE & 1 else "<u4")]
    return np.dtype([*parts, *((f"f{place}", NUMPY[schema.fields[place].code]) for place in places)])


def inside_of(starts: Ints) -> Ints:
    """Returns the first instant inside of tiles, microseconds since 1970, given where they begin in seconds."""
    return starts * SECOND_MICROS + 1


def _numbers(series: pl.Series, dtype: Dtype) -> npt.NDArray[Any]:
    """Returns a column as numbers, 0 for null."""
    if dtype.name == "decimal":
        return Column(dtype, series.fill_null(0)).whole
    if dtype.name == "string":
        # Of texts only whether they are there is counted; what they say is in states.
        return np.zeros(len(series), dtype=np.int64)
    if dtype.name == "bool":
        return series.fill_null(value=False).to_numpy().astype(np.int64)
    numbers = series.to_physical().fill_null(0).to_numpy()
    return numbers if numbers.dtype == np.float64 else numbers.astype(np.int64)


def _plain(series: pl.Series, dtype: Dtype) -> Sequence[Any]:
    if dtype.name in {"float", "int", "string", "bool"}:
        return series.to_list()
    try:
        return [plain_value(value, dtype) for value in series.to_list()]
    except OverflowError as error:
        raise WindowOverflowError("", [f"column {series.name!r}: {error}"], "Use a smaller scale=.") from None
