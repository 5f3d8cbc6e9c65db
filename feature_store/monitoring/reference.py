"""What partitions are compared with: the baseline of a training set, else the group's own first weeks.

**When a baseline holds enough.** With `m` values in `k` bins, chance alone moves the PSI of a baseline by nearly
`chi2(k - 1) / m` (Yurdakul and Naranjo 2020). A baseline holds enough if that stays below the feature's warning
threshold in 999 of 1,000 cases:

    m >= chi2(0.999, k - 1) / psi_warn        and        m >= 100

which is 281 values for the ten bins of a number at the default of 0.1. Nulls and infinities are no values, so neither 3
rows nor any number of nulls make a baseline. From 100 values on, the standard error of a mean, or of a centroid, is at
most a fifth of the half standard deviation (of the half radius) that matters. What does not hold enough takes the place
of nothing: an older training set that does, else the group's own weeks, remain the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.baseline import CUTS, DECILES, FORM, TOP_CATEGORIES, Profile, known_values, value_counts
from feature_store.monitoring.drift import chi_square_quantile_999
from feature_store.monitoring.profile import FeatureProfile, PartitionProfile
from feature_store.monitoring.quantiles import merged_quantiles

FIRST_SEASONS = 4
"""Seasons (weeks of days, days of hours) of a group's own data that make a baseline where no training set has one."""

LEAST_PARTITIONS = 14
"""Partitions with rows below which a group has no baseline of its own."""


LEAST_KNOWN = 100
"""Values below which nothing is a baseline."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one feature is compared with.

    Attributes:
        source: Where it comes from: `flight_delay v3`, or `first 28 partitions`.
        profile: The numbers, see `monitoring.baseline.Profile`.
    """

    source: str
    profile: Mapping[str, Any]


def shortage(profile: Mapping[str, Any], thresholds: Monitor) -> str | None:
    """Returns why a profile is no baseline, None if it is one; the rule is stated above.

    Args:
        profile: The profile.
        thresholds: Those of the feature.

    Returns:
        What it holds and what is needed, as the rest of a sentence.
    """
    if profile.get("form") != FORM:
        return "has a profile of an older version: build it again"
    bins = sum(count > 0 for count in value_counts(profile))
    needed = max(LEAST_KNOWN, ceil(chi_square_quantile_999(bins - 1) / thresholds.psi_warn))
    known = known_values(profile)
    if known >= needed:
        return None
    kinds = ("null", profile["nulls"]), ("infinite", profile["infinite"])
    beside = "".join(f", {count:,} {kind}" for kind, count in kinds if count)
    return f"holds {known:,} values ({profile['n']:,} rows{beside}), {needed:,} are needed"


def first_weeks(
    profiles: Sequence[PartitionProfile], season: int, thresholds: Mapping[str, Monitor]
) -> dict[str, Baseline]:
    """Returns the baselines of a group's first partitions, of those features that have values enough in them.

    Args:
        profiles: Partitions in order of time, from the end of the group's first look-back on.
        season: Partitions after which the group's series repeat.
        thresholds: Thresholds by feature column, of the features to look for.
    """
    found = {}
    for column, monitor in thresholds.items():
        own = [profile.features[column] for profile in profiles if profile.rows and column in profile.features]
        own = own[: FIRST_SEASONS * season]
        if len(own) < LEAST_PARTITIONS:
            continue
        profile = merged(own)
        if shortage(profile, monitor) is None:
            found[column] = Baseline(f"first {len(own)} partitions", profile)
    return found


def merged(profiles: Sequence[FeatureProfile]) -> Profile:
    """Returns the baseline profile of several partitions of one feature together."""
    rows, nulls = sum(profile.rows for profile in profiles), sum(profile.nulls for profile in profiles)
    baseline: Profile = {
        "form": FORM,
        "n": rows,
        "nulls": nulls,
        "null_rate": nulls / rows if rows else 0.0,
        "infinite": sum(profile.infinite for profile in profiles),
    }
    sketches = [profile.quantiles for profile in profiles if profile.quantiles is not None]
    if sketches:
        edges, counts = merged_quantiles(sketches, DECILES)
        cuts, cut_counts = merged_quantiles(sketches, CUTS)
        known = [profile for profile in profiles if profile.mean is not None]
        mean, stddev = _moments([(each.known, each.mean, each.stddev) for each in known])
        baseline |= {
            "mean": mean,
            "stddev": stddev,
            "minimum": min(profile.minimum for profile in known if profile.minimum is not None),
            "maximum": max(profile.maximum for profile in known if profile.maximum is not None),
            "edges": edges,
            "counts": counts,
            "cuts": cuts,
            "cut_counts": cut_counts,
        }
    counted = [profile.categories for profile in profiles if profile.categories is not None]
    if counted:
        totals: dict[str, int] = {}
        for categories in counted:
            for name, count in categories.items():
                totals[name] = totals.get(name, 0) + count
        top = dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:TOP_CATEGORIES])
        buckets = np.sum([profile.buckets for profile in profiles if profile.buckets is not None], axis=0).tolist()
        baseline |= {"categories": top, "other": rows - nulls - sum(top.values()), "buckets": buckets}
    vectors = [profile for profile in profiles if profile.centroid is not None and profile.known]
    if vectors:
        weights = [profile.known for profile in vectors]
        lengths = _moments([(each.known, each.norm_mean, each.norm_stddev) for each in vectors])
        baseline |= {
            "centroid": np.average([profile.centroid for profile in vectors], axis=0, weights=weights).tolist(),
            "norm_mean": lengths[0],
            "norm_stddev": lengths[1],
        }
    elements = [profile.elements for profile in profiles if profile.elements is not None]
    return baseline | ({"elements": merged(elements)} if elements else {})


def _moments(parts: Sequence[tuple[int, float | None, float | None]]) -> tuple[float | None, float | None]:
    """Returns mean and sample standard deviation of groups of values, each given by size, mean and deviation."""
    known = [(size, mean, deviation or 0.0) for size, mean, deviation in parts if mean is not None and size]
    total = sum(size for size, _, _ in known)
    if not total:
        return None, None
    mean = sum(size * each for size, each, _ in known) / total
    if total < 2:  # noqa: PLR2004
        return mean, None
    squares = sum((size - 1) * deviation**2 + size * (each - mean) ** 2 for size, each, deviation in known)
    return mean, sqrt(squares / (total - 1))
