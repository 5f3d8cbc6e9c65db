"""The engines by the names that `FEATURE_STORE_ENGINE` gives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import duckdb

from feature_store.errors import SettingsError
from feature_store.offline.point_in_time.choice import AutomaticEngine
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.engine import PointInTimeEngine


def engine_named(
    name: str,
    *,
    connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None,
    spark_conf: str | None = None,
) -> PointInTimeEngine:
    """Returns an engine by name.

    Args:
        name: `sweep`, `duckdb`, `auto` for the cheaper of the two, read by read, or `spark`.
        connect: Opens the DuckDB connections that a SQL engine works on; in memory if None.
        spark_conf: Settings of the Spark application that is started; see `spark.session.spark_session`.

    Raises:
        SettingsError: If there is no engine of this name.
    """
    if name == "spark":
        # Who asks for it has the extra that brings pyspark.
        from feature_store.spark.engine import SparkEngine

        return SparkEngine(conf=spark_conf)
    sweep, sql = SweepEngine(), DuckDBEngine(connect)
    engines: list[PointInTimeEngine] = [sweep, sql, AutomaticEngine(sweep, sql)]
    for engine in engines:
        if engine.name == name:
            return engine
    raise SettingsError(
        f"FEATURE_STORE_ENGINE={name!r} is no engine of point-in-time reads. Use sweep, duckdb or spark, or unset "
        "it for the cheaper of the first two, read by read."
    )
