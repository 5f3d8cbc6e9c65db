"""Baseline profiles: what a feature's values looked like when a model was trained, small enough to keep for ever.

A profile is plain JSON. Later values are laid into its bins and compared; what is done about a difference is decided
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from feature_store.errors import InvalidRequestError
from feature_store.monitoring.categories import bucket_counts, category_counts, common_names
from feature_store.monitoring.drift import ROUNDING
from feature_store.rows.forms import MAP_VALUE

DECILES = np.arange(1, 10) / 10
"""Levels of the edges of a number's bins."""

CUTS = np.array([0.01, 0.05, *DECILES, 0.95, 0.99])
"""Levels at which chance is tested: where most values are one, as 0, the deciles say nothing of the others."""

TOP_CATEGORIES = 20
"""Categories that are counted by name; the others are counted together."""

FORM: Literal[2] = 2
"""Number of the form of profiles, of baselines and partitions alike. What is stored in another form is not read."""

_VALUE = "value"
"""Stands for a column's name, which may be that of the counts."""

Profile = dict[str, Any]
"""Of every column: `form` (see `FORM`), `dtype` (as Polars spells it), `n` (rows), `nulls`, `null_rate`, and
`infinite`, the rows whose value is infinite or, of an embedding, list or map, holds an infinity. Beside them, of the
finite values,

- numbers, timestamps (microseconds since 1970), dates (days since 1970) and durations (ticks), and the lengths of lists
  and maps: `mean`, `stddev` (of the sample), `minimum` and
  `maximum`; `edges`, the deciles without duplicates, and `counts`, values up to each edge and above the last; `cuts`
  and `cut_counts`, the same at the levels of `CUTS`;
- texts, booleans and times of day: `categories`, the commonest with their counts, `other`, the count of all
  others, `buckets`, the counts of all values by their hash (see `monitoring.categories`), and `distinct`;
- embeddings (arrays of numbers): `centroid`, `norm_mean`, `norm_stddev`;
- lists and maps: `elements`, the profile of all their elements together.

Anything else, such as structs and bytes, has no more.
"""


def profile_columns(columns: Iterable[pl.Series]) -> dict[str, Profile]:
    """Returns the profile of each column by its name."""
    return {column.name: profile_column(column) for column in columns}


def profile_column(values: pl.Series) -> Profile:
    """Returns the profile of one column of feature values; see `Profile`."""
    nulls = values.null_count()
    known = values.drop_nulls()
    profile: Profile = {
        "form": FORM,
        "dtype": str(values.dtype),
        "n": len(values),
        "nulls": nulls,
        "null_rate": nulls / len(values) if len(values) else 0.0,
        "infinite": 0,
    }
    if isinstance(values.dtype, pl.Array) and values.dtype.inner.is_numeric():
        return profile | _embeddings(known)
    if _is_numeric(values.dtype):
        return profile | _numbers(_as_numbers(known))
    if isinstance(values.dtype, pl.List):
        return profile | _numbers(_as_numbers(known)) | {"elements": profile_column(_elements(known))}
    if values.dtype.is_nested() or isinstance(values.dtype, pl.Binary | pl.Object | pl.Null):
        return profile
    return profile | _categories(known.cast(pl.String))


def bin_counts(profile: Mapping[str, Any], values: pl.Series) -> list[int]:
    """Lays values into the bins of a profile.

    Args:
        profile: Profile of numbers, timestamps, texts or booleans.
        values: Values of the same dtype.

    Returns:
        Number of nulls, of infinities, then of values in each bin: those of the profile's `counts`, or its common
        `categories` and the buckets of all others.

    Raises:
        InvalidRequestError: If the profile has no bins, as that of embeddings.
    """
    known = values.drop_nulls()
    nulls = len(values) - len(known)
    if "edges" in profile:
        numbers = _as_numbers(known)
        finite = numbers[np.isfinite(numbers)]
        return [nulls, len(numbers) - len(finite), *_counted(finite, profile["edges"])]
    if "categories" in profile:
        counted = dict(known.cast(pl.String).alias(_VALUE).value_counts().iter_rows())
        return [nulls, 0, *map(int, category_counts(_common(profile), counted, bucket_counts(counted)))]
    raise InvalidRequestError(f"The profile of {profile.get('dtype')} has no bins that values could be counted into.")


def baseline_counts(profile: Mapping[str, Any]) -> list[int]:
    """Returns the counts of the profiled values themselves, in the order of `bin_counts`."""
    return [profile["nulls"], profile["infinite"], *map(int, value_counts(profile))]


def value_counts(profile: Mapping[str, Any]) -> list[float]:
    """Returns the counts of the profiled values in its bins, without nulls and infinities; none if it has no bins."""
    if "edges" in profile:
        return list(profile["counts"])
    if "categories" in profile:
        return category_counts(_common(profile), profile["categories"], profile["buckets"])
    return []


def counts_like(profile: Mapping[str, Any], categories: Mapping[str, int], buckets: Sequence[int]) -> list[float]:
    """Returns the counts of other texts in the bins of a profile; see `monitoring.categories.category_counts`."""
    return category_counts(_common(profile), categories, buckets)


def known_values(profile: Mapping[str, Any]) -> int:
    """Returns how many of the profiled rows are neither null nor infinite."""
    return int(profile["n"] - profile["nulls"] - profile["infinite"])


def reach(edges: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns how far the bins below some edges reach: rounding puts no value on the other side of an edge."""
    exact = np.asarray(edges, dtype=np.float64)
    return exact + ROUNDING * np.abs(exact)


def _common(profile: Mapping[str, Any]) -> list[str]:
    return common_names(profile["categories"], known_values(profile))


def _counted(values: np.ndarray[Any, np.dtype[np.float64]], edges: Sequence[float]) -> list[int]:
    return np.bincount(np.searchsorted(reach(edges), values, side="left"), minlength=len(edges) + 1).tolist()  # type: ignore[no-any-return]


def _is_numeric(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, pl.Datetime | pl.Date | pl.Duration)


def _elements(values: pl.Series) -> pl.Series:
    """Returns the elements of lists, or the values of maps, one after the other."""
    flat = values.filter(values.list.len() > 0).explode()
    is_map = isinstance(flat.dtype, pl.Struct) and MAP_VALUE in flat.struct.fields
    return flat.struct.field(MAP_VALUE) if is_map else flat


def _as_numbers(values: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(values.dtype, pl.List):
        return _lengths(values)
    ticks = values.to_physical() if values.dtype.is_temporal() else values
    return ticks.cast(pl.Float64).to_numpy()


def _lengths(values: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the lengths of lists and maps; a list that holds an infinity counts as infinite."""
    lengths: np.ndarray[Any, np.dtype[np.float64]] = values.list.len().cast(pl.Float64).to_numpy(writable=True)
    elements = _elements(values)
    if elements.dtype.is_float():
        of_row = np.repeat(np.arange(len(values)), lengths.astype(np.int64))
        lengths[of_row[elements.is_infinite().fill_null(value=False).to_numpy()]] = np.inf
    return lengths


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]]) -> Profile:
    finite = values[np.isfinite(values)]
    infinite = len(values) - len(finite)
    if not len(finite):
        moments = dict.fromkeys(("mean", "stddev", "minimum", "maximum"))
        return {"infinite": infinite, **moments, "edges": [], "counts": [0], "cuts": [], "cut_counts": [0]}
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the greatest there is no moment
        mean, stddev = _finite(finite.mean()), _finite(finite.std(ddof=1)) if len(finite) > 1 else None
    # A decile is a value that occurs.
    edges, cuts = (np.unique(np.quantile(finite, at, method="inverted_cdf")).tolist() for at in (DECILES, CUTS))
    return {
        "infinite": infinite,
        "mean": mean,
        "stddev": stddev,
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
        "edges": edges,
        "counts": _counted(finite, edges),
        "cuts": cuts,
        "cut_counts": _counted(finite, cuts),
    }


def _categories(values: pl.Series) -> Profile:
    counted = values.alias(_VALUE).value_counts().sort("count", _VALUE, descending=[True, False])
    top = dict(counted.head(TOP_CATEGORIES).iter_rows())
    return {
        "categories": top,
        "other": len(values) - sum(top.values()),
        "buckets": bucket_counts(dict(counted.iter_rows())),
        "distinct": counted.height,
    }


def _embeddings(values: pl.Series) -> Profile:
    infinite = 0
    vectors = np.empty((0, 0))
    if len(values):
        every = values.to_numpy().astype(np.float64)
        vectors = every[np.isfinite(every).all(axis=1)]
        infinite = len(every) - len(vectors)
    if not len(vectors):
        return {"infinite": infinite, "centroid": None, "norm_mean": None, "norm_stddev": None}
    norms = np.linalg.norm(vectors, axis=1)
    return {
        "infinite": infinite,
        "centroid": [_finite(value) for value in vectors.mean(axis=0)],
        "norm_mean": _finite(norms.mean()),
        "norm_stddev": _finite(norms.std(ddof=1)) if len(norms) > 1 else None,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
