"""A store with nine days of the customers' spending, and labels for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from feature_store.store import FeatureStore
from tests.orders import START, Orders, some_orders, spending

SPAN = ("2024-03-01", "2024-03-09")
CUSTOMERS = [f"c{number}" for number in range(5)]

Labels = Callable[[], pl.LazyFrame]


def label_frame(rows: Sequence[tuple[str, datetime]], **columns: object) -> pl.DataFrame:
    """Labels of customers at times, with more columns if given."""
    schema = {"customer": pl.String, "event_timestamp": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(**columns)


def every_morning(days: int = 8) -> pl.DataFrame:
    """Labels of all customers and of one that is unknown, each morning at six, from the second day on."""
    times = [START + timedelta(days=day, hours=6) for day in range(1, days + 1)]
    rows = [(customer, time) for time in times for customer in [*CUSTOMERS, "nobody"]]
    return label_frame(rows).with_columns(bought=pl.int_range(pl.len()) % 3 == 0)


def arriving(frame: pl.DataFrame, place: Path) -> Labels:
    """Labels that lie in a file, where more come in: their function stays the same, whatever it finds there."""
    frame.write_parquet(place)

    def labels() -> pl.LazyFrame:
        return pl.read_parquet(place).lazy()

    return labels


def purchases(frame: pl.DataFrame | Labels, **arguments: object) -> TrainingSet:
    """A training set over given labels, or those that a function gives."""
    features = arguments.pop("features", ["spending"])

    def labels() -> pl.LazyFrame:
        return frame.lazy()

    labels = labels if isinstance(frame, pl.DataFrame) else frame
    return TrainingSet("purchases", labels, features, "team@example.com", **arguments)


@pytest.fixture
def source() -> Orders:
    return Orders(some_orders())


@pytest.fixture
def group(source: Orders) -> FeatureGroup:
    return spending(source)


@pytest.fixture
def shop(store: FeatureStore, group: FeatureGroup) -> FeatureStore:
    """A store in which the group is applied and materialized; its clock stands at March 10th, midnight."""
    store.apply([group])
    store.materialize(group, *SPAN)
    return store
