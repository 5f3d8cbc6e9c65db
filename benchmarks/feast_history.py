"""The point-in-time read of the benchmark as Feast does it. Runs in Feast's own environment, not in the project's.

Takes one request as JSON from the standard input, writes the answer as Parquet, and prints what it took as JSON.
"""

import json
import resource
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64

request = json.load(sys.stdin)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


with tempfile.TemporaryDirectory() as folder:
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(Path(folder) / "registry.db"),
            online_store={"type": "sqlite", "path": str(Path(folder) / "online.db")},
            offline_store={"type": request["store"]},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(
        name=request["key"],
        join_keys=[request["key"]],
        value_type=ValueType.STRING if request["key_type"] == "string" else ValueType.INT64,
    )
    views = []
    for name, group in request["groups"].items():
        # DuckDB reads a pattern, Dask a folder.
        path = f"{group['path']}/*/*.parquet" if request["store"] == "duckdb" else group["path"]
        source = FileSource(
            name=f"{name}_source",
            path=path,
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
            created_timestamp_column="ingested_at",
        )
        views.append(
            FeatureView(
                name=name,
                entities=[user],
                ttl=timedelta(seconds=request["ttl_seconds"]),
                schema=[Field(name=column, dtype=Float64) for column in group["columns"]],
                source=source,
            )
        )
    store.apply([user, *views])
    began, cpu = time.perf_counter(), cpu_seconds()
    labels = pq.read_table(request["labels"]).to_pandas().rename(columns={request["label_time"]: "event_timestamp"})
    features = [f"{name}:{column}" for name, group in request["groups"].items() for column in group["columns"]]
    answer = store.get_historical_features(entity_df=labels, features=features).to_arrow()
    if not isinstance(answer, pa.Table):
        answer = pa.Table.from_batches(answer)
    pq.write_table(answer, request["out"], compression="zstd")
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - began,
                "cpu": cpu_seconds() - cpu,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
