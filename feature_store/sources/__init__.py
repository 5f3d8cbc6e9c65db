"""Sources: files in date folders, Delta Lake, Iceberg, warehouses, DuckDB files.

Each reads the events of a time range and nothing else, and is imported when it is first asked for. What needs more than
the library itself comes with an extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_store.sources.csv_files import CsvSource
    from feature_store.sources.delta import DeltaSource
    from feature_store.sources.iceberg import IcebergSource
    from feature_store.sources.json_lines import JsonSource
    from feature_store.sources.parquet import ParquetSource
    from feature_store.sources.query import DuckDBSource, SqlSource

_HOME_OF = {
    "CsvSource": "csv_files",
    "DeltaSource": "delta",
    "DuckDBSource": "query",
    "IcebergSource": "iceberg",
    "JsonSource": "json_lines",
    "ParquetSource": "parquet",
    "SqlSource": "query",
}

__all__ = ["CsvSource", "DeltaSource", "DuckDBSource", "IcebergSource", "JsonSource", "ParquetSource", "SqlSource"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value
