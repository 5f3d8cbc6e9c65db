"""Distances between distributions and between means. Plain arrays in, plain numbers out.

How large they are by chance is said in `chance`. Which rows are compared with which, and what is judged of it, does
not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from feature_store.errors import InvalidRequestError

Shares = NDArray[np.float64]

DRIFT_Z = 3.0
"""Standard errors beyond which `detect_drift` says that a mean has moved."""

_NORMAL_999 = 3.090232306167813
"""The 0.999 quantile of the standard normal distribution."""

ROUNDING = 1e-12
"""Relative distance below which two numbers are one: sums of many equal floats are off by their last digits."""

_HALF_ROW = 0.5
"""What an empty bin counts as, so that its logarithm exists."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether the mean of a sample has moved from a baseline's. True in a condition where it has.

    Attributes:
        feature_id: The registry's number of the feature, as given.
        drifted: Whether `z` exceeds 3.
        z: Distance of the means in standard errors of the sample's mean; 0 for an empty sample.
        mean: Mean of the sample's values that are not null; None where there is none, as of infinities of both signs.
        shift: Distance of the means in standard deviations of the baseline: how much it matters.
    """

    feature_id: int
    drifted: bool
    z: float
    mean: float | None
    shift: float

    def __bool__(self) -> bool:
        return self.drifted


def detect_drift(feature_id: int, current_sample: Any, baseline_mean: float, baseline_std: float) -> Drift:
    """Compares the mean of a sample with a baseline's.

    `z = |mean - baseline_mean| / (baseline_std / sqrt(n))`, and z > 3 is drift. The test is right for independent
    values. Rows of a day are not: use the checks of `monitoring.checks`, which know how much the days of a group differ
    anyway. Means that differ by rounding alone are equal, so that a constant does not drift from itself.

    Args:
        feature_id: The registry's number of the feature; returned with the answer.
        current_sample: Numbers; None and NaN are left out. A sample with an infinite value has drifted.
        baseline_mean: Mean of the baseline.
        baseline_std: Standard deviation of the baseline, 0 or more.

    Raises:
        InvalidRequestError: If the standard deviation is negative or a baseline number is not finite.
    """
    if not (np.isfinite(baseline_mean) and np.isfinite(baseline_std) and baseline_std >= 0):
        raise InvalidRequestError(
            f"Feature {feature_id} cannot be compared with a baseline of mean {baseline_mean} and standard deviation "
            f"{baseline_std}: both must be finite, the deviation 0 or more."
        )
    values = np.asarray(current_sample, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if not len(values):
        return Drift(feature_id, drifted=False, z=0.0, mean=None, shift=0.0)
    if np.isinf(values).any():
        signs = np.unique(values[np.isinf(values)])
        return Drift(feature_id, drifted=True, z=inf, mean=float(signs[0]) if len(signs) == 1 else None, shift=inf)
    mean = float(values.mean())
    distance = abs(mean - baseline_mean)
    if distance <= ROUNDING * max(abs(mean), abs(baseline_mean)):
        distance = 0.0
    shift = 0.0 if distance == 0 else distance / baseline_std if baseline_std else inf
    z = shift * sqrt(len(values))
    return Drift(feature_id, drifted=z > DRIFT_Z, z=z, mean=mean, shift=shift)


def psi(current: ArrayLike, baseline: ArrayLike) -> float:
    """Returns the population stability index of two sets of counts over the same bins.

    `sum((p - q) * ln(p / q))` over the bins' shares `p` and `q`: 0 for equal shares, symmetric, without bound. A bin
    that is empty on one side counts as half a row there; one that is empty on both sides says nothing, and is left out.
    """
    here, there = np.asarray(current, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    filled = (here > 0) | (there > 0)
    p, q = _shares(here[filled]), _shares(there[filled])
    return float(((p - q) * np.log(p / q)).sum())


def _shares(counts: Shares) -> Shares:
    smoothed = np.where(counts > 0, counts, _HALF_ROW)
    result: Shares = smoothed / smoothed.sum()
    return result


def null_term(nulls: float, rows: float, baseline_nulls: float, baseline_rows: float) -> float:
    """Returns what the nulls of two samples add to the index: that of the two bins null and not null."""
    if not rows or not baseline_rows:
        return 0.0
    return psi([nulls, rows - nulls], [baseline_nulls, baseline_rows - baseline_nulls])


def chi_square_quantile_999(degrees: int) -> float:
    """Returns the 0.999 quantile of the chi-square distribution, within 2 percent.

    The approximation of Wilson and Hilferty (1931): the cube root of a chi-square variable divided by its degrees of
    freedom is nearly normal. One degree is a squared normal variable, two are an exponential one.
    """
    if degrees < 1:
        return 0.0
    if degrees == 1:
        return 10.827566170662733
    if degrees == 2:  # noqa: PLR2004
        return -2 * log(0.001)
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + _NORMAL_999 * sqrt(spread)) ** 3)
