"""A sketch of a column of numbers: its quantiles, and exactly how many values lie below and up to each.

Small enough to keep with every partition. From it come the counts in any bins, and the sketch of several partitions
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.monitoring.baseline import reach

Numbers = NDArray[np.float64]

_LEVELS = np.array([0, 0.01, *np.arange(1, 20) / 20, 0.99, 1])
"""Of any two neighbouring points, at most a twentieth of the values lies strictly between."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The distribution of some numbers.

    A share at a point is exact, one between two points is interpolated and off by less than a twentieth.

    Attributes:
        size: How many numbers were sketched.
        points: Numbers that occur, ascending, the least and the greatest among them.
        below: How many numbers are less than each point.
        through: How many are less or equal.
    """

    size: int
    points: tuple[float, ...]
    below: tuple[int, ...]
    through: tuple[int, ...]

    @classmethod
    def of(cls, ascending: Numbers) -> Quantiles | None:
        """Returns the sketch of sorted finite numbers, None if there are none."""
        size = len(ascending)
        if not size:
            return None
        positions = np.maximum(np.ceil(_LEVELS * size).astype(np.int64) - 1, 0)
        points = np.unique(ascending[positions])
        return cls(
            size=size,
            points=tuple(points.tolist()),
            below=tuple(np.searchsorted(ascending, points, side="left").tolist()),
            through=tuple(np.searchsorted(ascending, points, side="right").tolist()),
        )

    def through_shares(self, at: Numbers) -> Numbers:
        """Returns the shares of numbers that are less or equal, for each of some numbers."""
        points = np.asarray(self.points)
        place = np.searchsorted(points, at, side="right") - 1
        inside = np.clip(place, 0, None)
        following = np.clip(place + 1, None, len(points) - 1)
        start, end = points[inside], points[following]
        low = np.asarray(self.through, dtype=np.float64)[inside]
        high = np.maximum(np.asarray(self.below, dtype=np.float64)[following], low)
        width = np.where(end > start, end - start, 1.0)
        between = np.where(end > start, low + (high - low) * (at - start) / width, low)
        result: Numbers = np.where(place < 0, 0.0, between) / self.size
        return result

    def counts(self, edges: Sequence[float]) -> Numbers:
        """Returns how many of the numbers lie in bins: up to each edge, and above the last; fractions interpolated."""
        shares = self.through_shares(reach(edges))
        counts: Numbers = np.diff(shares, prepend=0.0, append=1.0) * self.size
        return counts


def merged_quantiles(sketches: Sequence[Quantiles], levels: Numbers) -> tuple[list[float], list[float]]:
    """Returns quantiles of several sketches' numbers together, without duplicates, and the counts in their bins.

    As in a baseline: values up to each edge, and above the last.
    """
    points = np.unique(np.concatenate([np.asarray(sketch.points) for sketch in sketches]))
    total = sum(sketch.size for sketch in sketches)
    through = sum((sketch.through_shares(points) * sketch.size for sketch in sketches), np.zeros(len(points)))
    places = np.searchsorted(through, levels * total - 1e-6)
    edges = np.unique(points[np.minimum(places, len(points) - 1)]).tolist()
    counts = sum((sketch.counts(edges) for sketch in sketches), np.zeros(len(edges) + 1))
    return edges, counts.tolist()
