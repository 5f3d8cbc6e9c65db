"""Which tile an event belongs to: finer for young events, coarser for old ones, none for what no window can hold.

A tile covers `(start, end]`, one step of time; it is inside a window if its start is not before the window's tail. As
tails move in hops and hops are counted from midnight, a tile of one hop is never cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from feature_store.windows.extents import SECOND_MICROS, Extent

Ints = npt.NDArray[np.int64]

LAG_MICROS = 300 * SECOND_MICROS
"""How far a reader's clock may stand behind the writer's."""

INSTANTS_WITHIN_LAG = 32
"""So many events of the last minutes are kept one by one; where there are more, only those of the last seconds are."""

YOUNG_MICROS = 5 * SECOND_MICROS
MOST_INSTANTS = 1000
"""How many past events of one entity are kept one by one at most."""

EVER_STEP = 0
"""Step of the one tile that holds what only windows over the whole life still see."""


@dataclass(frozen=True, slots=True)
class TileSteps:
    """The steps of tiles by age.

    Attributes:
        reaches: Ages in order: an event younger than one of them is needed by windows of that reach and longer ones.
        steps: The step of events below each age, and last of those beyond all: `EVER_STEP`, or -1 for none.
    """

    reaches: Ints
    steps: Ints

    @classmethod
    def of(cls, extents: Iterable[Extent]) -> Self:
        """Returns the steps for windows of some extents."""
        given = set(extents)
        finite = sorted((each.length + each.hop, each.hop) for each in given if each.length and each.hop)
        # Tails of all windows that still hold an event lie on multiples of the greatest step that divides their hops.
        steps = [math.gcd(*(hop for _, hop in finite[place:])) for place in range(len(finite))]
        beyond = EVER_STEP if any(each.length is None for each in given) else -1
        return cls(np.array([reach for reach, _ in finite], np.int64), np.array([*steps, beyond], np.int64))

    def tiles(self, codes: Ints, times: Ints, ages: Ints) -> tuple[Ints, Ints]:
        """Returns for each record, sorted by entity and time, the number of its tile and where that tile begins.

        Args:
            codes: The entities.
            times: Times of events, or times inside of finer tiles, microseconds since 1970.
            ages: How old each is for the reader whose clock stands behind most; for a tile, how old its begin is.

        Returns:
            The tile of each record, from 0 on, -1 for records that no window can hold any more; and the start of each
            tile, seconds since 1970.
        """
        steps = self.steps[np.searchsorted(self.reaches, ages, "right")]
        kept = steps >= 0
        # What only windows over the whole life see begins before its first event: out of the sight of all others.
        starts = (times - 1) // np.where(steps > 0, steps, SECOND_MICROS) * np.maximum(steps, SECOND_MICROS)
        begins = np.ones(len(times), dtype=bool)
        if len(times) > 1:
            same = (codes[1:] == codes[:-1]) & (steps[1:] == steps[:-1])
            begins[1:] = ~(same & ((starts[1:] == starts[:-1]) | (steps[1:] == EVER_STEP)))
        begins &= kept
        return np.where(kept, np.cumsum(begins) - 1, -1), starts[begins] // SECOND_MICROS


def kept_as_instants(codes: Ints, times: Ints, now: int) -> npt.NDArray[np.bool_]:
    """Returns which events, sorted by entity and time, are kept one by one: some reader may not have reached them.

    Args:
        codes: The entities.
        times: Microseconds since 1970.
        now: The writer's instant.
    """
    recent = times > now - LAG_MICROS
    if not recent.any():
        return recent
    places = np.flatnonzero(recent)
    _, group, counts = np.unique(codes[places], return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    crowded = counts[group] > INSTANTS_WITHIN_LAG
    # From the newest on: how many of the entity's past events are later.
    past = times[places] <= now
    ends = np.cumsum(np.bincount(group, weights=past).astype(np.int64))
    later = ends[group] - np.cumsum(past)
    some = ~past | ((later < MOST_INSTANTS) & (times[places] > now - YOUNG_MICROS))
    kept = np.where(crowded, some, True)
    recent[places] = kept
    return recent
