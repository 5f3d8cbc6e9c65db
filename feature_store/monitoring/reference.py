"""What partitions are compared with: the baseline of a training set, else the group's own first weeks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from feature_store.monitoring.baseline import TOP_CATEGORIES, Profile
from feature_store.monitoring.profile import FeatureProfile, PartitionProfile
from feature_store.monitoring.quantiles import merged_deciles

FIRST_SEASONS = 4
"""Seasons (weeks of days, days of hours) of a group's own data that make a baseline where no training set has one."""

LEAST_PARTITIONS = 14
"""Partitions with rows below which a group has no baseline of its own."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one feature is compared with.

    Attributes:
        source: Where it comes from: `flight_delay v3`, or `first 28 partitions`.
        profile: The numbers, see `monitoring.baseline.Profile`.
    """

    source: str
    profile: Mapping[str, Any]


def first_weeks(profiles: Sequence[PartitionProfile], season: int) -> dict[str, Baseline]:
    """Returns a baseline per feature column of a group's first partitions, none if they are too few.

    Args:
        profiles: The group's partitions in order of time, from the end of its first look-back on.
        season: Partitions after which the group's series repeat.
    """
    filled = [profile for profile in profiles if profile.rows][: FIRST_SEASONS * season]
    if len(filled) < LEAST_PARTITIONS:
        return {}
    source = f"first {len(filled)} partitions"
    return {
        column: Baseline(source, merged([profile.features[column] for profile in filled if column in profile.features]))
        for column in filled[0].features
    }


def merged(profiles: Sequence[FeatureProfile]) -> Profile:
    """Returns the baseline profile of several partitions of one feature together."""
    rows, nulls = sum(profile.rows for profile in profiles), sum(profile.nulls for profile in profiles)
    baseline: Profile = {"n": rows, "nulls": nulls, "null_rate": nulls / rows if rows else 0.0}
    sketches = [profile.quantiles for profile in profiles if profile.quantiles is not None]
    if sketches:
        edges, counts = merged_deciles(sketches)
        known = [profile for profile in profiles if profile.mean is not None]
        mean, stddev = _moments([(each.known, each.mean, each.stddev) for each in known])
        baseline |= {
            "mean": mean,
            "stddev": stddev,
            "minimum": min(profile.minimum for profile in known if profile.minimum is not None),
            "maximum": max(profile.maximum for profile in known if profile.maximum is not None),
            "edges": edges,
            "counts": counts,
        }
    counted = [profile.categories for profile in profiles if profile.categories is not None]
    if counted:
        totals: dict[str, int] = {}
        for categories in counted:
            for name, count in categories.items():
                totals[name] = totals.get(name, 0) + count
        top = dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:TOP_CATEGORIES])
        baseline |= {"categories": top, "other": rows - nulls - sum(top.values())}
    vectors = [profile for profile in profiles if profile.centroid is not None and profile.known]
    if vectors:
        weights = [profile.known for profile in vectors]
        lengths = _moments([(each.known, each.norm_mean, each.norm_stddev) for each in vectors])
        baseline |= {
            "centroid": np.average([profile.centroid for profile in vectors], axis=0, weights=weights).tolist(),
            "norm_mean": lengths[0],
            "norm_stddev": lengths[1],
        }
    return baseline


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
