"""Between the store and Spark: dtypes, addresses of files, and a group's history as a Spark frame."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import FeatureStoreError
from feature_store.offline.point_in_time.engine import GroupHistory, WindowHistory
from feature_store.rows.forms import MAP_KEY, MAP_VALUE, forms_of
from feature_store.rows.schema import RowSchema
from feature_store.storage.location import storage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyspark.sql import Column, DataFrame, SparkSession

_GLOB = frozenset("{}[]*?\\")

# No join key and no feature can have a leading underscore.
FILE = "_file"
ROW = "_row"

_BYTES_PER_TASK = 128 * 2**20
_SPREAD = 6
"""Memory that rows take in a shuffle per byte of a compressed file, more or less."""

_MOST_TASKS = 20_000


def spark_type(dtype: Dtype) -> str:
    """Returns the Spark type of a dtype, as it comes out of a Parquet file."""
    return forms_of(dtype).spark


def quoted(name: str) -> str:
    """Returns a column's name such that Spark reads it as one, whatever characters are in it."""
    return "`" + name.replace("`", "``") + "`"


def uri(path: Any, *, exact: bool = True) -> str:
    """Returns the address under which Spark finds a file or folder of the store.

    Args:
        path: A local path or an `s3://` address.
        exact: Whether characters of a pattern are to stand for themselves, as Spark's readers need it.
    """
    address = storage_of(path).spark_address(path)
    return "".join(f"\\{letter}" if letter in _GLOB else letter for letter in address) if exact else address


def history_schema(history: GroupHistory | WindowHistory) -> str:
    """Returns the columns that a read needs of a group's files: keys, times, features."""
    stored = RowSchema.of(history.group).stored
    wanted = [*history.group.entity.join_keys, EVENT_TIMESTAMP, *history.columns, INGESTED_AT]
    return _ddl({column: stored[column] for column in wanted})


def key_schema(group: RegisteredGroup) -> str:
    """Returns a group's join keys and their types, in order."""
    return _ddl(group.entity.key_dtypes)


def _ddl(columns: Mapping[str, Dtype]) -> str:
    return ", ".join(f"{quoted(column)} {spark_type(dtype)}" for column, dtype in columns.items())


def constant(value: Any, dtype: Dtype) -> Column:
    """Returns a value, as answers have it, as a column."""
    from pyspark.sql import functions as f

    if dtype.name == "map":
        assert dtype.element is not None
        entries = [
            f.struct(f.lit(key).alias(MAP_KEY), constant(item, dtype.element).alias(MAP_VALUE))
            for key, item in value.items()
        ]
        return f.array(*entries).cast(spark_type(dtype))
    if isinstance(value, list):
        return f.array(*(constant(item, dtype.scalar) for item in value)).cast(spark_type(dtype))
    return (f.timestamp_micros(f.lit(to_micros(value))) if isinstance(value, datetime) else f.lit(value)).cast(
        spark_type(dtype)
    )


def read_history(session: SparkSession, history: GroupHistory | WindowHistory) -> DataFrame:
    """Returns the rows of a history, with `_file` and `_row` that settle which of two equal rows is the later one.

    Raises:
        FeatureStoreError: If Spark would pass over a file.
    """
    hidden = [file for file in history.files if file.name.startswith("_")]
    if hidden:
        raise FeatureStoreError(
            f"Spark does not see files whose names begin with '_', such as {hidden[0].path}, of feature group "
            f"{history.group.name!r}: read with another engine, or rename the stream's writer."
        )
    from pyspark.sql import functions as f

    reader = (
        session.read.schema(history_schema(history))
        # The files are named one by one: nothing is to be found out from their folders.
        .option("recursiveFileLookup", "true")
        # What cannot be read must fail the read, whatever a cluster's defaults say.
        .option("ignoreCorruptFiles", "false")
        .option("ignoreMissingFiles", "false")
        .option("mergeSchema", "false")
        .option("datetimeRebaseMode", "CORRECTED")
        .option("int96RebaseMode", "CORRECTED")
    )
    rows = reader.parquet(*(uri(file.path) for file in history.files))
    event = f.col(EVENT_TIMESTAMP)
    start, end = (_moment(micros) for micros in _micros(history))
    return rows.select("*", f.col("_metadata.file_name").alias(FILE), f.col("_metadata.row_index").alias(ROW)).where(
        (event >= start) & (event < end)
    )


def columns_of(names: Iterable[str]) -> list[Column]:
    """Returns columns by their exact names."""
    from pyspark.sql import functions as f

    return [f.col(quoted(name)).alias(name) for name in names]


def _micros(history: GroupHistory | WindowHistory) -> tuple[int, int]:
    return to_micros(history.span.start), to_micros(history.span.end)


def _moment(micros: int) -> Column:
    from pyspark.sql import functions as f

    return f.timestamp_micros(f.lit(micros))


def shuffle_tasks(session: SparkSession, history: GroupHistory | WindowHistory) -> int:
    """Returns among how many tasks a history is spread, such that each holds a bounded part of it in memory.

    A setting `spark.sql.shuffle.partitions` of the application is a floor.
    """
    stored = sum(file.size for file in history.files)
    needed = -(-stored * _SPREAD // _BYTES_PER_TASK)
    floor = session.sparkContext.getConf().get("spark.sql.shuffle.partitions")
    return min(_MOST_TASKS, max(needed, int(floor) if floor else session.sparkContext.defaultParallelism, 1))
