"""Two weeks of real flights, the change to summer time in it: Spark and one machine write and answer the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_assets.flights import FEATURE_GROUPS, REPLAY_END, land
from feature_assets.flights.training_sets import flight_delay, flight_delay_labels
from feature_store.clock import FixedClock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import ParquetSource
from feature_store.offline.footers import file_metadata
from feature_store.store import FeatureStore

FIRST, LAST = date(2013, 3, 4), date(2013, 3, 17)
LANDED_FROM = date(2013, 1, 1)  # the registry of aircraft lands on this day alone

pytestmark = [pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[FeatureGroup]:
    """The example's groups, over events in a folder of their own."""
    folder = tmp_path_factory.mktemp("landing")
    sources: dict[str, ParquetSource] = {}
    for group in FEATURE_GROUPS:
        assert isinstance(group.source, ParquetSource)
        name = group.source.name
        if name not in sources:
            land(name, LANDED_FROM, LAST, folder=folder / name)
            sources[name] = replace(group.source, root=folder / name)
    return [replace(group, source=sources[group.source.name]) for group in FEATURE_GROUPS]


@pytest.fixture
def stores(tmp_path: Path, redis_url: str) -> Iterator[dict[str, FeatureStore]]:
    opened = {
        engine: FeatureStore(
            offline=tmp_path / engine,
            online=redis_url,
            registry=f"sqlite:///{tmp_path / engine}.db",
            clock=FixedClock(REPLAY_END),
            engine=engine,
        )
        for engine in ("sweep", "spark")
    }
    yield opened
    for store in opened.values():
        store.close()


def test_two_weeks_are_the_same_on_spark(spark, stores, groups):
    for group in groups:
        files = {}
        for engine, store in stores.items():
            store.apply([group])
            passes = list(store.materialize(group, group.partitioning.span(FIRST.isoformat(), LAST.isoformat())))
            assert sum(len(done.partitions) for done in passes) == 14
            files[engine] = store.offline.files(group.name)
        assert any(file.size > 5_000 for file in files["spark"]) or group.name == "plane_profile"
        for one, other in zip(files["sweep"], files["spark"], strict=True):
            assert one.date == other.date
            assert_frame_equal(pl.read_parquet(one.path), pl.read_parquet(other.path), check_exact=True)
            assert file_metadata(one.path)["content"] == file_metadata(other.path)["content"]

    arrivals = groups[0].source
    assert isinstance(arrivals, ParquetSource)
    labels = flight_delay_labels(arrivals).filter(pl.col("as_of").dt.date().is_between(FIRST, LAST)).collect()
    answers = [store.training_set(labels, flight_delay.features, as_of="as_of") for store in stores.values()]
    assert answers[0].height == labels.height > 10_000
    features = answers[0].drop(labels.columns)
    # Most are there: only the aircraft, which have landed before, have no partition.
    assert features.null_count().sum_horizontal().item() < features.height * features.width / 2
    assert_frame_equal(*answers, check_exact=True)
