"""Which watcher a feature's values have. What all of them share is in `watching`, nulls are in `missing_watcher`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_store.definitions.dtypes import INT, Dtype
from feature_store.definitions.monitor import Monitor
from feature_store.monitoring.category_watcher import CategoryWatcher
from feature_store.monitoring.collection_watcher import CollectionWatcher
from feature_store.monitoring.embedding_watcher import EmbeddingWatcher
from feature_store.monitoring.number_watcher import NumberWatcher
from feature_store.monitoring.watching import Watcher


def watcher(
    column: str, dtype: Dtype, thresholds: Monitor, baseline: Mapping[str, Any], season: int, level: float
) -> Watcher | None:
    """Returns the watcher of a feature's values, None if its dtype has none or its baseline has no values.

    Args:
        column: The feature's column.
        dtype: Its dtype.
        thresholds: Its thresholds.
        baseline: Its profile, see `monitoring.baseline.Profile`.
        season: Partitions after which series repeat.
        level: Probability of a false alarm that it may have.
    """
    if not thresholds.drift:
        return None
    if dtype.element is not None:
        elements: Mapping[str, Any] = baseline.get("elements") or {}
        lengths = watcher(column, INT, thresholds, baseline, season, level / 2)
        of_elements = watcher(column, dtype.element, thresholds, elements, season, level / 2)
        return CollectionWatcher(lengths, of_elements) if lengths or of_elements else None
    if (
        dtype.name in {"float", "int", "date", "decimal"}
        and baseline.get("edges")
        and baseline.get("stddev") is not None
    ):
        return NumberWatcher(column, thresholds, baseline, season, level)
    if dtype.name in {"string", "bool"} and baseline.get("categories"):
        return CategoryWatcher(column, thresholds, baseline, level)
    if dtype.name == "embedding" and baseline.get("centroid") and baseline.get("norm_mean") is not None:
        return EmbeddingWatcher(column, thresholds, baseline, season)
    return None
