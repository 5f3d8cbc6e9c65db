"""Watchers: one per feature, fed with its partitions in order of time, each says what is wrong with the newest one.

Two questions decide, and both must be answered by yes. Does it matter: is the change large against the baseline, what a
model was trained on? Is it news: is it larger than what the partitions before have shown anyway? The first alone is
alarmed by every season, the second alone by every trifle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log, sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.drift import null_term, psi, sampling_psi, two_proportion_z
from feature_store.monitoring.expectation import LEAST, NEW_NORMAL, WINDOW, Series
from feature_store.monitoring.findings import Finding, Kind, Level
from feature_store.monitoring.profile import FeatureProfile

LEAST_VALUES = 20
"""Values below which a partition's distribution is not judged."""

NEWS_FACTOR = 4.0
"""How many times the greatest distance of the window a distance must be to be news."""

SCALE_FACTOR = 1.5
"""By which factor a spread, a length or a number of rows must have changed to matter."""

MEAN_SHIFT = 0.5
"""Standard deviations of the baseline by which a mean must have moved to matter."""

NULL_Z = 5.0
"""Standard errors, and forecast errors, by which a share of nulls must be off to be a spike."""

_COLLAPSED_EDGES = 5
"""With so few distinct deciles, one value holds about half of the baseline: quiet weeks then say nothing of bursts."""

_REPEATING = 0.9
"""A feature whose rows repeat more often than this anyway cannot be seen to be stuck."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher says of one partition.

    Attributes:
        finding: What is wrong, if anything.
        numbers: Numbers to plot, by name.
        current: Counts of the partition's values in the baseline's bins, for a picture.
    """

    finding: Finding | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    current: Sequence[float] = ()


class Watcher(Protocol):
    """Judges one feature's partitions, one after the other."""

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        ...

    def skip(self) -> None:
        """Passes over a partition that does not exist, or has too few values."""
        ...


def watcher(column: str, dtype: Dtype, thresholds: Monitor, baseline: Mapping[str, Any], season: int) -> Watcher | None:
    """Returns the watcher of a feature's values, None if its dtype has none or its baseline is empty.

    Args:
        column: The feature's column.
        dtype: Its dtype.
        thresholds: Its thresholds.
        baseline: Its profile, see `monitoring.baseline.Profile`.
        season: Partitions after which series repeat.
    """
    if not thresholds.drift:
        return None
    if dtype.name in {"float", "int"} and baseline.get("edges") and baseline.get("stddev") is not None:
        return _NumberWatcher(column, thresholds, baseline, season)
    if dtype.name in {"string", "bool"} and baseline.get("categories"):
        return _CategoryWatcher(column, thresholds, baseline)
    if dtype.name == "embedding" and baseline.get("centroid") and baseline.get("norm_mean") is not None:
        return _EmbeddingWatcher(column, thresholds, baseline, season)
    return None


class NullWatcher:
    """Nulls of one feature: is their share larger than in the baseline and than expected?

    Args:
        column: The feature's column.
        thresholds: Its thresholds.
        baseline: Its profile.
        season: Partitions after which series repeat.
    """

    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], season: int) -> None:
        self._column = column
        self._thresholds = thresholds
        self._rows, self._nulls = baseline["n"], baseline["nulls"]
        self._series = Series(season)

    def see(self, profile: FeatureProfile, entities: int) -> Finding | None:
        """Judges the next partition, and learns from it unless its nulls are a spike."""
        rate, usual = profile.null_rate, self._nulls / self._rows
        forecast = self._series.forecast()
        finding = None
        if forecast is not None and profile.rows >= LEAST_VALUES:
            rise = rate - max(usual, forecast.value)
            significance = two_proportion_z(profile.nulls, profile.rows, self._nulls, self._rows)
            # Nulls come in bursts of whole entities: quiet weeks say less than the baseline's share of them.
            spread = max(forecast.spread, sqrt(usual * (1 - usual) / max(entities, 1)))
            news = _ratio(rate - forecast.value, spread)
            if rise >= self._thresholds.null_points and min(significance, news) > NULL_Z:
                finding = Finding(
                    "nulls",
                    "alert",
                    f"{self._column}: {rate:.1%} are null, {forecast.value:.1%} expected, {usual:.1%} in the baseline "
                    f"(z = {min(significance, news):.1f})",
                    self._column,
                )
        self._series.push(rate, failed=finding is not None)
        return finding

    def skip(self) -> None:
        """Passes over a partition that does not exist."""
        self._series.push(None)


class _Pool:
    """Distributions of the window's sound partitions, how far each was from those before it, and from the baseline."""

    def __init__(self) -> None:
        self._members: deque[NDArray[np.float64]] = deque(maxlen=WINDOW)
        self._distances: deque[float] = deque(maxlen=WINDOW)
        self._aways: deque[float] = deque(maxlen=WINDOW)
        self._rejected = 0

    def mean(self) -> NDArray[np.float64] | None:
        return np.mean(self._members, axis=0) if len(self._members) >= LEAST // 2 else None

    def is_news(self, distance: float | None, away: float) -> bool:
        """Tells whether a partition differs from those before it, and more from the baseline than any of them."""
        return (
            distance is not None
            and len(self._distances) >= LEAST // 2
            and distance > NEWS_FACTOR * max(self._distances)
            and away > max(self._aways)
        )

    def push(self, member: NDArray[np.float64], distance: float | None, away: float, *, failed: bool) -> None:
        self._rejected = self._rejected + 1 if failed else 0
        if failed and self._rejected < NEW_NORMAL:
            return
        if failed:
            self._members.clear()
            self._distances.clear()
            self._aways.clear()
        self._members.append(member)
        self._aways.append(away)
        if distance is not None:
            self._distances.append(distance)


class _NumberWatcher:
    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], season: int) -> None:
        self._column = column
        self._thresholds = thresholds
        self._edges: list[float] = list(baseline["edges"])
        self._counts = np.asarray(baseline["counts"], dtype=np.float64)
        self._known = baseline["n"] - baseline["nulls"]
        self._null_counts = (baseline["nulls"], baseline["n"])
        self._mean: float = baseline["mean"]
        self._deviation: float = baseline["stddev"]
        self._bursty = len(self._edges) <= _COLLAPSED_EDGES
        fullest = int(self._counts.argmax())
        self._common = self._edges[fullest] if fullest < len(self._edges) else baseline["maximum"]
        self._means = Series(season)
        self._spreads = Series(season)
        self._pool = _Pool()
        self._entities: deque[int] = deque(maxlen=WINDOW)
        self._constant: deque[bool] = deque(maxlen=WINDOW)
        self._repeats: deque[float] = deque(maxlen=WINDOW)

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        if profile.known < LEAST_VALUES or profile.mean is None or profile.stddev is None or profile.quantiles is None:
            self.skip()
            return Seen()
        counts = profile.quantiles.counts(self._edges)
        index = psi(counts, self._counts)
        usual = self._pool.mean()
        distance = None if usual is None else psi(counts, usual)
        spread = log(profile.stddev + 1e-3 * self._deviation + 1e-300)
        z = self._mean_z(profile, entities)
        finding = (
            self._stuck(profile, followers)
            or self._scale(profile, spread)
            or self._shift(profile, z, self._thresholds.z)
            or self._change(profile, index, distance, entities, z)
        )
        failed = finding is not None
        self._means.push(profile.mean, failed=failed)
        self._spreads.push(spread, failed=failed)
        self._pool.push(counts, distance, index, failed=failed)
        if not failed:
            self._entities.append(entities)
            self._constant.append(profile.minimum == profile.maximum)
            if followers >= LEAST_VALUES:
                self._repeats.append(profile.repeats / followers)
        numbers = {"psi": index + null_term(profile.nulls, profile.rows, *self._null_counts)}
        if z is not None:
            numbers["z"] = z
        return Seen(finding, numbers, counts.tolist())

    def skip(self) -> None:
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
        spread = sqrt(forecast.spread**2 + fewer + bursts)
        return _ratio(profile.mean - forecast.value, spread)

    def _stuck(self, profile: FeatureProfile, followers: int) -> Finding | None:
        if profile.minimum == profile.maximum:
            is_usual = any(self._constant) or (self._bursty and profile.minimum == self._common)
            if is_usual or len(self._constant) < LEAST or not self._deviation:
                return None
            return self._finding("stuck", f"all {profile.known:,} values are {profile.minimum:g}")
        if followers >= LEAST_VALUES and profile.repeats == followers and len(self._repeats) >= LEAST:
            most = max(self._repeats)
            if most < _REPEATING:
                return self._finding(
                    "stuck",
                    f"none of {followers:,} later values of an entity differs from the one before, usually at most "
                    f"{most:.0%} do not",
                )
        return None

    def _scale(self, profile: FeatureProfile, spread: float) -> Finding | None:
        forecast = self._spreads.forecast()
        if forecast is None or profile.stddev is None:
            return None
        change = spread - forecast.value
        if abs(change) < log(SCALE_FACTOR) or abs(_ratio(change, forecast.spread)) <= self._thresholds.z:
            return None
        factor = np.exp(change)
        times = f"{factor:.3g} times" if factor >= 1 else f"1/{1 / factor:.3g} of"
        return self._finding(
            "scale",
            f"the values spread {times} what is expected (standard deviation {profile.stddev:.4g}, z = "
            f"{_ratio(change, forecast.spread):.1f}): another unit?",
        )

    def _shift(self, profile: FeatureProfile, z: float | None, limit: float) -> Finding | None:
        forecast = self._means.forecast()
        if z is None or forecast is None or profile.mean is None or abs(z) <= limit:
            return None
        if abs(profile.mean - forecast.value) < MEAN_SHIFT * self._deviation:
            return None
        return self._finding(
            "mean",
            f"mean {profile.mean:.4g}, {forecast.value:.4g} expected (z = {z:.1f}), {self._mean:.4g} in the baseline",
        )

    def _change(
        self, profile: FeatureProfile, index: float, distance: float | None, entities: int, z: float | None
    ) -> Finding | None:
        level = _psi_level(self._thresholds, index, len(self._counts), entities, self._known)
        if level is None or distance is None or distance < self._thresholds.psi_warn:
            return None
        if not self._pool.is_news(distance, index):
            return None
        # The whole distribution is surer than its mean alone: of one that has changed, half the z tells that it moved.
        return self._shift(profile, z, self._thresholds.z / 2) or self._finding(
            "distribution",
            f"PSI {index:.2f} against the baseline, {distance:.2f} against the {WINDOW} partitions before",
            level,
        )

    def _finding(self, kind: Kind, text: str, level: Level = "alert") -> Finding:
        return Finding(kind, level, f"{self._column}: {text}", self._column)


class _CategoryWatcher:
    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any]) -> None:
        self._column = column
        self._thresholds = thresholds
        self._names = list(baseline["categories"])
        self._counts = np.asarray([*baseline["categories"].values(), baseline["other"]], dtype=np.float64)
        self._null_counts = (baseline["nulls"], baseline["n"])
        self._pool = _Pool()

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        del followers
        if profile.known < LEAST_VALUES or profile.categories is None:
            self.skip()
            return Seen()
        named = [float(profile.categories.get(name, 0)) for name in self._names]
        counts = np.asarray([*named, profile.known - sum(named)])
        index = psi(counts, self._counts)
        usual = self._pool.mean()
        distance = None if usual is None else psi(counts, usual)
        finding = None
        level = _psi_level(self._thresholds, index, len(counts), entities, float(self._counts.sum()))
        if level is not None and usual is not None and distance is not None and self._pool.is_news(distance, index):
            finding = Finding("category", level, self._text(counts, usual, index, distance), self._column)
        self._pool.push(counts, distance, index, failed=finding is not None)
        return Seen(
            finding,
            {"psi": index + null_term(profile.nulls, profile.rows, *self._null_counts)},
            counts.tolist(),
        )

    def skip(self) -> None:
        """Distributions have no gaps to be remembered."""

    def _text(self, counts: NDArray[np.float64], usual: NDArray[np.float64], index: float, distance: float) -> str:
        now, before = counts / counts.sum(), usual / usual.sum()
        most = int(np.abs(now - before).argmax())
        name = repr(self._names[most]) if most < len(self._names) else "what the baseline does not name"
        return (
            f"{self._column}: {name} is {now[most]:.1%} of the values, {before[most]:.1%} expected (PSI {index:.2f} "
            f"against the baseline, {distance:.2f} against the {WINDOW} partitions before)"
        )


class _EmbeddingWatcher:
    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], season: int) -> None:
        self._column = column
        self._thresholds = thresholds
        self._centroid = np.asarray(baseline["centroid"], dtype=np.float64)
        length, deviation = baseline["norm_mean"], baseline["norm_stddev"] or 0.0
        # Root mean square distance of the baseline's vectors from their centroid.
        self._radius = sqrt(max(length**2 + deviation**2 - float(self._centroid @ self._centroid), 0.0))
        self._lengths = Series(season)
        self._pool = _Pool()

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        del entities, followers
        if profile.known < LEAST_VALUES or profile.centroid is None or not profile.norm_mean:
            self.skip()
            return Seen()
        centroid = np.asarray(profile.centroid)
        away = float(np.linalg.norm(centroid - self._centroid))
        usual = self._pool.mean()
        distance = None if usual is None else float(np.linalg.norm(centroid - usual))
        finding = self._length(profile) or self._place(away, distance)
        failed = finding is not None
        self._lengths.push(log(profile.norm_mean), failed=failed)
        self._pool.push(centroid, distance, away, failed=failed)
        return Seen(finding, {"distance": away, "norm": profile.norm_mean})

    def skip(self) -> None:
        self._lengths.push(None)

    def _length(self, profile: FeatureProfile) -> Finding | None:
        forecast = self._lengths.forecast()
        if forecast is None or not profile.norm_mean:
            return None
        change = log(profile.norm_mean) - forecast.value
        z = _ratio(change, forecast.spread)
        if abs(change) < log(SCALE_FACTOR) or abs(z) <= self._thresholds.z:
            return None
        text = f"mean length {profile.norm_mean:.4g}, {np.exp(forecast.value):.4g} expected (z = {z:.1f})"
        return Finding("embedding", "alert", f"{self._column}: {text}", self._column)

    def _place(self, away: float, distance: float | None) -> Finding | None:
        if distance is None or away < MEAN_SHIFT * self._radius or not self._pool.is_news(distance, away):
            return None
        text = (
            f"centroid {away:.3g} from the baseline's (radius {self._radius:.3g}), {distance:.3g} from the expected one"
        )
        return Finding("embedding", "alert", f"{self._column}: {text}", self._column)


def _psi_level(thresholds: Monitor, index: float, bins: int, entities: int, baseline_rows: float) -> Level | None:
    # Rows of one entity count as one: three weather stations cannot fill ten deciles, whatever they report hourly.
    if index < thresholds.psi_warn or index <= sampling_psi(bins, entities, baseline_rows):
        return None
    return "alert" if index >= thresholds.psi_alert else "warn"


def _ratio(difference: float, spread: float) -> float:
    if spread > 0:
        return difference / spread
    return 0.0 if difference == 0 else inf if difference > 0 else -inf
