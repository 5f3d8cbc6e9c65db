"""Reads of several callers in one round trip: each has features, entities and an answer of its own.

What one read asks, and how its answer is decoded, is `prepared`'s business; who waits for whom is `coalescing`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from feature_store.errors import FeatureStoreError
from feature_store.online.layout import RowAheadError
from feature_store.online.reading.prepared import Form, PreparedRead, Replies
from feature_store.online.schemas import UnknownSchemaError


class SharedRead(NamedTuple):
    """One of the reads that share a round trip.

    Attributes:
        prepared: Its features.
        entity_ids: Its entities.
        form: What its answer is made of.
    """

    prepared: PreparedRead
    entity_ids: Sequence[str]
    form: Form = "values"


Answer = Any
"""The answer to one read in its form, or a `FeatureStoreError` that is its own and spoils no other."""


def read_together(reads: Sequence[SharedRead]) -> list[Answer]:
    """Answers reads of one online store, in order, with one round trip.

    Raises:
        OnlineStoreError: If the server does not answer, or refuses.
    """
    batch = _Batch(reads)
    for prepared in dict.fromkeys(read.prepared for read in reads):
        prepared.look()
    batch.decode(reads[0].prepared.fetch(batch.units))
    for position in batch.unknown:
        read = reads[position]
        try:
            batch.answers[position] = read.prepared.read(read.form, read.entity_ids)
        except FeatureStoreError as error:
            batch.answers[position] = error
    return batch.answers


async def aread_together(reads: Sequence[SharedRead]) -> list[Answer]:
    """Does what `read_together` does, without blocking the event loop."""
    batch = _Batch(reads)
    # Most requests ask for the same features, and to look once is enough.
    for prepared in dict.fromkeys(read.prepared for read in reads):
        await prepared.alook()
    batch.decode(await reads[0].prepared.afetch(batch.units))
    for position in batch.unknown:
        read = reads[position]
        try:
            batch.answers[position] = await read.prepared.aread(read.form, read.entity_ids)
        except FeatureStoreError as error:
            batch.answers[position] = error
    return batch.answers


class _Batch:
    """The keys of all reads, and what each is answered so far.

    Attributes:
        units: What to fetch.
        answers: One per read.
        unknown: Positions of the reads that met rows of another schema, or ahead of the clock, and ask once more.
    """

    def __init__(self, reads: Sequence[SharedRead]) -> None:
        self.units: list[list[str]] = []
        self.answers: list[Answer] = []
        self.unknown: list[int] = []
        self._spans: list[tuple[int, SharedRead, int]] = []
        for position, read in enumerate(reads):
            self.answers.append(None)
            try:
                units = read.prepared.units(read.entity_ids)
            except FeatureStoreError as error:
                self.answers[position] = error
                continue
            self.units += units
            self._spans.append((position, read, sum(map(len, units))))

    def decode(self, replies: Replies) -> None:
        """Takes the values of all keys, in order."""
        start = 0
        for position, read, width in self._spans:
            end = start + width
            try:
                self.answers[position] = read.prepared.decode(read.form, read.entity_ids, replies[start:end])
            except (UnknownSchemaError, RowAheadError):
                self.unknown.append(position)
            except FeatureStoreError as error:
                self.answers[position] = error
            start = end
