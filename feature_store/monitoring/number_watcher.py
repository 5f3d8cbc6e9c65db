"""Numbers of one feature: stuck, of another scale, with another mean, or distributed otherwise?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import exp, log, sqrt
from typing import Any

import numpy as np

from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.baseline import known_values, value_counts
from feature_store.monitoring.chance import differs, excess_chance
from feature_store.monitoring.drift import ROUNDING, null_term, psi
from feature_store.monitoring.expectation import LEAST, WINDOW, Series
from feature_store.monitoring.findings import Finding, Kind, Level
from feature_store.monitoring.profile import FeatureProfile
from feature_store.monitoring.watching import (
    LEAST_VALUES,
    MEAN_SHIFT,
    SCALE_FACTOR,
    Counts,
    Pool,
    Seen,
    differs_by_entities,
    ratio,
)

_COLLAPSED_EDGES = 5
"""With so few distinct deciles, one value holds about half of the baseline: quiet weeks then say nothing of bursts."""

_REPEATING = 0.9
"""A feature whose rows repeat more often than this anyway cannot be seen to be stuck."""


class NumberWatcher:
    """Judges one feature's partitions, one after the other; see `monitoring.watching`.

    Means and spreads of long tails have no useful bound of chance. So each finding also needs that the shares up to the
    baseline's quantiles have changed by more than chance, which holds for any distribution. A few outliers alone are
    therefore no drift: they are what a schema bounds (`ge`, `le`).

    Args:
        column: The feature's column.
        thresholds: Its thresholds.
        baseline: Its profile, see `monitoring.baseline.Profile`.
        season: Partitions after which series repeat.
        level: Probability of a false alarm that it may have.
    """

    def __init__(
        self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], season: int, level: float
    ) -> None:
        self._column = column
        self._thresholds = thresholds
        self._level = level / 3  # for the rows' values, for those of entities, and for repeats
        self._edges: list[float] = list(baseline["edges"])
        self._counts = np.asarray(value_counts(baseline), dtype=np.float64)
        self._cuts: list[float] = list(baseline["cuts"])
        self._cut_counts: list[float] = list(baseline["cut_counts"])
        self._missing = (baseline["n"] - known_values(baseline), baseline["n"])
        self._mean: float = baseline["mean"]
        # What a constant differs by from itself is rounding.
        self._rounding = ROUNDING * abs(self._mean)
        self._varies = baseline["stddev"] > self._rounding
        self._deviation: float = max(baseline["stddev"], self._rounding)
        self._bursty = len(self._edges) <= _COLLAPSED_EDGES
        fullest = int(self._counts.argmax())
        self._common = self._edges[fullest] if fullest < len(self._edges) else baseline["maximum"]
        self._means = Series(season)
        self._spreads = Series(season)
        self._pool = Pool()
        self._entities: deque[int] = deque(maxlen=WINDOW)
        self._constant: deque[bool] = deque(maxlen=WINDOW)
        self._repeats: deque[tuple[int, int]] = deque(maxlen=WINDOW)

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        if profile.known < LEAST_VALUES or profile.mean is None or profile.stddev is None or profile.quantiles is None:
            self.skip()
            return Seen()
        counts = profile.quantiles.counts(self._edges)
        index = psi(counts, self._counts)
        usual = self._pool.mean()
        distance = None if usual is None else psi(counts, usual)
        spread = log(profile.stddev + 1e-3 * self._deviation + 1e-300)
        z = self._mean_z(profile, entities)
        finding = self._repeated(profile, followers)
        if finding is None:
            finding = (
                self._stuck(profile)
                or self._scale(profile, spread)
                or self._shift(profile, z, self._thresholds.z, MEAN_SHIFT)
                or self._change(profile, counts, index, distance, entities, z)
            )
            # The last question is the dearest to answer, and seldom reached.
            cut = profile.quantiles.counts(self._cuts).tolist() if finding is not None else []
            if finding is not None and not differs(cut, self._cut_counts, self._level, ordered=True):
                finding = None
        failed = finding is not None
        self._means.push(profile.mean, failed=failed)
        self._spreads.push(spread, failed=failed)
        self._pool.push(counts, distance, index, failed=failed)
        if not failed:
            self._entities.append(entities)
            self._constant.append(self._is_constant(profile))
            if followers >= LEAST_VALUES:
                self._repeats.append((profile.repeats, followers))
        numbers = {"psi": index + null_term(profile.missing, profile.rows, *self._missing)}
        if z is not None:
            numbers["z"] = z
        return Seen(finding, numbers, counts.tolist())

    def skip(self) -> None:
        """Passes over a partition that does not exist, or has too few values."""
        self._means.push(None)
        self._spreads.push(None)

    def _mean_z(self, profile: FeatureProfile, entities: int) -> float | None:
        forecast = self._means.forecast()
        if forecast is None or profile.mean is None:
            return None
        # Rows of one entity are counted as one: they share its past.
        variance = self._deviation**2
        typical = sum(self._entities) / len(self._entities) if self._entities else entities
        fewer = max(0.0, variance / max(entities, 1) - variance / max(typical, 1))
        bursts = variance / max(entities, 1) if self._bursty else 0.0
        spread = sqrt(forecast.spread**2 + fewer + bursts + self._rounding**2)
        return ratio(profile.mean - forecast.value, spread)

    def _is_constant(self, profile: FeatureProfile) -> bool:
        assert profile.minimum is not None
        assert profile.maximum is not None
        return bool(profile.maximum - profile.minimum <= self._rounding)

    def _stuck(self, profile: FeatureProfile) -> Finding | None:
        if not self._is_constant(profile) or not self._varies or len(self._constant) < LEAST:
            return None
        if any(self._constant) or (self._bursty and profile.minimum == self._common):
            return None
        return self._finding("stuck", f"all {profile.known:,} values are {profile.minimum:g}")

    def _repeated(self, profile: FeatureProfile, followers: int) -> Finding | None:
        if followers < LEAST_VALUES or profile.repeats < followers or len(self._repeats) < LEAST:
            return None
        most = max(repeats / rows for repeats, rows in self._repeats)
        before, rows = (sum(each) for each in zip(*self._repeats, strict=True))
        if most >= _REPEATING or excess_chance(followers, followers, before, rows) > self._level:
            return None
        return self._finding(
            "stuck",
            f"none of {followers:,} later values of an entity differs from the one before, usually at most "
            f"{most:.0%} do not",
        )

    def _scale(self, profile: FeatureProfile, spread: float) -> Finding | None:
        forecast = self._spreads.forecast()
        if forecast is None or profile.stddev is None:
            return None
        change = spread - forecast.value
        if abs(change) < log(SCALE_FACTOR) or abs(ratio(change, forecast.spread)) <= self._thresholds.z:
            return None
        factor = exp(change)
        times = f"{factor:.3g} times" if factor >= 1 else f"1/{1 / factor:.3g} of"
        return self._finding(
            "scale",
            f"the values spread {times} what is expected (standard deviation {profile.stddev:.4g}, z = "
            f"{ratio(change, forecast.spread):.1f}): another unit?",
        )

    def _shift(self, profile: FeatureProfile, z: float | None, limit: float, least: float) -> Finding | None:
        forecast = self._means.forecast()
        if z is None or forecast is None or profile.mean is None or abs(z) <= limit:
            return None
        if abs(profile.mean - forecast.value) < least * self._deviation:
            return None
        return self._finding(
            "mean",
            f"mean {profile.mean:.4g}, {forecast.value:.4g} expected (z = {z:.1f}), {self._mean:.4g} in the baseline",
        )

    def _change(
        self,
        profile: FeatureProfile,
        counts: Counts,
        index: float,
        distance: float | None,
        entities: int,
        z: float | None,
    ) -> Finding | None:
        thresholds = self._thresholds
        if index < thresholds.psi_warn or distance is None or distance < thresholds.psi_warn:
            return None
        if not self._pool.is_news(distance, index) or not differs_by_entities(
            counts, self._counts, self._level, rows=profile.rows, entities=entities, ordered=True
        ):
            return None
        # The whole distribution is surer than its mean alone: of one that has changed, half of it tells that it moved.
        return self._shift(profile, z, thresholds.z / 2, MEAN_SHIFT / 2) or self._finding(
            "distribution",
            f"PSI {index:.2f} against the baseline, {distance:.2f} against the {WINDOW} partitions before",
            "alert" if index >= thresholds.psi_alert else "warn",
        )

    def _finding(self, kind: Kind, text: str, level: Level = "alert") -> Finding:
        return Finding(kind, level, f"{self._column}: {text}", self._column)
