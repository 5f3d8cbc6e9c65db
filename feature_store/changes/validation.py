"""Which rows the stores accept: columns, dtypes, keys, times and the schema's rules. Nothing is repaired silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.frames import TIMESTAMP_TYPE, nan_as_null, utc_micros
from feature_store.rows.polars_schema import polars_type, row_schema
from feature_store.rows.schema import RowSchema

_EXAMPLES = 3


def validate(group: FeatureGroup, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows in the group's canonical form, or refuses all of them.

    Args:
        group: The feature group.
        rows: Join keys, `event_timestamp` and one column per feature, in any order. Integers and floats of any
            width are widened, categoricals become text, lists of the right length become embeddings, times become
            UTC microseconds, NaN becomes null, and so does an embedding that holds one. Rows that are equal in
            every column count once.

    Returns:
        The rows with the columns of `RowSchema.computed`, in the canonical dtypes.

    Raises:
        InvalidRowsError: If a column is missing, unknown or of another dtype; if a key or time is null; if two
            rows of one entity share an event time; or if a value breaks a rule of the schema.
    """
    from feature_store.definitions.schema_library import SchemaErrors

    canonical, has_repeated = _canonical(group, rows)
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

    canonical, has_repeated = _canonical(group, rows)
    keys = [*group.entity.join_keys, EVENT_TIMESTAMP]
    nothing = canonical.select(*keys, pl.lit("").alias("_reason")).clear()
    parts = [nothing]
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


def _canonical(group: FeatureGroup, rows: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Returns rows in canonical dtypes, each once, and whether an entity and event time was there more than once."""
    expected = RowSchema.of(group).computed
    wanted = list(expected)
    missing = [column for column in wanted if column not in rows.columns]
    unknown = [column for column in rows.columns if column not in wanted]
    failures = [f"column {column!r} is missing" for column in missing]
    schema = group.schema.__name__
    failures += [f"column {column!r} is neither a join key nor a feature of {schema}" for column in unknown]
    if failures:
        raise InvalidRowsError(group.name, failures, f"Rows need exactly the columns {wanted}.")
    expressions = []
    types = rows.schema
    for column in wanted:
        try:
            expressions.append(
                utc_micros(column, types)
                if column == EVENT_TIMESTAMP
                else _conversion(column, types[column], expected[column], types)
            )
        except InvalidRequestError as error:
            failures.append(str(error))
    if failures:
        raise InvalidRowsError(group.name, failures, "Cast the columns in the group's function.")
    try:
        canonical = rows.select(expressions)
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


def _conversion(  # noqa: PLR0911 - one line per dtype
    column: str, actual: pl.DataType, dtype: Dtype, schema: Mapping[str, pl.DataType]
) -> pl.Expr:
    target = polars_type(dtype)
    value = pl.col(column)
    if actual == pl.Null:
        return value.cast(target)
    if dtype.name == "timestamp":
        return utc_micros(column, schema)
    if dtype.name == "float" and actual.is_numeric():  # decimals among them: the schema asks for floats
        return nan_as_null(value.cast(target), target)
    if dtype.name == "int" and actual.is_integer():
        return value.cast(pl.Int64)
    if dtype.name == "string" and isinstance(actual, (pl.Categorical, pl.Enum)):
        return value.cast(pl.String)
    if dtype.name == "embedding" and isinstance(actual, (pl.List, pl.Array)) and actual.inner.is_numeric():
        return nan_as_null(value.cast(target), target)
    if actual == target:
        return value
    raise InvalidRequestError(f"column {column!r} holds {actual}, the schema declares {dtype}")


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
