"""Embeddings of one feature: have their lengths or their centre changed?"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, sqrt
from typing import Any

import numpy as np

from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.baseline import known_values
from feature_store.monitoring.expectation import Series
from feature_store.monitoring.findings import Finding
from feature_store.monitoring.profile import FeatureProfile
from feature_store.monitoring.watching import LEAST_VALUES, MEAN_SHIFT, SCALE_FACTOR, Pool, Seen, ratio

CHANCE_Z = 6.0
"""Standard errors, by the number of rows, below which a centroid or a mean length is moved by chance.

The distance of a mean of `n` vectors from their expectation exceeds `z / sqrt(n)` times a bound of their lengths in at
most `2 exp(-z^2 / 2)` of cases, in any number of dimensions (Pinelis 1994): 3e-8. Here the root mean square length
stands for the bound, which is right as long as no vector is much longer than the others.
"""


class EmbeddingWatcher:
    """Judges one feature's partitions, one after the other; see `monitoring.watching`.

    Args:
        column: The feature's column.
        thresholds: Its thresholds.
        baseline: Its profile, see `monitoring.baseline.Profile`.
        season: Partitions after which series repeat.
    """

    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], season: int) -> None:
        self._column = column
        self._thresholds = thresholds
        self._rows = known_values(baseline)
        self._centroid = np.asarray(baseline["centroid"], dtype=np.float64)
        self._length: float = baseline["norm_mean"]
        self._deviation: float = baseline["norm_stddev"] or 0.0
        # Root mean square distance of the baseline's vectors from their centroid.
        square = self._length**2 + self._deviation**2 - float(self._centroid @ self._centroid)
        self._radius = sqrt(max(square, 0.0))
        self._lengths = Series(season)
        self._pool = Pool()

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        del entities, followers
        if profile.known < LEAST_VALUES or profile.centroid is None or not profile.norm_mean:
            self.skip()
            return Seen()
        centroid = np.asarray(profile.centroid)
        away = float(np.linalg.norm(centroid - self._centroid))
        usual = self._pool.mean()
        distance = None if usual is None else float(np.linalg.norm(centroid - usual))
        chance = CHANCE_Z * sqrt(1 / profile.known + 1 / self._rows)
        finding = self._scaled(profile, chance) or self._moved(away, distance, chance)
        failed = finding is not None
        self._lengths.push(log(profile.norm_mean), failed=failed)
        self._pool.push(centroid, distance, away, failed=failed)
        return Seen(finding, {"distance": away, "norm": profile.norm_mean})

    def skip(self) -> None:
        """Passes over a partition that does not exist, or has too few values."""
        self._lengths.push(None)

    def _scaled(self, profile: FeatureProfile, chance: float) -> Finding | None:
        forecast = self._lengths.forecast()
        if forecast is None or not profile.norm_mean:
            return None
        change = log(profile.norm_mean) - forecast.value
        z = ratio(change, forecast.spread)
        if abs(change) < log(SCALE_FACTOR) or abs(z) <= self._thresholds.z:
            return None
        if abs(profile.norm_mean - self._length) <= chance * self._deviation:
            return None
        text = f"mean length {profile.norm_mean:.4g}, {exp(forecast.value):.4g} expected (z = {z:.1f})"
        return Finding("embedding", "alert", f"{self._column}: {text}", self._column)

    def _moved(self, away: float, distance: float | None, chance: float) -> Finding | None:
        if distance is None or away < max(MEAN_SHIFT, chance) * self._radius:
            return None
        if not self._pool.is_news(distance, away):
            return None
        text = (
            f"centroid {away:.3g} from the baseline's (radius {self._radius:.3g}), {distance:.3g} from the expected one"
        )
        return Finding("embedding", "alert", f"{self._column}: {text}", self._column)
