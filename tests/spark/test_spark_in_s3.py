"""Spark on an offline store in S3: files read and written through S3A, whose jars Spark fetches itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.orders import START
from tests.servers.s3 import S3Server

pytestmark = [
    pytest.mark.needs_spark,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java"),
]

# In a process of its own: an application that runs has no S3A, and gets none.
JOB = """
import json, sys
from datetime import UTC, datetime
import polars as pl
from feature_store.clock import FixedClock
from feature_store.storage.location import open_location
from feature_store.store import FeatureStore
from tests.cli.shop import spending

root, redis, registry, labels = sys.argv[1:]
clock = FixedClock(datetime(2024, 3, 10, tzinfo=UTC))
stores = {
    engine: FeatureStore(f"{root}/{engine}", redis, f"{registry}-{engine}", clock, engine)
    for engine in ("sweep", "spark")
}
frame = pl.read_parquet(labels)
answers, files, features = [], [], ["spending"]
for engine, store in stores.items():
    store.apply([spending])
    store.materialize(spending, "2024-03-02", "2024-03-08")
    files.append([(file.name, file.date.isoformat()) for file in store.offline.files("spending")])
    answers.append(store.training_set(frame, features).write_json())
done = stores["spark"].join_files(labels, features, f"{root}/joined")
parts = sorted(open_location(f"{root}/joined", setting="test").iterdir(), key=str)
rows = [pl.read_parquet(part.read_bytes()) for part in parts if part.suffix == ".parquet"]
answers.append(pl.concat(rows).write_json())
print(json.dumps({"answers": answers, "files": files, "rows": done.rows}))
"""


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def test_a_store_in_s3_is_written_and_read_as_by_one_machine(tmp_path: Path, redis_url: str, s3: S3Server):
    labels = pl.DataFrame({"customer": ["c1", "c2", "nobody", "c3"] * 5}).with_columns(
        event_timestamp=pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(hours=pl.int_range(20) * 11)
    )
    labels.write_parquet(tmp_path / "labels.parquet")
    conf = (
        "spark.master=local[2] spark.ui.enabled=false spark.driver.bindAddress=127.0.0.1 "
        "spark.driver.host=127.0.0.1 spark.sql.shuffle.partitions=2"
    )
    environment = {**os.environ, **s3.environment, "FEATURE_STORE_SPARK_CONF": conf, "PYTHONPATH": str(Path.cwd())}
    registry, label_file = f"sqlite:///{tmp_path}/registry.db", str(tmp_path / "labels.parquet")
    command = [sys.executable, "-c", JOB, s3.new_root(), redis_url, registry, label_file]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    one, spark, joined = told["answers"]
    assert one == spark == joined
    assert one.count("null") < 60
    assert told["files"][0] == told["files"][1]
    assert len(told["files"][0]) == 7
    assert told["rows"] == 20
