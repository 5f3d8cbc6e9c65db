"""One step of a sweep: the labels of a span of time meet its rows, and what the spans before it have left.

Arithmetic on arrays, without files, frames or threads. An entity is a code (see `entity_codes`), a time is UTC
microseconds, a row is known by a reference that only its reader understands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
        first_reference: Reference of the first row; those of the others follow it one by one.
        end: All later rows, and all labels after those of this span, are of this time or later.
        places: Where the rows are in the span, if they are not all of its rows in their order.
    """

    codes: Codes
    times: Integers
    ingested: Integers
    first_reference: int
    end: int
    places: Integers | None = None

    def only(self, kept: Integers) -> SpanRows:
        """Returns some of the rows."""
        places = _at(self.places, kept)
        return replace(
            self, codes=self.codes[kept], times=self.times[kept], ingested=self.ingested[kept], places=places
        )

    def references(self, rows: Integers) -> Integers:
        """Returns the references of some rows."""
        return _at(self.places, rows) + self.first_reference


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
        self._slots = _Slots(entities)

    def meet(self, rows: SpanRows, codes: Integers, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        matches = self.find(codes, as_of)
        if not len(rows.codes):
            return matches
        with self._slots.of(rows.codes) as ids:
            keys, order = _by_precedence(ids, rows)
            found, hits = keys.search(self._slots.ids(codes), as_of)
            matches.put(hits, Matches(keys.times(found), rows.references(_at(order, found))))
            last = keys.last_of_each_id()
            last_rows = _at(order, last)
            last_codes = rows.codes[last_rows]
            is_labelled = last_codes >= 0
            last, last_rows = last[is_labelled], last_rows[is_labelled]
            self._carried.put(last_codes[is_labelled].astype(np.int64), Matches(keys.times(last), rows.references(last_rows)))
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
        entities: Number of entity codes.
        horizon: Time of the last label: what is ingested after it counts for none.
    """

    def __init__(self, entities: int, horizon: int) -> None:
        self._segments: list[_Segment] = []
        self._slots = _Slots(entities)
        self._horizon = horizon

    def meet(self, rows: SpanRows, codes: Integers, as_of: Integers) -> Matches:
        """See `Sweep.meet`."""
        matches = self.find(codes, as_of)
        rows = rows.only(np.flatnonzero((rows.codes >= 0) & (rows.ingested <= self._horizon)))
        if not len(rows.codes):
            return matches
        with self._slots.of(rows.codes) as ids:
            keys, order = _by_precedence(ids, rows)
            if order is not None:
                rows = rows.only(order)
            counts_from = np.maximum(rows.times, rows.ingested)
            frontier, kept = _frontier(keys.ids(), counts_from)
            found, hits = frontier.search(self._slots.ids(codes), as_of)
            latest = kept[found]
            matches.put(hits, Matches(rows.times[latest], rows.references(latest)))
        kept = kept[np.argsort(rows.codes[kept], kind="stable")]
        carried = Matches(rows.times[kept], rows.references(kept))
        self._add(_Segment.of(rows.codes[kept], counts_from[kept], carried, rows.end))
        return matches

    def find(self, codes: Integers, as_of: Integers) -> Matches:
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
    """Numbers the entities of one span: few bits, and ascending where rows lie sorted by entity.

    Args:
        entities: Number of entity codes.
    """

    def __init__(self, entities: int) -> None:
        self._slots = np.full(entities, FOREIGN, np.int32)

    @contextmanager
    def of(self, codes: Codes) -> Iterator[Integers]:
        """Yields the number of each row's entity: that of its last run of rows. Runs without label have their own."""
        firsts = np.flatnonzero(np.append([True], codes[1:] != codes[:-1]))
        of_runs = codes[firsts]
        ids = np.arange(len(firsts))
        labelled = np.flatnonzero(of_runs >= 0)
        of_runs = of_runs[labelled].astype(np.int64)
        self._slots[of_runs] = labelled.astype(np.int32)
        ids[labelled] = self._slots[of_runs]
        yield np.repeat(ids, np.diff(firsts, append=len(codes)))
        self._slots[of_runs] = FOREIGN

    def ids(self, codes: Integers) -> Integers:
        """Returns the numbers of labels' entities, negative for one without rows."""
        return self._slots[codes].astype(np.int64)


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

    def ids(self) -> Integers:
        return self.packed >> self._bits

    def times(self, places: Integers) -> Integers:
        offsets = self.packed[places] & ((1 << self._bits) - 1)
        return offsets + self._base if self._ranked is None else self._ranked[offsets]

    def last_of_each_id(self) -> Integers:
        """Returns places of the last key of each id, in ordered keys."""
        ids = self.ids()
        return np.flatnonzero(np.append(ids[1:] != ids[:-1], [True]))


def _at(order: Integers | None, places: Integers) -> Integers:
    return places if order is None else order[places]


def _by_precedence(ids: Integers, rows: SpanRows) -> tuple[_Keys, Integers | None]:
    """Orders rows by entity, event time, ingestion, then place.

    Returns:
        Keys in that order, and the places of the rows in that order; None where they have it already, as rows of one
        file have that the store wrote.
    """
    keys = _Keys(ids, rows.times)
    order = None
    packed = keys.packed
    if (packed[1:] < packed[:-1]).any():
        order = np.argsort(packed, kind="stable")
        packed = packed[order]
    ties = np.flatnonzero(packed[1:] == packed[:-1])
    if (rows.ingested[_at(order, ties + 1)] < rows.ingested[_at(order, ties)]).any():
        order = np.lexsort((rows.ingested, keys.packed))
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
