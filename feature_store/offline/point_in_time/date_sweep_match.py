"""One step of a sweep: the labels of a span of time meet its rows, and what the spans before it have left.

Arithmetic on arrays, without files, frames or threads. An entity is a code (see `entity_codes`), a time is UTC
microseconds, a row is known by a reference that only its reader understands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.point_in_time.entity_codes import Codes

Integers = NDArray[np.int64]

NEVER = np.iinfo(np.int64).min
"""The event time of no row."""

_BITS = 63


@dataclass(frozen=True, slots=True)
class SpanRows:
    """The rows of a span of time, of rows of equal times the earlier file and row first.

    Attributes:
        codes: Entity codes; rows with a negative one take no part. Where rows lie sorted by key, codes ascend.
        times: Event times.
        ingested: Ingestion times.
        first_reference: Reference of the first row; those of the others follow it one by one.
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

    def at(self, places: Integers) -> Matches:
        """Returns the matches of some labels."""
        return Matches(self.times[places], self.references[places])

    def put(self, places: Integers, other: Matches) -> None:
        """Sets the matches of some labels."""
        self.times[places] = other.times
        self.references[places] = other.references


class Carry(Protocol):
    """What spans that are over leave to the labels of all later ones."""

    def find(self, codes: Integers, as_of: Integers) -> Matches:
        """Returns the latest rows of labels that are later than all spans that were met."""
        ...


class Sweep(Carry, Protocol):
    """Meets spans of time, one after the other, in their order."""

    def meet(self, rows: SpanRows, codes: Integers, as_of: Integers) -> Matches:
        """Returns the latest rows of the labels of a span, among its rows and those of the spans before it."""
        ...


class LatestSweep:
    """A sweep in which a row counts from its event time on. It carries the latest row of each entity.

    Args:
        entities: Number of entity codes.
    """

    def __init__(self, entities: int) -> None:
        self._carried = Matches.none(entities)

    def meet(self, rows: SpanRows, codes: Integers, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        matches = self.find(codes, as_of)
        labelled = np.flatnonzero(rows.codes >= 0)
        if len(labelled):
            keys, places = _by_precedence(rows, labelled)
            references = places + rows.first_reference
            found, hits = keys.search(codes, as_of)
            matches.put(hits, Matches(keys.times(found), references[found]))
            last = keys.last_of_each_id()
            self._carried.put(keys.ids(last), Matches(keys.times(last), references[last]))
        return matches

    def find(self, codes: Integers, as_of: Integers) -> Matches:
        """See `Carry.find`."""
        del as_of
        return Matches(self._carried.times[codes], self._carried.references[codes])


class StrictSweep:
    """A sweep in which a row counts from its event time or its ingestion on, whichever is later.

    A late row may come after labels that it is too late for, and before others. So more than one row of an entity is
    carried: those that will be the latest at some time to come.

    Args:
        horizon: Time of the last label: what is ingested after it counts for none.
    """

    def __init__(self, horizon: int) -> None:
        self._segments: list[_Segment] = []
        self._horizon = horizon

    def meet(self, rows: SpanRows, codes: Integers, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        matches = self.find(codes, as_of)
        known = np.flatnonzero((rows.codes >= 0) & (rows.ingested <= self._horizon))
        if len(known):
            keys, places = _by_precedence(rows, known)
            found_rows = Matches(rows.times[places], places + rows.first_reference)
            counts_from = np.maximum(found_rows.times, rows.ingested[places])
            frontier, kept = _frontier(keys.ids(), counts_from)
            found, hits = frontier.search(codes, as_of)
            matches.put(hits, found_rows.at(kept[found]))
            self._add(_Segment.of(frontier.ids(), counts_from[kept], found_rows.at(kept), rows.end))
        return matches

    def find(self, codes: Integers, as_of: Integers) -> Matches:
        """See `Carry.find`."""
        matches = Matches.none(len(codes))
        missing = np.arange(len(codes))
        for segment in reversed(self._segments):
            found, hits = segment.keys.search(codes[missing], as_of[missing])
            matches.put(missing[hits], segment.rows.at(found))
            missing = np.delete(missing, hits)
        return matches

    def _add(self, segment: _Segment) -> None:
        # Segments at least double in size towards the oldest: there are few, and each row is merged a few times.
        self._segments.append(segment)
        while len(self._segments) > 1 and len(self._segments[-2].ids) < 2 * len(self._segments[-1].ids):
            newer, older = self._segments.pop(), self._segments.pop()
            self._segments.append(older.followed_by(newer))


@dataclass(frozen=True, slots=True)
class _Segment:
    """Rows of earlier spans that are, or will become, the latest of their entity.

    Attributes:
        keys: Entity and time to count, but not before `end`: whoever asks, asks as of `end` or later.
        ids: Entities of the rows, in order.
        counts_from: When each row begins to count, in order for each entity.
        rows: The rows.
        end: End of the last span.
    """

    keys: _Keys
    ids: Integers
    counts_from: Integers
    rows: Matches
    end: int

    @classmethod
    def of(cls, ids: Integers, counts_from: Integers, rows: Matches, end: int) -> _Segment:
        """Returns the segment of rows in order of entity, then precedence, of which many may be superfluous."""
        keys, kept = _frontier(ids, np.maximum(counts_from, end))
        # Of the rows that count from the same time on, only the last one matters.
        is_last = np.append(keys.packed[1:] != keys.packed[:-1], [True])
        kept = kept[is_last]
        return cls(keys.only(is_last), ids[kept], counts_from[kept], rows.at(kept), end)

    def followed_by(self, newer: _Segment) -> _Segment:
        """Returns the one segment of these rows and those of later spans, which take precedence."""
        ids = np.concatenate([self.ids, newer.ids])
        order = np.argsort(ids, kind="stable")
        rows = Matches(
            np.concatenate([self.rows.times, newer.rows.times]),
            np.concatenate([self.rows.references, newer.rows.references]),
        )
        counts_from = np.concatenate([self.counts_from, newer.counts_from])
        return _Segment.of(ids[order], counts_from[order], rows.at(order), newer.end)


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

    def search(self, ids: Integers, as_of: Integers) -> tuple[Integers, Integers]:
        """Finds, in ordered keys, the last one of each id at or before a time.

        Returns:
            Places of the keys found, and for which of the ids they are.
        """
        if self._ranked is None:
            offsets = np.minimum(as_of - self._base, self._last)
        else:
            offsets = np.searchsorted(self._ranked, as_of, side="right") - 1
        asked = np.flatnonzero((ids >= 0) & (offsets >= 0))
        wanted = ids[asked]
        places = np.searchsorted(self.packed, (wanted << self._bits) | offsets[asked], side="right") - 1
        hits = (places >= 0) & (self.packed[places] >> self._bits == wanted)
        return places[hits], asked[hits]

    def ids(self, places: Integers | slice = slice(None)) -> Integers:
        return self.packed[places] >> self._bits

    def times(self, places: Integers) -> Integers:
        offsets = self.packed[places] & ((1 << self._bits) - 1)
        return offsets + self._base if self._ranked is None else self._ranked[offsets]

    def last_of_each_id(self) -> Integers:
        """Returns places of the last key of each id, in ordered keys."""
        ids = self.ids()
        return np.flatnonzero(np.append(ids[1:] != ids[:-1], [True]))


def _by_precedence(rows: SpanRows, kept: Integers) -> tuple[_Keys, Integers]:
    """Orders some rows by entity, event time, ingestion, then place.

    Returns:
        Keys of entity and event time in that order, and the places of the rows.
    """
    keys = _Keys(rows.codes[kept].astype(np.int64), rows.times[kept])
    # Rows of one file that the store wrote have this order already.
    if (keys.packed[1:] < keys.packed[:-1]).any():
        order = np.argsort(keys.packed, kind="stable")
        keys, kept = keys.only(order), kept[order]
    ties = np.flatnonzero(keys.packed[1:] == keys.packed[:-1])
    if (rows.ingested[kept[ties + 1]] < rows.ingested[kept[ties]]).any():
        # Keys stay as they are: only rows of equal keys change places. The sort is stable, places of equals ascend.
        kept = kept[np.lexsort((rows.ingested[kept], keys.packed))]
    return keys, kept


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
