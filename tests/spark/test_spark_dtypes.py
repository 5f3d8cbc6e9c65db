"""Every dtype on Spark: what it materializes and joins is what one machine does, defaults included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.store import FeatureStore
from tests.servers.redis import RedisServer
from tests.spark.every_dtype import EVENT, everything

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]


def test_spark_gives_what_one_machine_gives(tmp_path: Path, redis_server: RedisServer):
    labels = pl.DataFrame(
        {"user": ["a", "b", "c", "nobody", "a"], "at": [EVENT + timedelta(days=1)] * 4 + [EVENT + timedelta(days=9)]},
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    labels.write_parquet(tmp_path / "labels.parquet")
    names = [spec.ref.column for spec in everything.features]
    joined = {}
    for engine in ("sweep", "spark"):
        redis_server.client().flushall()
        with FeatureStore(
            offline=tmp_path / engine,
            online=redis_server.url,
            registry=f"sqlite:///{tmp_path / engine}.db",
            clock=FixedClock(datetime(2024, 3, 20, tzinfo=UTC)),
            engine=engine,
        ) as store:
            store.apply([everything])
            store.materialize(everything, "2024-03-08", "2024-03-09")
            joined[engine] = store.training_set(labels, names, as_of="at")
            store.join_files(tmp_path / "labels.parquet", names, tmp_path / f"{engine}-out", as_of="at")
            files = sorted((tmp_path / f"{engine}-out").glob("*.parquet"))
            joined[f"{engine} files"] = pl.concat([pl.read_parquet(file) for file in files])
    for frame in joined.values():
        assert_frame_equal(frame, joined["sweep"])
    assert joined["sweep"]["paid"].to_list() == [Decimal(text) for text in ("12.30", "-0.01", "0.00", "0.00", "0.00")]
    assert joined["sweep"]["rates"].to_list()[0] == [float("-inf")]
