"""Windows on Spark: what it materializes, joins and serves is what one machine does, to the bit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.clock import FixedClock
from feature_store.store import FeatureStore
from tests.orders import START, Orders, habits, some_orders
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]


def test_windows_are_those_of_one_machine(tmp_path: Path, redis_server: RedisServer):
    events = some_orders(customers=7)
    # Orders of one instant, and one at midnight.
    events = pl.concat([events, events.head(5).with_columns(amount=pl.col("amount") + 1)])
    group = habits(Orders(events))
    instants = [START + timedelta(hours=7 * number, microseconds=number % 3 - 1) for number in range(40)]
    labels = pl.DataFrame(
        {"customer": [f"c{number % 8}" for number in range(40)], "at": instants},
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).filter(pl.col("at") < datetime(2024, 3, 10, tzinfo=UTC))
    labels.write_parquet(tmp_path / "labels.parquet")
    names = [spec.ref.column for spec in group.features]
    joined = {}
    online = {}
    for engine in ("sweep", "spark"):
        redis_server.client().flushall()
        with FeatureStore(
            offline=tmp_path / engine,
            online=redis_server.url,
            registry=f"sqlite:///{tmp_path / engine}.db",
            clock=FixedClock(datetime(2024, 3, 10, tzinfo=UTC)),
            engine=engine,
        ) as store:
            store.apply([group])
            store.materialize(group, "2024-03-01", "2024-03-09")
            joined[engine] = store.training_set(labels, names, as_of="at")
            store.join_files(tmp_path / "labels.parquet", names, tmp_path / f"{engine}-out", as_of="at")
            files = sorted((tmp_path / f"{engine}-out").glob("*.parquet"))
            joined[f"{engine} files"] = pl.concat([pl.read_parquet(file) for file in files])
            online[engine] = store.get_online_features_batch([f"c{number}" for number in range(8)], names)
            assert store.check_consistency(group.name).passed
    for frame in joined.values():
        assert_frame_equal(frame, joined["sweep"])
    assert online["spark"] == online["sweep"]
    assert joined["sweep"]["orders_12h"].max() > 1
