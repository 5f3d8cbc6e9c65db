"""Baseline profiles: what a feature's values looked like when a model was trained, small enough to keep for ever.

A profile is plain JSON. Later values are laid into its bins and compared; what is done about a difference is decided
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from feature_store.errors import InvalidRequestError

_COUNT = "_count"
DECILES = 10
TOP_CATEGORIES = 20
"""Categories that are counted by name; the others are counted together."""

_VALUE = "value"
"""Stands for a column's name, which may be that of the counts."""

Profile = dict[str, Any]
"""Of every column: `dtype` (as Polars spells it), `n` (rows), `nulls`, `null_rate`. Beside them

- numbers, timestamps (microseconds since 1970) and durations (ticks): `mean`, `stddev` (of the sample), `minimum` and
  `maximum` of the finite values; `edges`, the deciles without duplicates, and `counts`, values up to each edge and
  above the last;
- texts, booleans, dates and times of day: `categories`, the commonest with their counts, `other`, the count of all
  others, and `distinct`;
- embeddings (arrays of numbers): `centroid`, `norm_mean`, `norm_stddev`.

Anything else, such as lists, structs and bytes, has no more.
"""


def profile_columns(columns: Iterable[pl.Series]) -> dict[str, Profile]:
    """Returns the profile of each column by its name."""
    return {column.name: profile_column(column) for column in columns}


def profile_column(values: pl.Series) -> Profile:
    """Returns the profile of one column of feature values; see `Profile`."""
    nulls = values.null_count()
    known = values.drop_nulls()
    profile: Profile = {
        "dtype": str(values.dtype),
        "n": len(values),
        "nulls": nulls,
        "null_rate": nulls / len(values) if len(values) else 0.0,
    }
    if isinstance(values.dtype, pl.Array) and values.dtype.inner.is_numeric():
        return profile | _embeddings(known)
    if _is_numeric(values.dtype):
        return profile | _numbers(_as_numbers(known))
    if values.dtype.is_nested() or isinstance(values.dtype, pl.Binary | pl.Object | pl.Null):
        return profile
    return profile | _categories(known.cast(pl.String))


def bin_counts(profile: Mapping[str, Any], values: pl.Series) -> list[int]:
    """Lays values into the bins of a profile.

    Args:
        profile: Profile of numbers, timestamps, texts or booleans.
        values: Values of the same dtype.

    Returns:
        Number of nulls, then of values in each bin: the profile's `counts`, or its `categories` and all others.

    Raises:
        InvalidRequestError: If the profile has no bins, as that of embeddings.
    """
    known = values.drop_nulls()
    nulls = len(values) - len(known)
    if "edges" in profile:
        places = np.searchsorted(np.asarray(profile["edges"]), _as_numbers(known), side="left")
        return [nulls, *np.bincount(places, minlength=len(profile["edges"]) + 1).tolist()]
    if "categories" in profile:
        counted = dict(known.cast(pl.String).alias(_VALUE).value_counts().iter_rows())
        named = [counted.pop(category, 0) for category in profile["categories"]]
        return [nulls, *named, sum(counted.values())]
    raise InvalidRequestError(f"The profile of {profile.get('dtype')} has no bins that values could be counted into.")


def baseline_counts(profile: Mapping[str, Any]) -> list[int]:
    """Returns the counts of the profiled values themselves, in the order of `bin_counts`."""
    if "edges" in profile:
        return [profile["nulls"], *profile["counts"]]
    return [profile["nulls"], *profile["categories"].values(), profile["other"]]


def _is_numeric(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, pl.Datetime | pl.Duration)


def _as_numbers(values: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    ticks = values.to_physical() if values.dtype.is_temporal() else values
    return ticks.cast(pl.Float64).to_numpy()


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]]) -> Profile:
    if not len(values):
        return {"mean": None, "stddev": None, "minimum": None, "maximum": None, "edges": [], "counts": [0]}
    finite = values[np.isfinite(values)]
    # A decile is a value that occurs: no edge lies where rounding might put a value on its other side.
    shares = np.arange(1, DECILES) / DECILES
    edges = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    edges = edges[np.isfinite(edges)]
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "stddev": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        "minimum": float(finite.min()) if len(finite) else None,
        "maximum": float(finite.max()) if len(finite) else None,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _categories(values: pl.Series) -> Profile:
    counted = values.alias(_VALUE).value_counts().sort("count", _VALUE, descending=[True, False])
    top = dict(counted.head(TOP_CATEGORIES).iter_rows())
    return {"categories": top, "other": len(values) - sum(top.values()), "distinct": counted.height}


def _embeddings(values: pl.Series) -> Profile:
    if not len(values):
        return {"centroid": None, "norm_mean": None, "norm_stddev": None}
    vectors = values.to_numpy().astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    return {
        "centroid": [_finite(value) for value in vectors.mean(axis=0)],
        "norm_mean": _finite(norms.mean()),
        "norm_stddev": _finite(norms.std(ddof=1)) if len(norms) > 1 else None,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
