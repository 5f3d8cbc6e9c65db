"""An ML feature store.

What a user needs is named here, and imported when it is first asked for: a model server that reads online pays for
neither Polars nor SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_store.clock import FixedClock, SystemClock
    from feature_store.definitions.dtypes import decimal, embedding, list_of, map_of
    from feature_store.definitions.entity import Entity
    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.feature_service import FeatureService
    from feature_store.definitions.group import FeatureGroup, feature_group
    from feature_store.definitions.on_demand import OnDemandFeatures, on_demand
    from feature_store.definitions.schema import Embedding, FeatureSchema, feature, window
    from feature_store.definitions.splits import split_by_entity, split_by_time
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.definitions.window_functions import (
        age,
        approx_distinct,
        approx_quantile,
        bottom,
        count,
        distinct,
        first,
        histogram,
        last,
        maximum,
        mean,
        minimum,
        stddev,
        top,
        total,
        variance,
    )
    from feature_store.errors import (
        CorruptFileError,
        DefinitionError,
        FeatureStoreError,
        InvalidRequestError,
        InvalidRowsError,
        InvalidSourceError,
        MissingSourceError,
        OnlineStoreError,
        RegistryConflictError,
        RegistryError,
        SettingsError,
        StreamError,
        UnknownFeatureError,
    )
    from feature_store.monitoring.drift import detect_drift
    from feature_store.partitions import Partitioning
    from feature_store.sources.csv_files import CsvSource
    from feature_store.sources.delta import DeltaSource
    from feature_store.sources.iceberg import IcebergSource
    from feature_store.sources.json_lines import JsonSource
    from feature_store.sources.parquet import ParquetSource
    from feature_store.sources.query import DuckDBSource, SqlSource
    from feature_store.store import FeatureStore
    from feature_store.streaming.registry import SchemaRegistry
    from feature_store.streaming.settings import StreamSettings

__version__ = "0.1.0"

_HOMES = {
    "feature_store.clock": ("FixedClock", "SystemClock"),
    "feature_store.definitions.dtypes": ("decimal", "embedding", "list_of", "map_of"),
    "feature_store.definitions.entity": ("Entity",),
    "feature_store.definitions.event_stream": ("EventStream",),
    "feature_store.definitions.feature_service": ("FeatureService",),
    "feature_store.definitions.group": ("FeatureGroup", "feature_group"),
    "feature_store.definitions.on_demand": ("OnDemandFeatures", "on_demand"),
    "feature_store.definitions.schema": ("Embedding", "FeatureSchema", "feature", "window"),
    "feature_store.definitions.splits": ("split_by_entity", "split_by_time"),
    "feature_store.definitions.training_set": ("TrainingSet",),
    "feature_store.definitions.window_functions": (
        "age",
        "approx_distinct",
        "approx_quantile",
        "bottom",
        "count",
        "distinct",
        "first",
        "histogram",
        "last",
        "maximum",
        "mean",
        "minimum",
        "stddev",
        "top",
        "total",
        "variance",
    ),
    "feature_store.errors": (
        "CorruptFileError",
        "DefinitionError",
        "FeatureStoreError",
        "InvalidRequestError",
        "InvalidRowsError",
        "InvalidSourceError",
        "MissingSourceError",
        "OnlineStoreError",
        "RegistryConflictError",
        "RegistryError",
        "SettingsError",
        "StreamError",
        "UnknownFeatureError",
    ),
    "feature_store.monitoring.drift": ("detect_drift",),
    "feature_store.partitions": ("Partitioning",),
    "feature_store.sources.csv_files": ("CsvSource",),
    "feature_store.sources.delta": ("DeltaSource",),
    "feature_store.sources.iceberg": ("IcebergSource",),
    "feature_store.sources.json_lines": ("JsonSource",),
    "feature_store.sources.parquet": ("ParquetSource",),
    "feature_store.sources.query": ("DuckDBSource", "SqlSource"),
    "feature_store.store": ("FeatureStore",),
    "feature_store.streaming.registry": ("SchemaRegistry",),
    "feature_store.streaming.settings": ("StreamSettings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CorruptFileError",
    "CsvSource",
    "DefinitionError",
    "DeltaSource",
    "DuckDBSource",
    "Embedding",
    "Entity",
    "EventStream",
    "FeatureGroup",
    "FeatureSchema",
    "FeatureService",
    "FeatureStore",
    "FeatureStoreError",
    "FixedClock",
    "IcebergSource",
    "InvalidRequestError",
    "InvalidRowsError",
    "InvalidSourceError",
    "JsonSource",
    "MissingSourceError",
    "OnDemandFeatures",
    "OnlineStoreError",
    "ParquetSource",
    "Partitioning",
    "RegistryConflictError",
    "RegistryError",
    "SchemaRegistry",
    "SettingsError",
    "SqlSource",
    "StreamError",
    "StreamSettings",
    "SystemClock",
    "TrainingSet",
    "UnknownFeatureError",
    "age",
    "approx_distinct",
    "approx_quantile",
    "bottom",
    "count",
    "decimal",
    "detect_drift",
    "distinct",
    "embedding",
    "feature",
    "feature_group",
    "first",
    "histogram",
    "last",
    "list_of",
    "map_of",
    "maximum",
    "mean",
    "minimum",
    "on_demand",
    "split_by_entity",
    "split_by_time",
    "stddev",
    "top",
    "total",
    "variance",
    "window",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
