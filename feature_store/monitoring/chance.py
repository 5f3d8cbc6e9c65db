"""What chance alone does to shares and distributions: tests that are exact at any size. Counts in, probabilities out.

All checks take their level from here, so that their false alarms are bounded in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, floor, lgamma

import numpy as np

FALSE_ALARMS = 1e-5
"""Share of partitions that one check may alarm on by chance, while nothing has changed; of all its features together.

It is divided by the number of features, and within a feature by the number of its tests (Bonferroni): whatever depends
on what, the bound holds.
"""

_SURE = 1e-6
"""Interpolated counts are whole numbers to this accuracy."""


def excess_chance(hits: float, rows: float, baseline_hits: float, baseline_rows: float) -> float:
    """Returns a bound of the probability that chance alone gives a sample so many hits, or more.

    Given the hits of both samples together, those of the first follow the hypergeometric distribution, whatever the
    share is (Fisher's exact test, one-sided). From `hits` on its terms shrink at least as fast as a geometric series
    that starts with the first two of them, whose sum is the bound. So it is never below the exact value, at any number
    of rows, and close to it far out, where alarms begin.

    Args:
        hits: Rows of the sample that have the property. Fractions, as interpolation gives them, are rounded to the side
            of less evidence.
        rows: Rows of the sample.
        baseline_hits: Likewise of the baseline.
        baseline_rows: Rows of the baseline.
    """
    drawn, known = ceil(rows - _SURE), floor(baseline_rows + _SURE)
    found = min(floor(hits + _SURE), drawn)
    marked = found + min(ceil(baseline_hits - _SURE), known)
    total = drawn + known
    if found <= 0 or known <= 0 or found * total <= drawn * marked:
        return 1.0
    unmarked = total - marked
    missed = drawn - found
    first = exp(_choices(marked, found) + _choices(unmarked, missed) - _choices(total, drawn))
    ratio = (marked - found) * missed / ((found + 1) * (unmarked - missed + 1))
    return min(1.0, first / (1 - ratio))


def differs(current: Sequence[float], baseline: Sequence[float], level: float, *, ordered: bool) -> bool:
    """Tells whether two samples over the same bins differ by more than chance.

    Each share is tested by itself, for being greater and for being less, at the level's part: the share up to each
    edge where bins have an order (the distance of Kolmogorov and Smirnov, at the edges and with exact tails), else
    that of each bin. Unlike the chi-square test it needs no bin to be full.

    Args:
        current: Counts of the sample.
        baseline: Counts of the baseline.
        level: Probability of a wrong yes, if both come from one distribution.
        ordered: Whether the bins are intervals in ascending order.
    """
    here, there = np.asarray(current, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    rows, baseline_rows = float(here.sum()), float(there.sum())
    if ordered:
        here, there = here.cumsum()[:-1], there.cumsum()[:-1]
    each = level / (2 * max(len(here), 1))
    return any(
        excess_chance(hits, rows, before, baseline_rows) <= each
        or excess_chance(rows - hits, rows, baseline_rows - before, baseline_rows) <= each
        for hits, before in zip(here.tolist(), there.tolist(), strict=True)
    )


def _choices(size: int, chosen: int) -> float:
    """Returns the logarithm of the number of ways to choose some of a set."""
    return lgamma(size + 1) - lgamma(chosen + 1) - lgamma(size - chosen + 1)
