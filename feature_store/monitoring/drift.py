"""Distances between distributions, and how large they are by sampling alone. Plain arrays in, plain numbers out.

Which rows are compared with which, and what is judged of it, does not belong here.
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

_HALF_ROW = 0.5
"""What an empty bin counts as, so that its logarithm exists."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether the mean of a sample has moved from a baseline's. True in a condition where it has.

    Attributes:
        feature_id: The registry's number of the feature, as given.
        drifted: Whether `z` exceeds 3.
        z: Distance of the means in standard errors of the sample's mean; 0 for an empty sample.
        mean: Mean of the sample's values that are not null; None where there is none.
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
    anyway.

    Args:
        feature_id: The registry's number of the feature; returned with the answer.
        current_sample: Numbers; None and NaN are left out.
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
    mean = float(values.mean())
    distance = abs(mean - baseline_mean)
    shift = 0.0 if distance == 0 else distance / baseline_std if baseline_std else inf
    z = shift * sqrt(len(values))
    return Drift(feature_id, drifted=z > DRIFT_Z, z=z, mean=mean, shift=shift)


def shares(counts: ArrayLike) -> Shares:
    """Returns counts as shares of their sum along the last axis, an empty bin as half a row."""
    smoothed = np.asarray(counts, dtype=np.float64)
    smoothed = np.where(smoothed > 0, smoothed, _HALF_ROW)
    result: Shares = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return result


def psi(current: ArrayLike, baseline: ArrayLike) -> float:
    """Returns the population stability index of two sets of counts over the same bins.

    `sum((p - q) * ln(p / q))` over the bins' shares `p` and `q`: 0 for equal shares, symmetric, without bound.
    """
    p, q = shares(current), shares(baseline)
    return float(((p - q) * np.log(p / q)).sum())


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


def sampling_psi(bins: int, rows: float, baseline_rows: float) -> float:
    """Returns the index that two samples of one distribution stay below in 999 of 1,000 cases.

    `chi2(0.999, bins - 1) * (1 / n + 1 / m)`: under equal distributions the index is nearly that multiple of a
    chi-square variable (Yurdakul and Naranjo 2020).
    """
    if rows <= 0 or baseline_rows <= 0:
        return inf
    return chi_square_quantile_999(bins - 1) * (1 / rows + 1 / baseline_rows)


def two_proportion_z(hits: float, rows: float, baseline_hits: float, baseline_rows: float) -> float:
    """Returns by how many standard errors, of the pooled share, a share exceeds a baseline's; negative if less."""
    if rows <= 0 or baseline_rows <= 0:
        return 0.0
    pooled = (hits + baseline_hits) / (rows + baseline_rows)
    error = sqrt(pooled * (1 - pooled) * (1 / rows + 1 / baseline_rows))
    difference = hits / rows - baseline_hits / baseline_rows
    return difference / error if error else 0.0
