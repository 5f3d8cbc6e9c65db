"""Which rows the stores accept: columns, dtypes, keys, times and the schema's rules. Nothing is repaired silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.conversion import Conversion, UnfitTypeError, conversion, misfits_of
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.frames import TIMESTAMP_TYPE, utc_micros
from feature_store.rows.polars_schema import row_schema
from feature_store.rows.schema import RowSchema

_EXAMPLES = 3


def validate(group: FeatureGroup, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows in the group's canonical form, or refuses all of them.

    Args:
        group: The feature group.
        rows: Join keys, `event_timestamp` and one column per feature, in any order; `feature_store.conversion` says
            which types a column may have. Rows that are equal in every column count once.

    Returns:
        The rows with the columns of `RowSchema.computed`, in the canonical dtypes.

    Raises:
        InvalidRowsError: If a column is missing, unknown or of another dtype; if a value does not fit its dtype
            without loss; if a key or time is null; if two rows of one entity share an event time; or if a value breaks
            a rule of the schema.
    """
    from feature_store.definitions.schema_library import SchemaErrors

    conversions = _conversions(group, rows)
    failures = _misfit_failures(rows, conversions)
    if failures:
        raise InvalidRowsError(group.name, failures, "Correct the values in the group's function or its source.")
    canonical, has_repeated = _canonical(group, rows, conversions)
    failures = _key_failures(group, canonical, has_repeated=has_repeated)
    try:
        group.schema.validate(canonical.select(spec.ref.column for spec in group.features), lazy=True)
    except SchemaErrors as errors:
        failures += _schema_failures(errors.failure_cases)
    if failures:
        raise InvalidRowsError(
            group.name, failures, "Correct the group's function or its source, or the rule in its FeatureSchema."
        )
    return canonical


def row_faults(group: FeatureGroup, rows: pl.DataFrame) -> pl.DataFrame | None:
    """Returns which rows `validate` would reject for what they hold; None where it is none of the rows alone.

    Returns:
        Join keys, `event_timestamp` and `_reason`, a row for each that is bad, the earliest first.

    Raises:
        InvalidRowsError: If a column is missing, unknown or of another dtype.
    """
    from feature_store.definitions.schema_library import SchemaErrors

    conversions = _conversions(group, rows)
    keys = [*group.entity.join_keys, EVENT_TIMESTAMP]
    identities = rows.select(conversions[key].expression for key in keys)
    parts = [identities.select(*keys, pl.lit("").alias("_reason")).clear()]
    unfit = pl.repeat(value=False, n=rows.height, dtype=pl.Boolean, eager=True)
    for column, converted in conversions.items():
        for misfit, mask in misfits_of(rows, converted):
            told = pl.lit(f"Column {column!r} has {misfit.reason}.").alias("_reason")
            parts.append(identities.filter(mask).select(*keys, told))
            unfit |= mask
    canonical, has_repeated = _canonical(group, rows.filter(~unfit), conversions)
    if any(canonical[column].null_count() for column in keys):
        return None
    if has_repeated:
        repeated = canonical.filter(pl.struct(keys).is_duplicated())
        reason = "Two rows of the entity share this event time and differ in values."
        parts.append(repeated.select(*keys, pl.lit(reason).alias("_reason")))
    try:
        group.schema.validate(canonical.select(spec.ref.column for spec in group.features), lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].null_count():
            return None
        reasons = cases.select(
            pl.col("index").cast(pl.Int64),
            pl.format("column '{}' breaks {}: {}", "column", "check", pl.col("failure_case").cast(pl.String)).alias(
                "_reason"
            ),
        )
        numbered = canonical.select(keys).with_row_index("index").with_columns(pl.col("index").cast(pl.Int64))
        parts.append(numbered.join(reasons, on="index").select(*keys, "_reason"))
    return pl.concat(parts).sort(EVENT_TIMESTAMP).unique(keys, keep="first", maintain_order=True)


def _conversions(group: FeatureGroup, rows: pl.DataFrame) -> dict[str, Conversion]:
    """Returns how each column of the group's rows is made, in their order.

    Raises:
        InvalidRowsError: If a column is missing, unknown or of another dtype.
    """
    expected = RowSchema.of(group).computed
    missing = [column for column in expected if column not in rows.columns]
    unknown = [column for column in rows.columns if column not in expected]
    failures = [f"column {column!r} is missing" for column in missing]
    schema = group.schema.__name__
    failures += [f"column {column!r} is neither a join key nor a feature of {schema}" for column in unknown]
    if failures:
        raise InvalidRowsError(group.name, failures, f"Rows need exactly the columns {list(expected)}.")
    conversions = {}
    types = rows.schema
    for column, dtype in expected.items():
        try:
            if column == EVENT_TIMESTAMP:
                conversions[column] = Conversion(utc_micros(column, types))
            else:
                conversions[column] = conversion(column, types[column], dtype)
        except InvalidRequestError as error:
            failures.append(str(error))
        except UnfitTypeError as error:
            remedy = f": {error}" if str(error) else ""
            failures.append(f"column {column!r} holds {types[column]}, the schema declares {dtype}{remedy}")
    if failures:
        raise InvalidRowsError(group.name, failures, "Cast the columns in the group's function.")
    return conversions


def _misfit_failures(rows: pl.DataFrame, conversions: Mapping[str, Conversion]) -> list[str]:
    failures = []
    for column, converted in conversions.items():
        for misfit, mask in misfits_of(rows, converted):
            examples = _shown(rows[column].filter(mask).head(_EXAMPLES).to_list())
            failures.append(
                f"column {column!r} has, in {mask.sum():,} of {rows.height:,} rows, {misfit.reason}; for example "
                f"{examples}"
            )
    return failures


def _canonical(
    group: FeatureGroup, rows: pl.DataFrame, conversions: Mapping[str, Conversion]
) -> tuple[pl.DataFrame, bool]:
    """Returns rows in canonical dtypes, each once, and whether an entity and event time was there more than once."""
    try:
        canonical = rows.select(converted.expression for converted in conversions.values())
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRowsError(group.name, [reason], "Cast the columns in the group's function.") from None
    keys = [*group.entity.join_keys, EVENT_TIMESTAMP]
    # Comparing whole rows costs five times as much as comparing keys, and is seldom needed.
    has_repeated = _has_repeated(canonical, keys)
    return (canonical.unique(maintain_order=True) if has_repeated else canonical), has_repeated


def _has_repeated(rows: pl.DataFrame, keys: list[str]) -> bool:
    # Equal keys have equal hashes: where no two hashes are equal, which is quickly seen, no keys are.
    if rows.height <= 1 or rows.select(pl.struct(keys).hash()).to_series().n_unique() == rows.height:
        return False
    return rows.select(keys).n_unique() < rows.height


def _key_failures(group: FeatureGroup, rows: pl.DataFrame, *, has_repeated: bool) -> list[str]:
    keys = [*group.entity.join_keys, EVENT_TIMESTAMP]
    failures = []
    for column in keys:
        count = rows[column].null_count()
        if count:
            (example,) = rows.filter(pl.col(column).is_null()).head(1).to_dicts()
            shown = _shown([f"{name}={value}" for name, value in example.items()])
            failures.append(f"{column!r} is null in {count:,} of {rows.height:,} rows, for example {shown}")
    if failures:
        return failures
    if has_repeated and _has_repeated(rows, keys):
        repeated = rows.filter(pl.struct(keys).is_duplicated())
        shared = repeated.select(keys).unique(maintain_order=True).head(_EXAMPLES).rows()
        failures.append(
            f"{repeated.height:,} rows share entity and event time with another but differ in values: "
            f"{_shown(shared)}; emit one row per entity and event time"
        )
    return failures


def _schema_failures(cases: pl.DataFrame) -> list[str]:
    failures = []
    grouped = cases.group_by("column", "check", maintain_order=True)
    for (column, check), group in grouped:
        examples = group["failure_case"].head(_EXAMPLES).to_list()
        failures.append(f"column {column!r} breaks {check} in {group.height:,} rows, for example {_shown(examples)}")
    return failures


def _shown(examples: Sequence[object]) -> str:
    return ", ".join(str(example) for example in examples)


def stored_rows(rows: pl.DataFrame, group: RegisteredGroup, ingested_at: datetime) -> pl.DataFrame:
    """Returns validated rows as both stores keep them.

    Args:
        rows: Rows from `validate`.
        group: The group as it is registered: gives the order of the columns.
        ingested_at: When the store writes them.
    """
    stored = rows.with_columns(pl.lit(ingested_at, dtype=TIMESTAMP_TYPE).alias(INGESTED_AT))
    return stored.select(row_schema(group).names())
