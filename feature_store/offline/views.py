"""SQL over the offline store: DuckDB views that read the Parquet files in place.

Views for people and tools. Point-in-time joins do not go through them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb

from feature_store.catalog import Feature, Group
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError
from feature_store.offline.footers import present_columns
from feature_store.offline.layout import SUFFIX, PartitionFile, group_folder
from feature_store.offline.sql import exact_path, identifier, literal, sql_type
from feature_store.storage.duckdb_files import register_files
from feature_store.storage.location import Location

FEATURE_VALUE = "feature_value"


def create_views(
    root: Location, groups: Iterable[tuple[Group, Sequence[PartitionFile]]], connection: duckdb.DuckDBPyConnection
) -> None:
    """Creates or replaces one view per group, named as the group, and the view `feature_value`.

    A group's view has the columns of its rows and `date`, the partition. `feature_value` is the append log of all
    features: `feature_id` (the registry's number), `entity_id`, `value` (JSON text, null for null),
    `event_timestamp` and `ingested_at`. Both show files that are written later; features that are added later,
    and the first file of a group that had none, show once the views are created again.

    Raises:
        InvalidRequestError: If a group has the name of the log.
        CorruptFileError: If the footer of a file is damaged or not its group's.
    """
    register_files(connection, [root])
    logs = []
    for group, files in groups:
        if group.name == FEATURE_VALUE:
            raise InvalidRequestError(
                f"Feature group {group.name!r} has the name of the view of all feature values: rename the group."
            )
        connection.execute(f"CREATE OR REPLACE VIEW {identifier(group.name)} AS {_rows(root, group, files)}")
        logs += [_log(group, feature) for feature in group.features]
    nothing = (
        "SELECT NULL::BIGINT AS feature_id, NULL::VARCHAR AS entity_id, NULL::VARCHAR AS value, "
        f"NULL::TIMESTAMPTZ AS {EVENT_TIMESTAMP}, NULL::TIMESTAMPTZ AS {INGESTED_AT} WHERE false"
    )
    connection.execute(f"CREATE OR REPLACE VIEW {FEATURE_VALUE} AS {' UNION ALL '.join([nothing, *logs])}")


def _rows(root: Location, group: Group, files: Sequence[PartitionFile]) -> str:
    present = frozenset[str]().union(*present_columns(group, files))
    values = [
        f"{_without_nan(feature)} AS {identifier(feature.ref.column)}"
        if feature.ref.column in present
        else f"NULL::{sql_type(feature.dtype)} AS {identifier(feature.ref.column)}"
        for feature in group.features
    ]
    if not files:
        keys = [f"NULL::{sql_type(dtype)} AS {identifier(key)}" for key, dtype in group.entity.key_dtypes.items()]
        times = [f"NULL::TIMESTAMPTZ AS {column}" for column in (EVENT_TIMESTAMP, INGESTED_AT)]
        return f"SELECT {', '.join([*keys, times[0], *values, times[1]])}, NULL::DATE AS date WHERE false"
    columns = [*map(identifier, group.entity.join_keys), EVENT_TIMESTAMP, *values, INGESTED_AT, "date"]
    # One pattern, not a list of files: the view then sees files that are written after it.
    pattern = literal(f"{exact_path(group_folder(root, group.name))}/date=*/*{SUFFIX}")
    return (
        f"SELECT {', '.join(columns)} "  # noqa: S608  # validated names, quoted
        f"FROM read_parquet({pattern}, union_by_name = true, hive_partitioning = true, hive_types = {{date: DATE}})"
    )


def _log(group: Group, feature: Feature) -> str:
    value = _json(identifier(feature.ref.column), feature.dtype)
    return (
        f"SELECT {feature.id}::BIGINT, {_entity_id(group)}, {value}, "  # noqa: S608  # validated names, quoted
        f"{EVENT_TIMESTAMP}, {INGESTED_AT} FROM {identifier(group.name)}"
    )


def _without_nan(feature: Feature) -> str:
    column = identifier(feature.ref.column)
    if feature.dtype.name == "float":
        return f"nullif({column}, 'NaN'::DOUBLE)"
    if feature.dtype.name == "embedding":
        return f"CASE WHEN NOT list_contains({column}, 'NaN'::FLOAT) THEN {column} END"
    return column


def _entity_id(group: Group) -> str:
    keys = [f"{identifier(key)}::VARCHAR" for key in group.entity.join_keys]
    if len(keys) == 1:
        return keys[0]
    return " || '|' || ".join(rf"replace(replace({key}, '\', '\\'), '|', '\|')" for key in keys)


def _json(column: str, dtype: Dtype) -> str:
    """Returns the JSON text of a value as the online store spells it: infinities as 1e999, UTC with microseconds."""
    if dtype.name == "float":
        return _float_json(column)
    if dtype.name == "embedding":
        elements = f"list_transform({column}, lambda x: coalesce({_float_json('x::DOUBLE')}, 'null'))"
        return f"'[' || array_to_string({elements}, ',') || ']'"
    if dtype.name == "timestamp":
        return f"""strftime({column} AT TIME ZONE 'UTC', '"%Y-%m-%dT%H:%M:%S.%fZ"')"""
    return f"to_json({column})::VARCHAR"


def _float_json(value: str) -> str:
    infinity = f"CASE WHEN {value} > 0 THEN '1e999' ELSE '-1e999' END"
    return f"CASE WHEN isnan({value}) THEN NULL WHEN isinf({value}) THEN {infinity} ELSE to_json({value})::VARCHAR END"
