"""The figures that docs/scale.md multiplies: `python -m benchmarks.scale [--entities 4000] [--features 10]`.

Bytes per entity in Redis and rates of one core, bytes per row in Parquet, requests that a point-in-time read sends to
S3. It starts servers of its own, and takes half a minute.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import timedelta
from functools import partial

import polars as pl
from redis import Redis

from benchmarks.online import NOW, Layout, group, rows, server
from feature_store.catalog import Catalog
from feature_store.clock import SystemClock
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.online.embedded import _binary
from feature_store.online.store import OnlineStore
from feature_store.partitions import Partitioning
from tests.servers.fault_proxy import FaultProxy
from tests.servers.s3 import S3Server, environment

GROUPS = 5
"""Groups that are measured; each costs the same."""

READS = 300
DAYS = 30


def redis_figures(layout: Layout, entities: int, features: int) -> None:
    with server(str(_binary())) as port:
        groups = [group(f"g{number}", features, layout) for number in range(GROUPS)]
        catalog = Catalog.of(groups)
        client = Redis(port=port)
        store = OnlineStore.connect(f"redis://127.0.0.1:{port}", SystemClock())
        before = client.info("memory")["used_memory"]
        started = time.perf_counter()
        for of in groups:
            store.write(of, rows(of, entities))
        seconds = time.perf_counter() - started
        used = client.info("memory")["used_memory"] - before
        per = used / entities / GROUPS
        print(
            f"redis {layout}: {per:,.0f} bytes per entity and group of {features} floats; "
            f"{GROUPS * entities / seconds:,.0f} rows/s written by one process"
        )
        selections = catalog.select([of.name for of in groups[:2]])
        cpu = client.info("cpu")
        cpu_before = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
        started = time.perf_counter()
        for number in range(READS):
            ids = [f"user_{(number * 37 + offset) % entities}" for offset in range(100)]
            store.read(ids, selections, catalog)
        seconds = time.perf_counter() - started
        cpu = client.info("cpu")
        spent = cpu["used_cpu_user"] + cpu["used_cpu_sys"] - cpu_before
        print(
            f"redis {layout}: {READS * 100 / seconds:,.0f} entities/s x {2 * features} features read by one process, "
            f"100 at a time; {READS * 100 / spent:,.0f} entities/s per core of the server"
        )
        store.close()
        client.close()


def parquet_figures(entities: int, features: int) -> None:
    of = group("g0", features, "row")
    with tempfile.TemporaryDirectory() as folder, S3Server() as s3, FaultProxy(s3.url) as proxy:
        os.environ.update(environment(proxy.url))
        for root in (folder, s3.new_root()):
            store = OfflineStore(root)
            last = NOW.date()
            frame = rows(of, entities)
            started = time.perf_counter()
            for day in range(DAYS):
                window = Partitioning.DAILY.window(str(last - timedelta(days=day)))
                moved = frame.with_columns(event_timestamp=pl.lit(window.start).cast(pl.Datetime("us", "UTC")))
                given = moved.drop("ingested_at")
                store.replace_partition(of, window, given, began=NOW, claim=partial(max, NOW), metadata={})
            written = time.perf_counter() - started
            size = sum(file.size for file in store.files("g0"))
            labels = frame.select("user_id", t=pl.lit(NOW).cast(pl.Datetime("us", "UTC")))
            proxy.requests.clear()
            started = time.perf_counter()
            catalog = Catalog.of([of])
            point_in_time_join(store, catalog, labels, "t", catalog.select(["g0_f1"]), SweepEngine())
            seconds = time.perf_counter() - started
            where = "s3" if root != folder else "folder"
            print(
                f"{where}: {size / entities / DAYS:,.0f} bytes per row of {features} random floats; {DAYS} partitions "
                f"written in {written:.1f} s; a point-in-time read of one feature in {seconds:.2f} s, "
                f"{len(proxy.requests)} requests"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=4000)
    parser.add_argument("--features", type=int, default=10)
    given = parser.parse_args()
    layouts: tuple[Layout, ...] = ("feature", "row")
    for layout in layouts:
        redis_figures(layout, given.entities, given.features)
    parquet_figures(given.entities, given.features)


if __name__ == "__main__":
    main()
