"""Texts and booleans of one feature: are its categories distributed otherwise?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.baseline import counts_like, known_values, value_counts
from feature_store.monitoring.categories import BUCKETS, bucket, common_names
from feature_store.monitoring.drift import null_term, psi
from feature_store.monitoring.expectation import WINDOW
from feature_store.monitoring.findings import Finding
from feature_store.monitoring.profile import FeatureProfile
from feature_store.monitoring.watching import LEAST_VALUES, Counts, Pool, Seen, differs_by_entities


class CategoryWatcher:
    """Judges one feature's partitions, one after the other; see `monitoring.watching` and `monitoring.categories`.

    Args:
        column: The feature's column.
        thresholds: Its thresholds.
        baseline: Its profile, see `monitoring.baseline.Profile`.
        level: Probability of a false alarm that it may have.
    """

    def __init__(self, column: str, thresholds: Monitor, baseline: Mapping[str, Any], level: float) -> None:
        self._column = column
        self._thresholds = thresholds
        self._level = level
        self._baseline = baseline
        self._common = common_names(baseline["categories"], known_values(baseline))
        self._counts = np.asarray(value_counts(baseline), dtype=np.float64)
        self._missing = (baseline["n"] - known_values(baseline), baseline["n"])
        self._pool = Pool()

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        del followers
        if profile.known < LEAST_VALUES or profile.categories is None or profile.buckets is None:
            self.skip()
            return Seen()
        counts = np.asarray(counts_like(self._baseline, profile.categories, profile.buckets))
        index = psi(counts, self._counts)
        usual = self._pool.mean()
        distance = None if usual is None else psi(counts, usual)
        finding = None
        if (
            usual is not None
            and distance is not None
            and index >= self._thresholds.psi_warn
            and self._pool.is_news(distance, index)
            and differs_by_entities(
                counts, self._counts, self._level, rows=profile.rows, entities=entities, ordered=False
            )
        ):
            finding = Finding(
                "category",
                "alert" if index >= self._thresholds.psi_alert else "warn",
                self._text(profile.categories, counts, usual, index, distance),
                self._column,
            )
        self._pool.push(counts, distance, index, failed=finding is not None)
        return Seen(
            finding,
            {"psi": index + null_term(profile.missing, profile.rows, *self._missing)},
            counts.tolist(),
        )

    def skip(self) -> None:
        """Distributions have no gaps to be remembered."""

    def _text(self, categories: Mapping[str, int], counts: Counts, usual: Counts, index: float, distance: float) -> str:
        now, before = counts / counts.sum(), usual / usual.sum()
        most = int(np.abs(now - before).argmax())
        if most < len(self._common):
            name = f"{self._common[most]!r} is"
        else:
            rare = [
                text for text in categories if text not in self._common and bucket(text) == most - len(self._common)
            ]
            like = f", as {rare[0]!r}," if rare else ""
            name = f"one in {BUCKETS} of the less common values{like} make up"
        return (
            f"{self._column}: {name} {now[most]:.1%} of the values, {before[most]:.1%} expected (PSI {index:.2f} "
            f"against the baseline, {distance:.2f} against the {WINDOW} partitions before)"
        )
