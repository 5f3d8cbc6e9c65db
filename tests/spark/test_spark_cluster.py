"""A standalone cluster of two workers: code reaches them, one of them is killed, and both stores are whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.servers.spark_cluster import SparkCluster

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]

DAYS, USERS = 4, 8
SHOP = """
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
import polars as pl
from feature_store import Entity, FeatureSchema, ParquetSource, feature, feature_group

class Habits(FeatureSchema):
    orders_2d: int = feature("Orders of two days.")
    last_amount: float = feature("Amount of the last order.")

@feature_group(
    entity=Entity("user", {"user_id": str}), schema=Habits, owner="team@example.com", lookback=timedelta(days=2),
    source=ParquetSource("orders", Path(os.environ["ORDERS"]), datetime(2024, 1, 1, tzinfo=UTC)),
)
def habits(events: pl.LazyFrame) -> pl.LazyFrame:
    counted = events.sort("user_id", "event_timestamp").rolling("event_timestamp", period="2d", group_by="user_id")
    return counted.agg(pl.len().cast(pl.Int64).alias("orders_2d"), pl.col("amount").last().alias("last_amount"))
"""
DRIVER = f"""
import json, sys
from pathlib import Path
from cluster_shop import habits
from feature_store import FeatureStore, FeatureStoreError

store = FeatureStore.from_env()
store.apply([habits])
errors = []
for attempt in range(2):
    try:
        store.materialize(habits, "2024-01-01", "2024-01-0{DAYS}")
        break
    except FeatureStoreError as error:
        errors.append(str(error))
columns = ["user_id", "event_timestamp", "orders_2d", "last_amount"]
group = store.catalog().group("habits")
rows = None if errors else store.offline.scan(group).select(columns).sort(columns).collect()
served = [store.get_online_features(f"u{{n}}", ["orders_2d", "last_amount"]) for n in range({USERS})]
Path(sys.argv[1]).write_text(json.dumps(
    {{"errors": errors, "rows": None if rows is None else str(rows.rows()), "served": str(served)}}
))
"""


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> dict[str, str]:
    """Variables of a driver beside its orders and its definitions."""
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for day in range(DAYS):
        times = [start + timedelta(days=day, hours=hour, seconds=user) for hour in range(24) for user in range(USERS)]
        orders = pl.DataFrame(
            {
                "user_id": [f"u{number % USERS}" for number in range(len(times))],
                "event_timestamp": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
                "amount": [float(number + day) for number in range(len(times))],
            }
        )
        folder = tmp_path / "orders" / f"date=2024-01-0{day + 1}"
        folder.mkdir(parents=True)
        orders.write_parquet(folder / "orders.parquet")
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "cluster_shop.py").write_text(SHOP)
    with zipfile.ZipFile(tmp_path / "definitions.zip", "w") as archive:
        archive.writestr("cluster_shop.py", SHOP)
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(tmp_path / "driver"),
        "ORDERS": str(tmp_path / "orders"),
        "FEATURE_STORE_ONLINE": redis_url,
        "FEATURE_STORE_CLOCK": "2024-01-06T00:00:00Z",
    }


def driven(folder: Path, variables: dict[str, str], name: str, **more: str) -> dict[str, object]:
    (folder / "driver.py").write_text(DRIVER)
    done = folder / f"{name}.json"
    env = {
        **variables,
        "FEATURE_STORE_OFFLINE": str(folder / name),
        "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / name}.db",
        **more,
    }
    ran = subprocess.run(
        [sys.executable, str(folder / "driver.py"), str(done)],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.exists(), ran.stderr[-3000:]
    return json.loads(done.read_text())


def on(cluster: SparkCluster, **more: str) -> dict[str, str]:
    options = {
        "spark.master": cluster.url,
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.executor.memory": "700m",
        "spark.sql.shuffle.partitions": "2",
        **more,
    }
    conf = " ".join(f"{name}={value}" for name, value in options.items())
    return {"FEATURE_STORE_ENGINE": "spark", "FEATURE_STORE_SPARK_CONF": conf, "PYSPARK_PYTHON": sys.executable}


def test_code_reaches_workers_one_is_killed_and_both_stores_are_those_of_one_machine(shop, tmp_path, redis_server):
    expected = driven(tmp_path, shop, "alone")
    assert expected["errors"] == []
    redis_server.client().flushall()
    with SparkCluster(tmp_path) as cluster:
        orders = {"spark.executorEnv.ORDERS": shop["ORDERS"]}
        lacking = driven(tmp_path, shop, "lacking", **on(cluster, **orders))
        assert "lack the module 'cluster_shop'" in lacking["errors"][0]
        assert "spark.submit.pyFiles" in lacking["errors"][0]
        assert list((tmp_path / "lacking").rglob("*.parquet")) == []

        killed = threading.Event()

        def kill_at_the_first_file() -> None:
            deadline = time.monotonic() + 200
            while not list((tmp_path / "together").rglob("*.parquet")) and time.monotonic() < deadline:
                time.sleep(0.02)
            cluster.kill_worker()
            killed.set()

        threading.Thread(target=kill_at_the_first_file, daemon=True).start()
        brought = {"spark.submit.pyFiles": str(tmp_path / "definitions.zip"), **orders}
        found = driven(tmp_path, shop, "together", **on(cluster, **brought))
        assert killed.wait(1)
    # A pass that failed has said so, and the second one has completed it.
    if found["errors"]:
        found = driven(tmp_path, shop, "together")
    assert found["rows"] == expected["rows"]
    assert found["served"] == expected["served"]
