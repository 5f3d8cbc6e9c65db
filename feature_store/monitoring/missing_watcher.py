"""Nulls and infinities of one feature: are there more of them than in the baseline, and than expected?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import inf, sqrt
from typing import Any

from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.chance import excess_chance
from feature_store.monitoring.expectation import NEW_NORMAL, WINDOW, Series
from feature_store.monitoring.findings import Finding, Level
from feature_store.monitoring.profile import FeatureProfile
from feature_store.monitoring.watching import LEAST_VALUES, ratio

NULL_Z = 4.0
"""Forecast errors by which a share of nulls must be off to be a spike."""


class MissingWatcher:
    """Judges the nulls and infinities of one feature's partitions, one after the other.

    Infinities are told by themselves: where the baseline has none the first of them, else a share that chance does not
    explain. Otherwise they count as nulls: a spike of both together is told once it matters, is news and is no chance.
    Until there is a baseline, the sound partitions before take its place.

    Args:
        column: The feature's column.
        thresholds: Its thresholds.
        season: Partitions after which series repeat.
        level: Probability of a false alarm that it may have.
    """

    def __init__(self, column: str, thresholds: Monitor, season: int, level: float) -> None:
        self._column = column
        self._thresholds = thresholds
        self._level = level / 2  # for infinities, and for both together
        self._baseline: Mapping[str, Any] | None = None
        self._before: deque[FeatureProfile] = deque(maxlen=WINDOW)
        self._series = Series(season)
        self._infinite_on_end = 0

    def establish(self, baseline: Mapping[str, Any]) -> None:
        """Takes a baseline, see `monitoring.baseline.Profile`."""
        self._baseline = baseline

    def see(self, profile: FeatureProfile, entities: int) -> Finding | None:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        finding = self._infinities(profile) or self._spike(profile, entities)
        self._series.push(profile.missing_rate, failed=finding is not None)
        if finding is None:
            self._before.append(profile)
        return finding

    def skip(self) -> None:
        """Passes over a partition that does not exist."""
        self._series.push(None)

    def _usual(self) -> tuple[int, int, int]:
        """Returns the nulls, infinities and rows that a partition is compared with."""
        if self._baseline is not None:
            return self._baseline["nulls"], self._baseline["infinite"], self._baseline["n"]
        return (
            sum(profile.nulls for profile in self._before),
            sum(profile.infinite for profile in self._before),
            sum(profile.rows for profile in self._before),
        )

    def _infinities(self, profile: FeatureProfile) -> Finding | None:
        _, usual, rows = self._usual()
        chance = excess_chance(profile.infinite, profile.rows, usual, rows)
        if not profile.infinite or self._thresholds.infinite or (usual and chance > self._level):
            self._infinite_on_end = 0
            return None
        self._infinite_on_end += 1
        if self._infinite_on_end > NEW_NORMAL:
            return None
        level: Level = "alert" if chance <= self._level else "warn"
        before = f"{usual / rows:.1%} in the baseline" if rows else "and nothing to compare with"
        return Finding(
            "infinite",
            level,
            f"{self._column}: {profile.infinite:,} of {profile.rows:,} values are infinite ({profile.infinite_rate:.1%}"
            f", {before})",
            self._column,
        )

    def _spike(self, profile: FeatureProfile, entities: int) -> Finding | None:
        nulls, infinities, rows = self._usual()
        forecast = self._series.forecast()
        is_empty = not profile.known
        if not rows or (not is_empty and (forecast is None or profile.rows < LEAST_VALUES)):
            return None
        rate, usual = profile.missing_rate, (nulls + infinities) / rows
        expected, news = usual, inf
        if forecast is not None:
            expected = forecast.value
            # Nulls come in bursts of whole entities: quiet weeks say less than the baseline's share of them.
            spread = max(forecast.spread, sqrt(usual * (1 - usual) / max(entities, 1)))
            news = ratio(rate - expected, spread)
        if rate - max(usual, expected) < self._thresholds.null_points or news <= NULL_Z:
            return None
        # One distribution is one, whether its rows lie in the baseline or in the partitions before.
        before = self._before if self._baseline is not None else ()
        known_missing = nulls + infinities + sum(each.missing for each in before)
        known_rows = rows + sum(each.rows for each in before)
        if excess_chance(profile.missing, profile.rows, known_missing, known_rows) > self._level:
            return None
        what = "null or infinite" if profile.infinite else "null"
        return Finding(
            "nulls",
            "alert",
            f"{self._column}: {rate:.1%} are {what}, {expected:.1%} expected, {usual:.1%} in the baseline "
            f"(z = {news:.1f})",
            self._column,
        )
