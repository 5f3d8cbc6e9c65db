"""What all watchers share. A watcher is fed with one feature's partitions in order, and judges the newest.

Three questions decide, and all must be answered by yes. Does it matter: is the change large against the baseline, what
a model was trained on? Is it news: is it larger than what the partitions before have shown anyway? Is it more than
chance: would rows drawn from the baseline's own distribution hardly ever look like this? The first alone is alarmed by
every season, the second alone by every trifle, and both together by small partitions and long tails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.monitoring.chance import differs
from feature_store.monitoring.expectation import LEAST, NEW_NORMAL, WINDOW
from feature_store.monitoring.findings import Finding
from feature_store.monitoring.profile import FeatureProfile

LEAST_VALUES = 20
"""Values below which a partition's distribution is not judged."""

NEWS_FACTOR = 4.0
"""How many times the greatest distance of the window a distance must be to be news."""

SCALE_FACTOR = 1.5
"""By which factor a spread, a length or a number of rows must have changed to matter."""

MEAN_SHIFT = 0.5
"""Standard deviations of the baseline by which a mean must have moved to matter."""

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher says of one partition.

    Attributes:
        finding: What is wrong, if anything.
        numbers: Numbers to plot, by name.
        current: Counts of the partition's values in the baseline's bins, for a picture.
    """

    finding: Finding | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    current: Sequence[float] = ()


class Watcher(Protocol):
    """Judges one feature's partitions, one after the other."""

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        ...

    def skip(self) -> None:
        """Passes over a partition that does not exist, or has too few values."""
        ...


class Pool:
    """Distributions of the window's sound partitions, how far each was from those before it, and from the baseline."""

    def __init__(self) -> None:
        self._members: deque[Counts] = deque(maxlen=WINDOW)
        self._distances: deque[float] = deque(maxlen=WINDOW)
        self._aways: deque[float] = deque(maxlen=WINDOW)
        self._rejected = 0

    def mean(self) -> Counts | None:
        """Returns the mean of the members, None while they are too few."""
        return np.mean(self._members, axis=0) if len(self._members) >= LEAST // 2 else None

    def is_news(self, distance: float | None, away: float) -> bool:
        """Tells whether a partition differs from those before it, and more from the baseline than any of them."""
        return (
            distance is not None
            and len(self._distances) >= LEAST // 2
            and distance > NEWS_FACTOR * max(self._distances)
            and away > max(self._aways)
        )

    def push(self, member: Counts, distance: float | None, away: float, *, failed: bool) -> None:
        """Takes in a partition; one that failed only if such have come for `NEW_NORMAL` partitions on end."""
        self._rejected = self._rejected + 1 if failed else 0
        if failed and self._rejected < NEW_NORMAL:
            return
        if failed:
            self._members.clear()
            self._distances.clear()
            self._aways.clear()
        self._members.append(member)
        self._aways.append(away)
        if distance is not None:
            self._distances.append(distance)


def differs_by_entities(
    counts: Counts, baseline: Counts, level: float, *, rows: int, entities: int, ordered: bool
) -> bool:
    """Tells whether counts differ from a baseline's by more than chance, rows of one entity counted as one.

    Three weather stations cannot fill ten deciles, whatever they report hourly.
    """
    weight = min(1.0, entities / rows) if rows else 0.0
    return differs((counts * weight).tolist(), baseline.tolist(), level, ordered=ordered)


def ratio(difference: float, spread: float) -> float:
    """Returns a difference in units of a spread, which may be 0."""
    if spread > 0:
        return difference / spread
    return 0.0 if difference == 0 else inf if difference > 0 else -inf
