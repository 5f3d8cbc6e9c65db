"""The engines by the names that `FEATURE_STORE_ENGINE` gives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import duckdb

from feature_store.errors import SettingsError
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.engine import PointInTimeEngine


def engine_named(
    name: str, *, connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None
) -> PointInTimeEngine:
    """Returns an engine by name.

    Args:
        name: `duckdb`.
        connect: Opens the DuckDB connections that a SQL engine works on; in memory if None.

    Raises:
        SettingsError: If there is no engine of this name.
    """
    if name == DuckDBEngine.name:
        return DuckDBEngine(connect)
    raise SettingsError(f"FEATURE_STORE_ENGINE={name!r} is no engine of point-in-time reads. Use duckdb.")
