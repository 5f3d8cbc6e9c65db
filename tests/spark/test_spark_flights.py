"""A year of real flights, a month of it in the gate: Spark and one machine write and answer the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_assets.flights import FEATURE_GROUPS, FIRST_DAY, LAST_DAY, land
from feature_assets.flights.training_sets import flight_delay, flight_delay_labels
from feature_store.clock import FixedClock
from feature_store.definitions.group import FeatureGroup
from feature_store.offline.footers import file_metadata
from feature_store.sources import ParquetSource
from feature_store.store import FeatureStore
from tests.spark.contents import online_contents

MONTH = date(2013, 1, 31)

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(1800)]


@pytest.fixture
def groups(tmp_path: Path, last: date) -> list[FeatureGroup]:
    """The example's groups, over events in a folder of their own."""
    folder = tmp_path / "landing"
    sources: dict[str, ParquetSource] = {}
    for group in FEATURE_GROUPS:
        assert isinstance(group.source, ParquetSource)
        name = group.source.name
        if name not in sources:
            land(name, FIRST_DAY, last, folder=folder / name)
            sources[name] = replace(group.source, root=folder / name)
    return [replace(group, source=sources[group.source.name]) for group in FEATURE_GROUPS]


@pytest.fixture
def stores(tmp_path: Path, redis_url: str, last: date) -> Iterator[dict[str, FeatureStore]]:
    midnight = datetime.combine(last + timedelta(days=2), time(), UTC)
    opened = {
        engine: FeatureStore(
            offline=tmp_path / engine,
            online=redis_url,
            registry=f"sqlite:///{tmp_path / engine}.db",
            clock=FixedClock(midnight),
            engine=engine,
        )
        for engine in ("sweep", "spark")
    }
    yield opened
    for store in opened.values():
        store.close()


@pytest.mark.parametrize(
    ("last", "label_count"),
    [pytest.param(MONTH, 25_000, id="month"), pytest.param(LAST_DAY, 327_346, id="year", marks=pytest.mark.long)],
)
def test_flights_are_the_same_on_spark(spark, stores, groups, redis_server, last, label_count):
    days = (last - FIRST_DAY).days + 1
    online = []
    for store in stores.values():
        redis_server.client().flushall()
        for group in groups:
            store.apply([group])
            assert len(store.materialize(group, FIRST_DAY, last).partitions) == days
        online.append(online_contents(redis_server))

    for group in groups:
        one, other = (store.offline.files(group.name) for store in stores.values())
        assert len(one) == days
        assert [(file.date, file.name) for file in one] == [(file.date, file.name) for file in other]
        for left, right in zip(one, other, strict=True):
            rows = [pl.read_parquet(file.path).drop("ingested_at") for file in (left, right)]
            assert_frame_equal(*rows, check_exact=True)
            assert file_metadata(left.path)["content"] == file_metadata(right.path)["content"]

    assert len(online[0]) > 3_000
    assert online[0].keys() == online[1].keys()
    assert [key for key, value in online[0].items() if online[1][key] != value] == []

    arrivals = groups[0].source
    assert isinstance(arrivals, ParquetSource)
    labels = flight_delay_labels(arrivals).collect()
    answers = [store.training_set(labels, flight_delay.features, as_of="as_of") for store in stores.values()]
    assert answers[0].height == labels.height >= label_count
    features = answers[0].drop(labels.columns)
    assert features.null_count().sum_horizontal().item() < features.height * features.width / 4
    assert_frame_equal(*answers, check_exact=True)
