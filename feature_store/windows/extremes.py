"""The greatest or least value of ranges of a column, for any number of ranges at once.

Level k holds the extreme of each 2^k neighbours. A range of at least 2^k and less than 2^(k+1) values is covered by two
entries of level k, which may overlap. Each level is made of the one below, answers the ranges of its length, and is
thrown away. (M. Bender, M. Farach-Colton, "The LCA problem revisited", 2000: the sparse table.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


def range_extremes(values: Column, begins: Ints, ends: Ints, *, greatest: bool) -> tuple[Column, npt.NDArray[np.bool_]]:
    """Returns the extreme of `values[begin:end]` of each range, and whether it has one: empty ranges have none.

    Args:
        values: Numbers, or times as integers.
        begins: First position of each range.
        ends: Position after its last.
        greatest: Whether the greatest is sought, else the least.
    """
    pick = np.maximum if greatest else np.minimum
    lengths = ends - begins
    found = np.zeros(len(begins), dtype=values.dtype)
    # Ranges by the level that answers them: one sort instead of a look at all of them on each level.
    levels = np.frexp(lengths.astype(np.float64))[1] - 1
    order = np.argsort(levels, kind="stable")
    firsts = np.searchsorted(levels[order], np.arange(int(levels.max(initial=-1)) + 2))
    level = values
    for number in range(len(firsts) - 1):
        asked = order[firsts[number] : firsts[number + 1]]
        width = 1 << number
        if len(asked):
            found[asked] = pick(level[begins[asked]], level[ends[asked] - width])
        if len(level) > width:
            level = pick(level[:-width], level[width:])
    return found, lengths > 0
