"""Rows by entity, in memory: what a few entities have is found without a look at all the others.

Rows lie in segments, each sorted by a hash of the join keys, so a lookup is a binary search in each. Segments are never
changed: new rows make a new one, and neighbours of like size are merged, so that there are few. What is older lies in
front.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

_HASH = "_hash"
Merge = Callable[[pl.DataFrame], pl.DataFrame]


def _unchanged(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows sorted by the hash of their keys, those of one entity in order of arrival.

    Attributes:
        name: A name that no other segment has.
        rows: The rows.
        hashes: Hash of each row's keys, ascending.
    """

    name: str
    rows: pl.DataFrame
    hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]

    @classmethod
    def of(cls, rows: pl.DataFrame, keys: Sequence[str], name: str = "") -> Segment:
        """Returns a segment of some rows, in order of arrival."""
        hashes = _hashes(rows, keys)
        order = np.argsort(hashes, kind="stable")
        return cls(name or uuid.uuid4().hex, rows[order], hashes[order])

    def of_hashes(self, wanted: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> pl.DataFrame:
        """Returns the rows with one of some hashes, each given once."""
        first = np.searchsorted(self.hashes, wanted, "left")
        counts = np.searchsorted(self.hashes, wanted, "right") - first
        total = int(counts.sum())
        if not total:
            return self.rows.clear()
        ends = np.cumsum(counts)
        positions = np.arange(total) + np.repeat(first - (ends - counts), counts)
        found: pl.DataFrame = self.rows[positions]
        return found


@dataclass(slots=True)
class KeyedLog:
    """Rows by entity, the older ones first.

    Attributes:
        keys: The join keys.
        merge: What becomes of the rows of segments that are merged.
        segments: The segments, older rows before newer ones.
    """

    keys: list[str]
    merge: Merge = _unchanged
    segments: list[Segment] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Number of rows that are held."""
        return sum(segment.rows.height for segment in self.segments)

    @property
    def size(self) -> int:
        """Bytes that are held, estimated."""
        return int(sum(segment.rows.estimated_size() + segment.hashes.nbytes for segment in self.segments))

    def add(self, rows: pl.DataFrame) -> None:
        """Adds rows, newer than all that are there."""
        if rows.is_empty():
            return
        self.segments.append(Segment.of(rows, self.keys))
        # Sizes stay powers apart: few segments to look through, few copies.
        while len(self.segments) > 1 and self.segments[-1].rows.height * 2 > self.segments[-2].rows.height:
            newer, older = self.segments.pop(), self.segments.pop()
            merged = self.merge(pl.concat([older.rows, newer.rows]))
            if merged.height:
                self.segments.append(Segment.of(merged, self.keys))

    def of(self, entities: pl.DataFrame) -> list[pl.DataFrame]:
        """Returns the rows of some entities, older ones in front.

        Args:
            entities: Join keys.
        """
        wanted = np.unique(_hashes(entities, self.keys))
        found = (segment.of_hashes(wanted) for segment in self.segments)
        # Different keys may have one hash.
        return [rows.join(entities, on=self.keys, how="semi", maintain_order="left") for rows in found if rows.height]


def _hashes(rows: pl.DataFrame, keys: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    key = pl.col(keys[0]) if len(keys) == 1 else pl.struct(keys)
    return rows.select(key.hash().alias(_HASH))[_HASH].to_numpy()
