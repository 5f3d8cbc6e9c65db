"""SQL over the offline store: DuckDB views that read the Parquet files in place.

Views for people and tools. Point-in-time joins do not go through them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRequestError
from feature_store.offline.footers import present_columns
from feature_store.offline.layout import OFFSETS, SUFFIX, PartitionFile, group_folder
from feature_store.offline.sql import exact_path, identifier, literal, sql_type
from feature_store.rows.forms import MAP_KEY, MAP_VALUE
from feature_store.rows.schema import RowSchema
from feature_store.storage.duckdb_files import register_files
from feature_store.storage.folder_names import DATE_PREFIX
from feature_store.storage.location import Location

FEATURE_VALUE = "feature_value"

# No group, join key or feature can have a leading underscore.
_FILE = "_file"
_LISTED = "_listed"
_REPLACED = "_replaced"
_FEATURE_ID = "_feature_id"
_FOLDER_DATE = "_date"
_ELEMENT = "_element"
_DAY_FOLDER = f"{DATE_PREFIX}[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


def create_views(
    root: Location,
    groups: Iterable[tuple[RegisteredGroup, Sequence[PartitionFile]]],
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Creates or replaces one view per group, named as the group, and the view `feature_value`.

    A group's view has the columns of its rows and `date`, the partition. `feature_value` is the log of all features:
    `feature_id` (the registry's number), `entity_id`, `value` (JSON text, null for null), `event_timestamp` and
    `ingested_at`. Both hold, of the rows of one entity and event time, the one that counts: that which was ingested
    last. Both show files that are written later; features that are added later, and the first file of a group that
    had none, show once the views are created again.

    Raises:
        InvalidRequestError: If a group has the name of the log, or DuckDB cannot list the root's folders.
        CorruptFileError: If the footer of a file is damaged or not its group's.
    """
    if "\\" in str(root):
        raise InvalidRequestError(
            f"DuckDB cannot list {root}, as it takes a backslash for the end of a folder's name: make a link to the "
            "folder whose path has none, and let FEATURE_STORE_OFFLINE name the link."
        )
    register_files(connection, [root])
    logs = []
    for registered, files in groups:
        group = registered.rows
        if group.name == FEATURE_VALUE:
            raise InvalidRequestError(
                f"Feature group {group.name!r} has the name of the view of all feature values: rename the group."
            )
        connection.execute(f"CREATE OR REPLACE VIEW {identifier(group.name)} AS {_rows(root, group, files)}")
        # The values of windows are nowhere stored: who asks folds them.
        if group.features and not group.windows:
            logs.append(_log(group))
    nothing = (
        "SELECT NULL::BIGINT AS feature_id, NULL::VARCHAR AS entity_id, NULL::VARCHAR AS value, "
        f"NULL::TIMESTAMPTZ AS {EVENT_TIMESTAMP}, NULL::TIMESTAMPTZ AS {INGESTED_AT} WHERE false"
    )
    connection.execute(f"CREATE OR REPLACE VIEW {FEATURE_VALUE} AS {' UNION ALL '.join([nothing, *logs])}")


def _rows(root: Location, group: RegisteredGroup, files: Sequence[PartitionFile]) -> str:
    present = frozenset[str]().union(*present_columns(group, files))
    stored = RowSchema.of(group).stored
    nulls = {column: f"NULL::{sql_type(dtype)} AS {identifier(column)}" for column, dtype in stored.items()}
    if not files:
        return f"SELECT {', '.join(nulls.values())}, NULL::DATE AS date WHERE false"
    found = {column: f"r.{identifier(column)}" for column in stored}
    for feature in group.features:
        column = feature.ref.column
        found[column] = f"{_without_nan(feature)} AS {identifier(column)}" if column in present else nulls[column]
    columns = [*found.values(), f"l.{_FOLDER_DATE} AS date"]
    # One pattern, not a list of files: the view then sees files that are written after it. What the folders above
    # are called means nothing: a root may lie below a folder `clicks=3`.
    folder = group_folder(root, group.name)
    pattern = literal(f"{exact_path(folder)}/{_DAY_FOLDER}/*{SUFFIX}")
    options = f"hive_partitioning = false, filename = '{_FILE}'"
    # Files are listed before the rows are: what is written in between is passed over, and nothing is seen twice.
    # Rows that others have replaced are looked for, by keys and times alone, in the few folders that can have some.
    return f"""
        WITH {_LISTED} AS MATERIALIZED ({_listed(pattern)}),
        {_REPLACED} AS (
            SELECT {_FILE}, file_row_number, {EVENT_TIMESTAMP}
            FROM read_parquet({pattern}, {options}) r
            WHERE {_FILE} IN (SELECT {_FILE} FROM {_LISTED} WHERE is_shared)
            QUALIFY row_number() OVER (
                PARTITION BY {", ".join(found[column] for column in (*group.entity.join_keys, EVENT_TIMESTAMP))}
                ORDER BY {found[INGESTED_AT]} DESC NULLS LAST, r.{_FILE} DESC, file_row_number DESC
            ) > 1
        )
        SELECT {", ".join(columns)}
        FROM {_LISTED} l JOIN read_parquet({pattern}, union_by_name = true, {options}) r ON r.{_FILE} = l.{_FILE}
        WHERE NOT EXISTS (
            FROM {_REPLACED} p WHERE p.{_FILE} = r.{_FILE} AND p.file_row_number = r.file_row_number
            AND p.{EVENT_TIMESTAMP} = {found[EVENT_TIMESTAMP]}
        )
    """  # noqa: S608  # validated names, quoted


def _listed(pattern: str) -> str:
    """Returns the statement that lists the files that belong to the store, as `layout.list_files` does.

    Its columns are the file, its `date`, and `is_shared`: whether another row of its folder can be of the same entity
    and event time. A pass of the batch has each once, and its hours do not share any.
    """
    reached = (
        "max(last) OVER (PARTITION BY folder, lane ORDER BY first, last DESC, name "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    )
    return f"""
        SELECT {_FILE}, {_FOLDER_DATE}, NOT bool_and(is_hour) OVER folders
            AND NOT (writer = 'batch' AND count(*) OVER folders = 1) AS is_shared
        FROM (
            SELECT *, coalesce({reached} >= last, false) AS is_covered
            FROM (
                SELECT *, name[:-{len(SUFFIX) + 1}] AS writer, regexp_full_match(writer, 'batch-[0-9]{{2}}') AS is_hour,
                    try_cast(right(folder, 10) AS DATE) AS {_FOLDER_DATE},
                    regexp_extract(writer, {literal(f"^(?:{OFFSETS})$")}, ['lane', 'first', 'last']) AS offsets,
                    offsets['lane'] AS lane, try_cast(offsets['first'] AS HUGEINT) AS first,
                    try_cast(offsets['last'] AS HUGEINT) AS last
                FROM (SELECT file AS {_FILE}, parse_filename(file) AS name, parse_dirpath(file) AS folder
                      FROM glob({pattern}))
            )
            WHERE {_FOLDER_DATE} IS NOT NULL AND name NOT LIKE '.%'
        )
        WHERE NOT is_covered
        WINDOW folders AS (PARTITION BY folder)
    """  # noqa: S608  # validated names, quoted


def _log(group: RegisteredGroup) -> str:
    """Returns the statement of a group's part of the log.

    Each row meets the numbers of all features, and each number picks its value: the cost is that of the values asked
    for, and a condition on `feature_id` spares all others.
    """
    numbers = ", ".join(f"({feature.id})" for feature in group.features)
    picked = " ".join(
        f"WHEN {feature.id} THEN {_json(identifier(feature.ref.column), feature.dtype)}" for feature in group.features
    )
    return (
        f"SELECT {_FEATURE_ID}::BIGINT, {_entity_id(group)}, CASE {_FEATURE_ID} {picked} END, "  # noqa: S608
        f"{EVENT_TIMESTAMP}, {INGESTED_AT} "
        f"FROM {identifier(group.name)} CROSS JOIN (VALUES {numbers}) AS _features({_FEATURE_ID})"
    )


def _without_nan(feature: Feature) -> str:
    column = f"r.{identifier(feature.ref.column)}"
    dtype = feature.dtype
    if not dtype.holds_floats:
        return column
    if dtype.name == "float":
        return f"nullif({column}, 'NaN'::DOUBLE)"
    value = f"{_ELEMENT}.{identifier(MAP_VALUE)}" if dtype.name == "map" else _ELEMENT
    return f"CASE WHEN len(list_filter({column}, lambda {_ELEMENT}: isnan({value}))) = 0 THEN {column} END"


def _entity_id(group: RegisteredGroup) -> str:
    keys = [f"{identifier(key)}::VARCHAR" for key in group.entity.join_keys]
    if len(keys) == 1:
        return keys[0]
    return " || '|' || ".join(rf"replace(replace({key}, '\', '\\'), '|', '\|')" for key in keys)


def _json(column: str, dtype: Dtype) -> str:
    """Returns the JSON text of a value as the online store spells it: infinities as 1e999, UTC with microseconds."""
    if dtype.name == "embedding":
        elements = (
            f"list_transform({column}, lambda {_ELEMENT}: coalesce({_float_json(f'{_ELEMENT}::DOUBLE')}, 'null'))"
        )
    elif dtype.name == "list":
        assert dtype.element is not None
        elements = f"list_transform({column}, lambda {_ELEMENT}: {_scalar_json(_ELEMENT, dtype.element)})"
    elif dtype.name == "map":
        assert dtype.element is not None
        key, value = f"{_ELEMENT}.{identifier(MAP_KEY)}", f"{_ELEMENT}.{identifier(MAP_VALUE)}"
        entry = f"to_json({key})::VARCHAR || ':' || {_scalar_json(value, dtype.element)}"
        return f"'{{' || array_to_string(list_transform({column}, lambda {_ELEMENT}: {entry}), ',') || '}}'"
    else:
        return _scalar_json(column, dtype)
    return f"'[' || array_to_string({elements}, ',') || ']'"


def _scalar_json(value: str, dtype: Dtype) -> str:
    if dtype.name == "float":
        return _float_json(value)
    if dtype.name == "timestamp":
        return f"""strftime({value} AT TIME ZONE 'UTC', '"%Y-%m-%dT%H:%M:%S.%fZ"')"""
    if dtype.name in {"date", "decimal"}:
        return f"""'"' || {value}::VARCHAR || '"'"""
    return f"to_json({value})::VARCHAR"


def _float_json(value: str) -> str:
    infinity = f"CASE WHEN {value} > 0 THEN '1e999' ELSE '-1e999' END"
    return f"CASE WHEN isnan({value}) THEN NULL WHEN isinf({value}) THEN {infinity} ELSE to_json({value})::VARCHAR END"
