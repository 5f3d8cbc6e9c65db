"""One step of a sweep: the labels of a span of time meet its rows, and what the spans before it have left.

Arithmetic on arrays, without files, frames or threads. An entity is a code (see `entity_codes`), a time is UTC
microseconds, a row is known by a reference that only its reader understands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.point_in_time.entity_codes import FOREIGN, Codes

Integers = NDArray[np.int64]

NEVER = np.iinfo(np.int64).min
"""The event time of no row."""

_BITS = 63


@dataclass(frozen=True, slots=True)
class SpanRows:
    """The rows of a span of time, of rows of equal times the earlier file and row first.

    Attributes:
        codes: Entity codes; `FOREIGN` rows take no part.
        times: Event times.
        ingested: Ingestion times.
        first_reference: Reference of the first row; the others follow it one by one.
        end: All later rows, and all labels after those of this span, are of this time or later.
    """

    codes: Codes
    times: Integers
    ingested: Integers
    first_reference: int
    end: int


@dataclass(frozen=True, slots=True)
class Matches:
    """The latest row of each label of some labels.

    Attributes:
        times: Its event time, `NEVER` where there is no row.
        references: The row.
    """

    times: Integers
    references: Integers

    @classmethod
    def none(cls, count: int) -> Matches:
        """Returns the matches of labels that have none."""
        return cls(np.full(count, NEVER, np.int64), np.zeros(count, np.int64))

    def put(self, places: Integers, other: Matches) -> None:
        """Sets the matches of some labels."""
        self.times[places] = other.times
        self.references[places] = other.references


class Carry(Protocol):
    """What spans that are over leave to the labels of all later ones."""

    def find(self, codes: Codes, as_of: Integers) -> Matches:
        """Returns the latest rows of labels that are later than all spans that were met."""
        ...


class Sweep(Carry, Protocol):
    """Meets spans of time, one after the other, in their order."""

    def meet(self, rows: SpanRows, codes: Codes, as_of: Integers) -> Matches:
        """Returns the latest rows of the labels of a span, among its rows and those of the spans before it."""
        ...


class LatestSweep:
    """A sweep in which a row counts from its event time on. It carries the latest row of each entity.

    Args:
        entities: Number of entity codes.
    """

    def __init__(self, entities: int) -> None:
        self._carried = Matches.none(entities)
        self._slots = _Slots(entities)

    def meet(self, rows: SpanRows, codes: Codes, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        with_label = _labelled(rows)
        if not len(with_label):
            return self.find(codes, as_of)
        row_codes = rows.codes[with_label]
        ids = self._slots.assign(row_codes)
        keys, order = _by_precedence(ids, rows.times[with_label], rows.ingested[with_label])
        sources = with_label if order is None else with_label[order]
        found, hits = keys.search(self._slots.ids(codes), as_of)
        matches = self.find(codes, as_of)
        matches.put(hits, Matches(keys.times(found), sources[found] + rows.first_reference))
        last = keys.last_of_each_id()
        self._carried.put(rows.codes[sources[last]], Matches(keys.times(last), sources[last] + rows.first_reference))
        self._slots.release(row_codes)
        return matches

    def find(self, codes: Codes, as_of: Integers) -> Matches:
        """See `Carry.find`."""
        del as_of
        return Matches(self._carried.times[codes], self._carried.references[codes])


class StrictSweep:
    """A sweep in which a row counts from its event time or its ingestion on, whichever is later.

    A late row may come after labels that it is too late for, and before others. So more than one row of an entity is
    carried: those that will be the latest at some time to come.

    Args:
        entities: Number of entity codes.
        horizon: Time of the last label: what is ingested after it counts for none.
    """

    def __init__(self, entities: int, horizon: int) -> None:
        self._segments: list[_Segment] = []
        self._slots = _Slots(entities)
        self._horizon = horizon

    def meet(self, rows: SpanRows, codes: Codes, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        known = _labelled(rows)
        known = known[rows.ingested[known] <= self._horizon]
        if not len(known):
            return self.find(codes, as_of)
        row_codes = rows.codes[known]
        ids = self._slots.assign(row_codes)
        keys, order = _by_precedence(ids, rows.times[known], rows.ingested[known])
        sources = known if order is None else known[order]
        event_times = rows.times[sources]
        frontier, kept = _frontier(keys.all_ids(), np.maximum(event_times, rows.ingested[sources]))
        references = sources + rows.first_reference
        found, hits = frontier.search(self._slots.ids(codes), as_of)
        matches = self.find(codes, as_of)
        matches.put(hits, Matches(event_times[kept[found]], references[kept[found]]))
        by_code = kept[np.argsort(rows.codes[sources[kept]], kind="stable")]
        self._add(
            _Segment.of(
                rows.codes[sources[by_code]],
                np.maximum(event_times, rows.ingested[sources])[by_code],
                Matches(event_times[by_code], references[by_code]),
                rows.end,
            )
        )
        self._slots.release(row_codes)
        return matches

    def find(self, codes: Codes, as_of: Integers) -> Matches:
        """See `Carry.find`."""
        matches = Matches.none(len(codes))
        missing = np.arange(len(codes))
        for segment in reversed(self._segments):
            found, hits = segment.keys.search(codes[missing], as_of[missing])
            matches.put(missing[hits], Matches(segment.rows.times[found], segment.rows.references[found]))
            missing = np.delete(missing, hits)
        return matches

    def _add(self, segment: _Segment) -> None:
        # Segments at least double in size towards the oldest: there are few, and each row is merged a few times.
        self._segments.append(segment)
        while len(self._segments) > 1 and len(self._segments[-2].codes) < 2 * len(self._segments[-1].codes):
            newer, older = self._segments.pop(), self._segments.pop()
            self._segments.append(older.followed_by(newer))


class _Segment:
    """Rows of earlier spans that are, or will become, the latest of their entity: by entity, then by time to count."""

    def __init__(self, keys: _Keys, codes: Codes, counts_from: Integers, rows: Matches, end: int) -> None:
        self.keys = keys
        self.codes = codes
        self.counts_from = counts_from
        self.rows = rows
        self.end = end

    @classmethod
    def of(cls, codes: Codes, counts_from: Integers, rows: Matches, end: int) -> _Segment:
        """Returns the segment of rows in order of entity, then precedence, of which many may be superfluous."""
        # Whoever asks, asks as of `end` or later: of the rows that count by then, only the last one matters.
        keys, kept = _frontier(codes.astype(np.int64), np.maximum(counts_from, end))
        alone = np.append(keys.packed[1:] != keys.packed[:-1], [True])
        keys, kept = keys.only(alone), kept[alone]
        rows = Matches(rows.times[kept], rows.references[kept])
        return cls(keys, codes[kept], counts_from[kept], rows, end)

    def followed_by(self, newer: _Segment) -> _Segment:
        codes = np.concatenate([self.codes, newer.codes])
        order = np.argsort(codes, kind="stable")
        return _Segment.of(
            codes[order],
            np.concatenate([self.counts_from, newer.counts_from])[order],
            Matches(
                np.concatenate([self.rows.times, newer.rows.times])[order],
                np.concatenate([self.rows.references, newer.rows.references])[order],
            ),
            newer.end,
        )


class _Slots:
    """Numbers the entities of one span: few bits, and ascending where rows lie sorted by entity."""

    def __init__(self, entities: int) -> None:
        self._slots = np.full(entities, FOREIGN, np.int32)

    def assign(self, codes: Codes) -> Integers:
        """Returns the number of each row's entity: the place of its last row."""
        self._slots[codes] = np.arange(len(codes), dtype=np.int32)
        return self._slots[codes].astype(np.int64)

    def ids(self, codes: Codes) -> Integers:
        """Returns the numbers of labels' entities, negative for one without rows."""
        return self._slots[codes].astype(np.int64)

    def release(self, codes: Codes) -> None:
        self._slots[codes] = FOREIGN


class _Keys:
    """Pairs of an id and a time as single integers that order as the pairs do.

    Args:
        ids: Not negative.
        times: Any times; where the distance between them leaves too few bits for ids, their ranks stand for them.
    """

    def __init__(self, ids: Integers, times: Integers) -> None:
        self._base = int(times.min())
        self._last = int(times.max()) - self._base
        self._bits = self._last.bit_length()
        self._ranked: Integers | None = None
        offsets = times - self._base
        if self._bits + int(ids.max()).bit_length() > _BITS:
            self._ranked, offsets = np.unique(times, return_inverse=True)
            self._last = len(self._ranked) - 1
            self._bits = self._last.bit_length()
        self.packed = (ids << self._bits) | offsets

    def only(self, kept: Integers | NDArray[np.bool_]) -> _Keys:
        """Returns some of the keys."""
        some = object.__new__(_Keys)
        some._base, some._last, some._bits, some._ranked = self._base, self._last, self._bits, self._ranked
        some.packed = self.packed[kept]
        return some

    def search(self, ids: Integers | Codes, as_of: Integers) -> tuple[Integers, Integers]:
        """Finds, in ordered keys, the last one of each id at or before a time.

        Returns:
            Places of the keys found, and for which of the ids they are.
        """
        if self._ranked is None:
            offsets = np.minimum(as_of - self._base, self._last)
        else:
            offsets = np.searchsorted(self._ranked, as_of, side="right") - 1
        asked = np.flatnonzero((ids >= 0) & (offsets >= 0))
        wanted = ids[asked].astype(np.int64)
        places = np.searchsorted(self.packed, (wanted << self._bits) | offsets[asked], side="right") - 1
        hits = (places >= 0) & (self.packed[places] >> self._bits == wanted)
        return places[hits], asked[hits]

    def all_ids(self) -> Integers:
        return self.packed >> self._bits

    def times(self, places: Integers) -> Integers:
        offsets = self.packed[places] & ((1 << self._bits) - 1)
        return offsets + self._base if self._ranked is None else self._ranked[offsets]

    def last_of_each_id(self) -> Integers:
        """Returns places of the last key of each id, in ordered keys."""
        ids = self.all_ids()
        return np.flatnonzero(np.append(ids[1:] != ids[:-1], [True]))


def _labelled(rows: SpanRows) -> Integers:
    return np.flatnonzero(rows.codes >= 0)


def _by_precedence(ids: Integers, times: Integers, ingested: Integers) -> tuple[_Keys, Integers | None]:
    """Orders rows by entity, event time, ingestion, then place.

    Returns:
        Keys in that order, and the places of the rows in that order; None where they have it already, as rows of one
        file have that the store wrote.
    """
    keys = _Keys(ids, times)
    order = None
    packed = keys.packed
    if (packed[1:] < packed[:-1]).any():
        order = np.argsort(packed, kind="stable")
        packed = packed[order]
        ingested_in_order = ingested[order]
    else:
        ingested_in_order = ingested
    ties = np.flatnonzero(packed[1:] == packed[:-1])
    if (ingested_in_order[ties + 1] < ingested_in_order[ties]).any():
        order = np.lexsort((ingested, keys.packed))
    return (keys, None) if order is None else (keys.only(order), order)


def _frontier(ids: Integers, counts_from: Integers) -> tuple[_Keys, Integers]:
    """Finds out which rows are the latest of their entity at some time, and from when on.

    Args:
        ids: Entities of rows, in order of entity, then precedence.
        counts_from: When each begins to count.

    Returns:
        Keys of entity and time to count, ordered, and the places of the rows that they stand for.
    """
    keys = _Keys(ids, counts_from)
    order = np.argsort(keys.packed, kind="stable")
    # Places ascend with the entity and with precedence: a row is the latest when it counts if no greater place of
    # its entity, and so none at all, has counted before it.
    kept = order[np.maximum.accumulate(order) == order]
    return keys.only(kept), kept
