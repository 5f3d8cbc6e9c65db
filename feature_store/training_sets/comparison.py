"""What differs between two versions of training sets: features, rows, values and distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from feature_store.errors import InvalidRequestError
from feature_store.monitoring.baseline import baseline_counts, bin_counts, profile_column
from feature_store.monitoring.drift import psi
from feature_store.training_sets.manifest import Manifest
from feature_store.training_sets.versions import TrainingSetVersion

_OCCURRENCE = "_occurrence"


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What became of one column that both versions have.

    Attributes:
        column: Its name.
        changed: Rows of both versions whose values differ; None where dtypes differ, which cannot be compared.
        null_rate_before: Share of nulls in the first version.
        null_rate_after: Share of nulls in the second.
        mean_before: Mean in the first; None for other than numbers.
        mean_after: Mean in the second.
        psi: Population stability index on the first version's deciles, or its commonest categories, and nulls; None
            where there is nothing to bin, as in lists, structs and bytes.
    """

    column: str
    changed: int | None
    null_rate_before: float
    null_rate_after: float
    mean_before: float | None
    mean_after: float | None
    psi: float | None


@dataclass(frozen=True, slots=True)
class TrainingSetDiff:
    """What differs between two versions.

    Attributes:
        before: The first, `name:vN`.
        after: The second.
        rows_before: Its number of rows.
        rows_after: Its number of rows.
        features_added: References of features that only the second has.
        features_removed: References of features that only the first has.
        features_changed: Column to both references, where the feature's version changed.
        row_keys: Columns by which rows are told apart: join keys and label time.
        rows_added: Rows, by these columns, that only the second has; a row that occurs twice counts twice.
        rows_removed: Rows that only the first has.
        columns: Columns that both have, other than the row keys.
    """

    before: str
    after: str
    rows_before: int
    rows_after: int
    features_added: Sequence[str]
    features_removed: Sequence[str]
    features_changed: Mapping[str, tuple[str, str]]
    row_keys: Sequence[str]
    rows_added: int
    rows_removed: int
    columns: Sequence[ColumnChange]


def compare(before: TrainingSetVersion, after: TrainingSetVersion) -> TrainingSetDiff:
    """Compares two versions, of one training set or of two; a column at a time, so that memory stays small.

    Raises:
        InvalidRequestError: If they have no common columns that tell rows apart.
    """
    keys = _row_keys(before.manifest, after.manifest)
    met = _same_rows(before, after, keys)
    first, second = before.manifest.features, after.manifest.features
    columns = [column for column in before.columns if column in after.columns and column not in keys]
    return TrainingSetDiff(
        before=f"{before.name}:v{before.version}",
        after=f"{after.name}:v{after.version}",
        rows_before=before.rows,
        rows_after=after.rows,
        features_added=[second[label] for label in second if label not in first],
        features_removed=[first[label] for label in first if label not in second],
        features_changed={
            label: (first[label], second[label]) for label in first if label in second and first[label] != second[label]
        },
        row_keys=keys,
        rows_added=after.rows - met.height,
        rows_removed=before.rows - met.height,
        columns=[_column_change(_column(before, name), _column(after, name), met) for name in columns],
    )


def _row_keys(before: Manifest, after: Manifest) -> list[str]:
    """Returns the join keys and the time column of both sets' labels."""
    keys = [key for key in _label_keys(before) if key in _label_keys(after)]
    first, second = (", ".join(_label_keys(manifest)) for manifest in (before, after))
    different = [key for key in keys if before.columns[key] != after.columns[key]]
    if before.as_of != after.as_of or len(keys) < 2 or different:  # noqa: PLR2004  # a time and a key at least
        raise InvalidRequestError(
            f"Rows of {before.name} v{before.version} and {after.name} v{after.version} cannot be told apart by the "
            f"same columns: the first has {first}, the second {second}. Compare versions whose label time and "
            "join keys are alike in name and dtype."
        )
    return keys


def _label_keys(manifest: Manifest) -> list[str]:
    keys = [key for feature in manifest.stored.values() for key in feature.join_keys]
    return list(dict.fromkeys([*keys, manifest.as_of]))


def _same_rows(before: TrainingSetVersion, after: TrainingSetVersion, keys: Sequence[str]) -> pl.DataFrame:
    """Returns the row numbers, `before` and `after`, of the rows that both have.

    Of rows with equal keys, the first meets the first, the second the second.
    """
    # Under names of our own: the time column of labels may have any.
    numbers = list(map(str, range(len(keys))))

    def numbered(version: TrainingSetVersion, name: str) -> pl.LazyFrame:
        occurrence = pl.int_range(pl.len()).over(numbers).alias(_OCCURRENCE)
        rows = version.scan().select(cs.by_name(key).alias(number) for key, number in zip(keys, numbers, strict=True))
        return rows.with_columns(occurrence).with_row_index(name)

    on = [*numbers, _OCCURRENCE]
    met = numbered(before, "before").join(numbered(after, "after"), on=on, how="inner", maintain_order="left")
    return met.select("before", "after").collect()


def _column(version: TrainingSetVersion, name: str) -> pl.Series:
    # By its exact name, which may look like a pattern.
    return version.scan().select(cs.by_name(name)).collect().to_series()


def _column_change(before: pl.Series, after: pl.Series, met: pl.DataFrame) -> ColumnChange:
    profile, new = profile_column(before), profile_column(after)
    changed, index = None, None
    if before.dtype == after.dtype:
        changed = int(before.gather(met["before"]).ne_missing(after.gather(met["after"])).sum())
        if "edges" in profile or "categories" in profile:
            index = psi(current=bin_counts(profile, after), baseline=baseline_counts(profile))
    return ColumnChange(
        column=before.name,
        changed=changed,
        null_rate_before=profile["null_rate"],
        null_rate_after=new["null_rate"],
        mean_before=profile.get("mean"),
        mean_after=new.get("mean"),
        psi=index,
    )
